package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/pg"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Aliases: []string{"snapshots"}, Short: "What backups have made"}
	c.AddCommand(a.snapshotListCmd(), a.snapshotShowCmd(), a.snapshotTablesCmd(), a.snapshotVerifyCmd(), a.snapshotReportsCmd(), a.snapshotExportCmd(),
		a.snapshotDiffCmd(), a.snapshotForgetCmd(), a.snapshotUnforgetCmd(), a.snapshotHoldCmd(), a.snapshotReleaseCmd())
	return c
}

func (a *app) snapshotListCmd() *cobra.Command {
	var selector string
	var limit int
	c := &cobra.Command{Use: "ls [INSTANCE]", Short: "List snapshots, newest first", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeInstances,
		RunE: func(c *cobra.Command, args []string) error {
			instance := strings.Join(args, "")
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := upTo(ctx, a, limit, func(r *tuskvaultv1.ListSnapshotsResponse) int { return len(r.GetSnapshots()) },
					func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListSnapshotsResponse, error) {
						return cl.snapshot.ListSnapshots(ctx, &tuskvaultv1.ListSnapshotsRequest{Page: p, Instance: instance, Selector: selector})
					})
				if err != nil {
					return hintNotFound(err, `run "tuskctl instance ls"`)
				}
				t := &print.Table{Columns: []print.Column{{Head: "ID"}, {Head: "INSTANCE", Flex: true}, {Head: "AGE"}, {Head: "STATE"}, {Head: "DATABASES", Right: true}, {Head: "ROWS", Right: true},
					{Head: "SIZE", Right: true}, {Head: "STORED", Right: true}, {Head: "VERIFIED", Right: true}, {Head: "TIME", Wide: true}, {Head: "KIND", Wide: true}, {Head: "POSTGRESQL", Wide: true}, {Head: "FULL ID", Wide: true}}}
				var names []string
				for _, s := range r.GetSnapshots() {
					t.Row(print.Short(s.GetId()), s.GetInstance(), print.Ago(s.GetCommitTime(), a.now()), a.stateText(s), fmt.Sprint(s.GetDatabases()), print.Count(s.GetRows()),
						print.Size(s.GetPlainBytes()), print.Size(s.GetStoredBytes()), a.verifiedText(s), print.Time(s.GetCommitTime()), s.GetKind(), print.Version(s.GetServerVersionNum()), s.GetId())
					names = append(names, s.GetId())
				}
				return a.printer().Print(print.View{Message: r, Names: names, Table: t})
			})
		}}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label selector over the agents' labels")
	c.Flags().IntVar(&limit, "limit", 10_000, "largest number of rows")
	return c
}

// verifiedText is the age of the newest drill that proved the snapshot, else how
// the newest drill ended.
func (a *app) verifiedText(s *tuskvaultv1.Snapshot) string {
	switch {
	case s.GetLastDrillVerdict() == verdictFailed:
		return strings.ToUpper(verdictFailed)
	case s.GetVerifyTime() != nil:
		return print.Ago(s.GetVerifyTime(), a.now())
	case s.GetLastDrillVerdict() == "passed":
		return "partly" // not all databases were asked for
	case s.GetLastDrillVerdict() != "":
		return s.GetLastDrillVerdict()
	}
	return "never"
}

func orNone(reason string) string {
	if reason == "" {
		return "no reason was given"
	}
	return reason
}

func completeness(complete bool) string {
	if complete {
		return "complete"
	}
	return "incomplete"
}

func (a *app) snapshotShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show SNAPSHOT", Short: "Show a snapshot and its databases", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.snapshot.GetSnapshot(ctx, &tuskvaultv1.GetSnapshotRequest{Snapshot: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetSnapshot().GetId()}, Text: a.snapshotText(r)})
			})
		}}
}

func (a *app) snapshotText(r *tuskvaultv1.GetSnapshotResponse) string {
	var b strings.Builder
	s := r.GetSnapshot()
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("snapshot", "%s (%s, %s)", s.GetId(), s.GetKind(), completeness(s.GetComplete()))
	incarnation, stored := fmt.Sprintf(", incarnation %d", s.GetIncarnation()), "; stored for it: "+print.Size(s.GetStoredBytes())
	if s.GetIncarnation() == 0 { // read from a store, which does not tell either
		incarnation, stored = "", ""
	}
	line("instance", "%s%s, PostgreSQL %s, system identifier %d", s.GetInstance(), incarnation, print.Version(s.GetServerVersionNum()), s.GetSystemIdentifier())
	line("taken", "%s to %s (%s ago)", print.Time(s.GetStartTime()), print.Time(s.GetCommitTime()), print.Ago(s.GetCommitTime(), a.now()))
	line("size", "%s rows, %s%s", print.Count(s.GetRows()), print.Size(s.GetPlainBytes()), stored)
	line("globals", "%d roles; schema by %s", r.GetRoles(), r.GetDumpTool())
	if f := s.GetForgotten(); f != nil {
		after := f.GetPurgeAfterTime().AsTime().Sub(a.now())
		when := "as soon as nothing keeps it"
		if after > 0 {
			when = "after " + print.Time(f.GetPurgeAfterTime())
		}
		line("forgotten", "%s by %s: %s; it is purged %s", print.Time(f.GetTime()), f.GetBy(), orNone(f.GetReason()), when)
	}
	if h := s.GetHold(); h != nil {
		line("held", "until %s by %s: %s", print.Time(h.GetUntilTime()), h.GetBy(), h.GetReason())
	}
	for _, p := range r.GetProblems() {
		line("problem", "%s", problemText(p))
	}
	for _, d := range r.GetDatabases() {
		line("database", "%s: %s, %s tables, %s rows, %s, %s large objects, %s, at %s", d.GetName(), d.GetState(), print.Count(d.GetTables()), print.Count(d.GetRows()),
			print.Size(d.GetPlainBytes()), print.Count(d.GetLargeObjects()), d.GetEncoding(), pg.LSN(d.GetLsn()))
		for _, p := range d.GetProblems() {
			line("", "  %s", problemText(p))
		}
	}
	for _, d := range r.GetDrills() {
		b.WriteString(a.drillText(d, false))
	}
	return b.String()
}

func severity(s tuskvaultv1.Severity) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SEVERITY_"))
}

func problemText(p *tuskvaultv1.Problem) string {
	var parts []string
	for _, s := range []string{p.GetDatabase(), p.GetObject(), p.GetReason()} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	s := severity(p.GetSeverity()) + ": " + strings.Join(parts, ": ")
	if p.GetHint() != "" {
		s += " (hint: " + p.GetHint() + ")"
	}
	return s
}

func (a *app) snapshotTablesCmd() *cobra.Command {
	var database string
	c := &cobra.Command{Use: "tables SNAPSHOT", Short: "List the tables of a snapshot with rows and fingerprints", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := all(ctx, a, func(r *tuskvaultv1.ListSnapshotTablesResponse) int { return len(r.GetTables()) },
					func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListSnapshotTablesResponse, error) {
						return cl.snapshot.ListSnapshotTables(ctx, &tuskvaultv1.ListSnapshotTablesRequest{Snapshot: args[0], Database: database, Page: p})
					})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls" and "tuskctl snapshot show SNAPSHOT"`)
				}
				t := &print.Table{Columns: []print.Column{{Head: "DATABASE"}, {Head: "SCHEMA"}, {Head: "TABLE", Flex: true}, {Head: "ROWS", Right: true}, {Head: "SIZE", Right: true}, {Head: "OMITTED", Flex: true}, {Head: "FINGERPRINT", Wide: true}}}
				var names []string
				for _, s := range r.GetTables() {
					t.Row(s.GetDatabase(), s.GetSchema(), s.GetName(), print.Count(s.GetRows()), print.Size(s.GetPlainBytes()), s.GetOmitted(), s.GetFingerprint())
					names = append(names, s.GetDatabase()+"."+s.GetSchema()+"."+s.GetName())
				}
				return a.printer().Print(print.View{Message: r, Names: names, Table: t})
			})
		}}
	c.Flags().StringVarP(&database, "database", "d", "", "only this database")
	return c
}
