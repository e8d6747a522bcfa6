package ctl

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/export"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// exportFlags are the flags of an export, wherever the snapshot comes from.
type exportFlags struct {
	export.Options
	format string
}

// standardJobs is how many tables are written at once unless --jobs says otherwise.
const standardJobs = 4

// register adds the flags. --output is the place of the files here; what is
// printed about them is chosen by -o as everywhere.
func (f *exportFlags) register(a *app, c *cobra.Command) {
	s := c.Flags()
	s.StringVarP(&f.Database, "database", "d", "", "database to export")
	s.BoolVar(&f.Globals, "globals", false, "export roles, their settings and tablespaces, as SQL")
	s.BoolVar(&f.All, "all", false, "export the whole instance, as a folder with the commands that load it")
	s.StringVar(&f.format, "format", string(export.Directory), "directory (for pg_restore) or plain (SQL for psql)")
	s.StringVar(&f.Output, "output", "", `file or folder to make; "-" for standard output`)
	s.BoolVar(&f.Compress, "compress", false, "compress SQL by gzip; also when --output ends with .gz")
	s.BoolVar(&f.Passwords, "with-passwords", false, "write the hashes of roles' passwords")
	s.BoolVar(&f.NoRestrict, "no-restrict", false, `leave \restrict out of SQL, for psql before 13.22, 14.19, 15.14, 16.10 and 17.6`)
	s.BoolVar(&f.KeepGoing, "keep-going", false, "write what can be written although something is damaged; the exit code is 7 all the same")
	s.IntVar(&f.Jobs, "jobs", standardJobs, "tables written at once in the directory format")
	s.StringVarP(&a.output, "print", "o", string(print.FormatTable), "what to print about it: table, wide, json, yaml or name")
	_ = c.MarkFlagRequired("output") // it was just added
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{string(export.Directory), string(export.Plain)}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("print", cobra.FixedCompletions(print.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// check tells what is wrong with the flags before anything is asked for.
func (f *exportFlags) check(a *app) error {
	chosen := 0
	for _, on := range []bool{f.Database != "", f.Globals, f.All} {
		if on {
			chosen++
		}
	}
	f.Format = export.Format(f.format)
	switch {
	case chosen != 1:
		return exit.WrongUsage(errors.New("name one of --database, --globals and --all"))
	case f.Globals:
		f.Format = export.Plain
	case f.Passwords && !f.All:
		return exit.WrongUsage(errors.New("--with-passwords goes with --globals or --all"))
	}
	if f.Format != export.Directory && f.Format != export.Plain {
		return exit.WrongUsage(fmt.Errorf("--format %q: want %s or %s", f.format, export.Directory, export.Plain))
	}
	f.Stdout = a.Out
	return nil
}

func (a *app) snapshotExportCmd() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{Use: "export SNAPSHOT {--database D | --globals | --all} --output PATH", Short: "Write a snapshot as files for stock pg_restore and psql",
		Long: `Write a database of a snapshot as a folder for pg_restore (--format directory),
or as SQL for psql (--format plain), roles and tablespaces as SQL (--globals), or
the whole instance as a folder of all that (--all).

The files appear under their name only when they are whole and every table has
the rows and the fingerprint of the snapshot.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(a); err != nil {
				return err
			}
			cl, err := a.dial()
			if err != nil {
				return err
			}
			defer cl.close()
			fresh, cancel := a.bounded(c.Context())
			a.keepFresh(fresh, cl)
			cancel()
			return a.export(c.Context(), &f, func(ctx context.Context) (*repo.Content, error) { return a.openExport(ctx, cl, args[0], &f) })
		}}
	f.register(a, c)
	return c
}

// errInterrupted is an export that somebody stopped.
var errInterrupted = errors.New("interrupted; nothing was left behind")

// export opens a snapshot, which sets the source, and writes it.
func (a *app) export(ctx context.Context, f *exportFlags, open func(context.Context) (*repo.Content, error)) error {
	content, err := open(ctx)
	if err != nil {
		return err
	}
	width, height := drawing(a.Err)
	shown := print.NewProgress(a.Err, width, height, a.now)
	parts := map[string]print.Part{}
	state := print.JobProgress{ID: f.Snapshot, Title: "export", State: "running"}
	f.Progress = func(p export.Progress) {
		parts[p.Database] = print.Part{Name: p.Database, Rows: p.Rows, Bytes: p.Bytes, Total: p.BytesTotal, Tables: p.Tables, TablesTotal: p.TablesTotal}
		state.Parts = state.Parts[:0]
		for _, part := range parts {
			state.Parts = append(state.Parts, part)
		}
		sort.Slice(state.Parts, func(i, j int) bool { return state.Parts[i].Name < state.Parts[j].Name })
		shown.Update(state)
	}
	report, err := export.Run(ctx, content, f.Options)
	state.Ended = true
	state.State = "ended"
	shown.Update(state)
	shown.Close()
	switch {
	case ctx.Err() != nil && err != nil:
		return errInterrupted
	case err != nil && (report == nil || len(report.Problems) == 0 || !f.KeepGoing):
		return hintExport(err)
	}
	if f.Output != "-" {
		if e := a.printer().Print(print.View{Object: report, Names: []string{f.Output}, Text: exportText(report)}); e != nil {
			return e
		}
	}
	return hintExport(err)
}

// hintExport says what to do about an export that failed.
func hintExport(err error) error {
	switch {
	case errors.Is(err, errs.Exists):
		return exit.Hint(err, "name a place that does not exist yet")
	case errors.Is(err, errs.Corrupt):
		return exit.Hint(err, "export the rest with --keep-going, or choose another snapshot: tuskctl snapshot ls")
	}
	return err
}

// exportText words a report.
func exportText(r *export.Report) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("exported", "%s", r.Output)
	for _, d := range r.Databases {
		omitted, incomplete := 0, 0
		for _, t := range d.Tables {
			if t.Omitted != "" {
				omitted++
			}
			if t.Incomplete {
				incomplete++
			}
		}
		line("database", "%s: %d tables, %s rows, %s, %s large objects, %s", d.Name, len(d.Tables)-omitted, print.Count(d.Rows), print.Size(d.Bytes), print.Count(d.LargeObjects), d.Encoding)
		if omitted > 0 {
			line("", "  %d tables without rows in the snapshot; -o json has the reasons", omitted)
		}
		if incomplete > 0 {
			line("", "  %d tables incomplete", incomplete)
		}
		for _, m := range d.Missing {
			line("", "  not in the snapshot: %s", m)
		}
	}
	for _, p := range r.Problems {
		line("problem", "database %s: %s: %s", p.Database, p.Object, strings.ReplaceAll(p.Reason, "\n", "; "))
	}
	return b.String()
}

// openExport opens a snapshot at the controller.
func (a *app) openExport(ctx context.Context, cl *client, snapshot string, f *exportFlags) (*repo.Content, error) {
	begin := &tuskvaultv1.ExportBegin{Snapshot: snapshot, AllDatabases: f.All, Globals: f.Globals || f.All, Passwords: f.Passwords}
	if f.Database != "" {
		begin.Databases = []string{f.Database}
	}
	source := newExportSource(tuskvaultv1.NewExportServiceClient(cl.conn), begin, a.now)
	id, content, err := source.begin(ctx, a.timeout)
	if err != nil {
		return nil, hintNotFound(err, `run "tuskctl snapshot ls" and "tuskctl snapshot show SNAPSHOT"`)
	}
	f.Snapshot, f.Source = id, source
	return content, nil
}
