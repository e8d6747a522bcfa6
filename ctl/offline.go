package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// offlineFlags say where the repository is and what opens it.
type offlineFlags struct {
	store, unlock, dir, at string
}

func (a *app) offlineCmd() *cobra.Command {
	f := new(offlineFlags)
	c := &cobra.Command{Use: "offline", Short: "Read a repository from its store and key, with no controller alive",
		Long: `Read a repository straight from its store. It needs the store and the secret that
opens it, no controller and none of its files, and writes nothing to the store.

The store's index files are copied to a temporary folder (28 bytes a chunk: about
110 MB a terabyte of rows), which is removed at the end.`}
	s := c.PersistentFlags()
	s.StringVar(&f.store, "store", "", "URL of the store: file:///path or s3://BUCKET/PREFIX?endpoint=URL")
	s.StringVar(&f.unlock, "unlock", "", "what opens it: env:NAME or file:PATH, of a key file's text or a passphrase")
	s.StringVar(&f.dir, "temp-dir", "", "where to make the temporary folder (default: the system's)")
	s.StringVar(&f.at, "at", "", "read a bucket with versions as it was at this time, as 2026-11-28T14:00:00Z: what was deleted or overwritten later is there")
	c.AddCommand(a.offlineSnapshotsCmd(f), a.offlineShowCmd(f), a.offlineCheckCmd(f), a.offlineExportCmd(f))
	return c
}

// open opens the repository and runs fn with it.
func (f *offlineFlags) open(ctx context.Context, fn func(*offline.Reader) error) (err error) {
	if f.store == "" || f.unlock == "" {
		return exit.WrongUsage(errors.New("offline: --store and --unlock are needed"))
	}
	p, err := place.Parse(f.store)
	if err != nil {
		return exit.WrongUsage(fmt.Errorf("--store: %w", err))
	}
	unlocker, err := unlockerOf(f.unlock)
	if err != nil {
		return fmt.Errorf("--unlock: %w", err)
	}
	store, err := p.OpenReadOnly(ctx)
	if err != nil {
		return err
	}
	if store, err = f.past(store); err != nil {
		return err
	}
	r, err := offline.Open(ctx, store, f.dir, unlocker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return fn(r)
}

// past gives the store as of --at.
func (f *offlineFlags) past(store blob.Store) (blob.Store, error) {
	if f.at == "" {
		return store, nil
	}
	at, err := time.Parse(time.RFC3339, f.at)
	if err != nil {
		return nil, exit.WrongUsage(fmt.Errorf("--at: %q is no time as 2026-11-28T14:00:00Z: %w", f.at, errs.Invalid))
	}
	past, err := blob.At(store, at)
	if err != nil {
		return nil, fmt.Errorf("--at: %w", err)
	}
	return past, nil
}

func unlockerOf(reference string) (seal.Unlocker, error) {
	secret, err := config.ParseSecret(reference)
	if err != nil {
		return nil, err
	}
	text, err := secret.Value()
	if err != nil {
		return nil, err
	}
	return unlock.Parse(text)
}

// instanceLabel names an instance: agents' names are the controller's alone.
func instanceLabel(s *offline.Snapshot) string {
	return s.Content.Instance.Name + " " + s.Instance.Short()
}

// maxOffline bounds the snapshots that a list holds in memory, without their contents.
const maxOffline = 100_000

func (a *app) offlineSnapshotsCmd(f *offlineFlags) *cobra.Command {
	return &cobra.Command{Use: "snapshots", Short: "List snapshots, newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.open(c.Context(), func(r *offline.Reader) error {
				var all []*offline.Snapshot
				rows := map[repo.JobID]*tuskvaultv1.Snapshot{}
				err := r.List(c.Context(), func(s *offline.Snapshot) error {
					if len(all) == maxOffline {
						return fmt.Errorf("list snapshots: more than %d: %w", maxOffline, errs.Exhausted)
					}
					if s.Err == nil {
						rows[s.ID] = offlineSnapshot(s)
						s.Content = nil
					}
					all = append(all, s)
					return nil
				})
				if err != nil {
					return err
				}
				return a.printOffline(all, rows)
			})
		}}
}

func (a *app) printOffline(all []*offline.Snapshot, rows map[repo.JobID]*tuskvaultv1.Snapshot) error {
	offline.Sort(all)
	t := &print.Table{Columns: []print.Column{{Head: "ID"}, {Head: "INSTANCE", Flex: true}, {Head: "AGE"}, {Head: "STATE"}, {Head: "DATABASES", Right: true}, {Head: "ROWS", Right: true},
		{Head: "SIZE", Right: true}, {Head: "TIME", Wide: true}, {Head: "POSTGRESQL", Wide: true}, {Head: "FULL ID", Wide: true}}}
	out := &tuskvaultv1.ListSnapshotsResponse{Page: &tuskvaultv1.PageResponse{}}
	var names []string
	var damaged []error
	for _, s := range all {
		if s.Err != nil {
			damaged = append(damaged, fmt.Errorf("snapshot %s: %w", s.ID.Short(), s.Err))
			t.Row(s.ID.Short(), s.Instance.Short(), "", "damaged", "", "", "", "", "", s.ID.String())
			continue
		}
		row := rows[s.ID]
		t.Row(s.ID.Short(), row.GetInstance(), print.Ago(row.GetCommitTime(), a.now()), completeness(row.GetComplete()), fmt.Sprint(row.GetDatabases()), print.Count(row.GetRows()),
			print.Size(row.GetPlainBytes()), print.Time(row.GetCommitTime()), print.Version(row.GetServerVersionNum()), row.GetId())
		out.Snapshots = append(out.Snapshots, row)
		names = append(names, row.GetId())
	}
	if err := a.printer().Print(print.View{Message: out, Names: names, Table: t}); err != nil {
		return err
	}
	return errors.Join(damaged...)
}

// offlineSnapshot gives a snapshot in the API's words, as far as the store tells.
func offlineSnapshot(s *offline.Snapshot) *tuskvaultv1.Snapshot {
	c := s.Content
	out := &tuskvaultv1.Snapshot{Id: s.ID.String(), Instance: instanceLabel(s), Kind: string(c.Kind), StartTime: timestamppb.New(c.Started), CommitTime: timestamppb.New(s.Committed),
		Complete: s.Complete, ServerVersionNum: int32(c.Instance.Version), SystemIdentifier: c.Instance.SystemIdentifier}
	for i := range c.Logical.Databases {
		d := offlineDatabase(&c.Logical.Databases[i])
		out.Databases++
		out.Rows += d.GetRows()
		out.PlainBytes += d.GetPlainBytes()
	}
	return out
}

func offlineDatabase(d *repo.Database) *tuskvaultv1.SnapshotDatabase {
	out := &tuskvaultv1.SnapshotDatabase{Name: d.Name.Display(), State: string(d.State), Problems: offlineProblems(d.Problems), Lsn: uint64(d.LSN), Time: timestamppb.New(d.Time), Encoding: d.Encoding}
	for i := range d.Tables {
		t := &d.Tables[i]
		if t.Omitted == "" {
			out.Tables++
		}
		for _, r := range t.Runs {
			out.Rows += r.Rows
			out.PlainBytes += r.Stream.Bytes
		}
	}
	if d.LargeObjects != nil {
		out.LargeObjects = d.LargeObjects.Count
		out.PlainBytes += d.LargeObjects.Data.Bytes
	}
	for _, e := range d.Extensions {
		out.Extensions = append(out.Extensions, e.Name.Display())
	}
	return out
}

func offlineProblems(all []repo.Problem) []*tuskvaultv1.Problem {
	var out []*tuskvaultv1.Problem
	for _, p := range all {
		severity := tuskvaultv1.Severity_SEVERITY_WARNING
		if p.Severity == "error" {
			severity = tuskvaultv1.Severity_SEVERITY_ERROR
		}
		out = append(out, &tuskvaultv1.Problem{Severity: severity, Database: p.Database.Display(), Object: strings.ToValidUTF8(p.Object, "?"),
			Reason: strings.ToValidUTF8(p.Reason, "?"), Hint: strings.ToValidUTF8(p.Hint, "?")})
	}
	return out
}

func (a *app) offlineShowCmd(f *offlineFlags) *cobra.Command {
	return &cobra.Command{Use: "show SNAPSHOT", Short: "Show a snapshot and its databases", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return f.open(c.Context(), func(r *offline.Reader) error {
				s, err := r.Find(c.Context(), args[0])
				if err != nil {
					return hintNotFound(err, `run "tuskctl offline ... snapshots"`)
				}
				out := &tuskvaultv1.GetSnapshotResponse{Snapshot: offlineSnapshot(s), Problems: offlineProblems(s.Content.Problems), Roles: int32(min(len(s.Content.Logical.Globals.Roles), 1<<30))}
				for i := range s.Content.Logical.Databases {
					d := &s.Content.Logical.Databases[i]
					out.Databases = append(out.Databases, offlineDatabase(d))
					if d.Archive != nil {
						out.DumpTool = print.Version(int32(d.Archive.Tool))
					}
				}
				return a.printer().Print(print.View{Message: out, Names: []string{s.ID.String()}, Text: a.snapshotText(out)})
			})
		}}
}

func (a *app) offlineExportCmd(of *offlineFlags) *cobra.Command {
	var f exportFlags
	c := &cobra.Command{Use: "export SNAPSHOT {--database D | --globals | --all} --output PATH", Short: "Write a snapshot as files for stock pg_restore and psql", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(a); err != nil {
				return err
			}
			return of.open(c.Context(), func(r *offline.Reader) error {
				return a.export(c.Context(), &f, func(ctx context.Context) (*repo.Content, error) {
					s, err := r.Find(ctx, args[0])
					if err != nil {
						return nil, hintNotFound(err, `run "tuskctl offline ... snapshots"`)
					}
					f.Snapshot = s.ID.String()
					f.Source, err = r.Source(ctx, s)
					return s.Content, err
				})
			})
		}}
	f.register(a, c)
	return c
}
