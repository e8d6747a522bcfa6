package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// verdictFailed is the verdict of a drill that found a difference or damage.
const verdictFailed = "failed"

// maxAssertionFile bounds a file of assertions, in bytes.
const maxAssertionFile = 1 << 20

func (a *app) snapshotVerifyCmd() *cobra.Command {
	req := &tuskvaultv1.VerifySnapshotRequest{}
	var given, files []string
	var limit time.Duration
	var wait bool
	c := &cobra.Command{
		Use:   "verify SNAPSHOT | latest:INSTANCE",
		Short: "Prove a snapshot: restore it into a throw-away PostgreSQL and compare",
		Long: `Prove a snapshot by a drill: an agent restores it into a throw-away PostgreSQL
with no network, reads every table back and compares its fingerprint, runs
pg_amcheck and the assertions given, and signs a report.

The drill is held on the snapshot's own host, on a member of its domain, or on
an agent with the role drill (tuskctl agent drills), whichever has the server
programs, the extensions and the disk.

An assertion is one query that gives one boolean, which must be true. It runs
in a read-only transaction as a role that may read everything. A file of
assertions is a YAML list of: database, sql, and optionally name and expect
(the value as text, instead of a boolean).

Exit codes with --wait: 0 passed; 7 a difference, damage, or an assertion that
does not hold; 6 the drill could not be held, or not to its end.`,
		Example: `  tuskctl snapshot verify latest:db1/main --wait
  tuskctl snapshot verify 1f3a --assert "shop: SELECT max(placed) > now() - interval '2 days' FROM orders" --wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			req.Snapshot, req.RequestId = args[0], repo.NewID().String()
			if limit != 0 {
				req.Timeout = durationpb.New(limit)
			}
			var err error
			if req.Assertions, err = a.assertions(given, files); err != nil {
				return err
			}
			return a.verify(c, req, wait)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&req.Databases, "database", "d", nil, "only this database; may be repeated")
	f.Int32VarP(&req.Jobs, "jobs", "j", 0, "parallel streams, 0 lets the agent choose")
	f.StringArrayVar(&given, "assert", nil, "`DATABASE: QUERY` that must give true; may be repeated")
	f.StringArrayVar(&files, "assert-file", nil, "YAML `FILE` of assertions, - for standard input; may be repeated")
	f.StringVar(&req.Agent, "on", "", "`AGENT` to hold it, of those that may")
	f.DurationVar(&limit, "time-limit", 0, "longest time for the whole drill (default: the agent's, a day)")
	f.BoolVar(&req.KeepGoing, "keep-going", false, "go on with the other databases after one that did not pass")
	f.BoolVar(&wait, "wait", false, "wait for the job and end with its exit code")
	_ = c.RegisterFlagCompletionFunc("on", a.completeAgents)
	return c
}

func (a *app) verify(c *cobra.Command, req *tuskvaultv1.VerifySnapshotRequest, wait bool) error {
	var job *tuskvaultv1.Job
	err := a.call(c, func(ctx context.Context, cl *client) error {
		r, err := cl.snapshot.VerifySnapshot(ctx, req)
		job = r.GetJob()
		a.warn(r.GetWarnings())
		return hintNotFound(err, `run "tuskctl snapshot ls" and "tuskctl agent ls"`,
			`what an agent can hold: run "tuskctl agent show AGENT"; to let one hold drills of others: run "tuskctl agent drills AGENT --on"`)
	})
	if err != nil {
		return err
	}
	if !wait {
		return a.printStarted([]*tuskvaultv1.Job{job})
	}
	return a.waitAll(c.Context(), []*tuskvaultv1.Job{job})
}

// assertions reads those of the command line and those of files.
func (a *app) assertions(given, files []string) ([]*tuskvaultv1.Assertion, error) {
	var out []*tuskvaultv1.Assertion
	for _, g := range given {
		database, sql, ok := strings.Cut(g, ":")
		database, sql = strings.TrimSpace(database), strings.TrimSpace(sql)
		if !ok || database == "" || sql == "" {
			return nil, exit.WrongUsage(fmt.Errorf("--assert %q: not of the form DATABASE: QUERY", g))
		}
		out = append(out, &tuskvaultv1.Assertion{Database: database, Sql: sql})
	}
	for _, name := range files {
		more, err := a.assertionFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func (a *app) assertionFile(name string) (out []*tuskvaultv1.Assertion, err error) {
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, exit.WrongUsage(fmt.Errorf("read assertions: %w", err))
		}
		defer func() { _ = f.Close() }() // was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxAssertionFile+1))
	if err != nil {
		return nil, fmt.Errorf("read assertions of %s: %w", name, err)
	}
	if len(b) > maxAssertionFile {
		return nil, exit.WrongUsage(fmt.Errorf("read assertions of %s: more than %d bytes", name, maxAssertionFile))
	}
	var list []struct {
		Database string `yaml:"database"`
		Name     string `yaml:"name"`
		SQL      string `yaml:"sql"`
		Expect   string `yaml:"expect"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, exit.WrongUsage(fmt.Errorf("read assertions of %s: %w", name, err))
	}
	if len(list) == 0 {
		return nil, exit.WrongUsage(fmt.Errorf("read assertions of %s: there is none in it", name))
	}
	for _, x := range list {
		out = append(out, &tuskvaultv1.Assertion{Database: x.Database, Name: x.Name, Sql: x.SQL, Expect: x.Expect})
	}
	return out, nil
}

func (a *app) snapshotReportsCmd() *cobra.Command {
	var last bool
	c := &cobra.Command{Use: "reports SNAPSHOT", Short: "Show the reports of a snapshot's drills, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				fetch := func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListDrillReportsResponse, error) {
					return cl.snapshot.ListDrillReports(ctx, &tuskvaultv1.ListDrillReportsRequest{Snapshot: args[0], Page: p})
				}
				var r *tuskvaultv1.ListDrillReportsResponse
				var err error
				if last {
					r, err = fetch(ctx, &tuskvaultv1.PageRequest{Size: 1})
				} else {
					r, err = all(ctx, a, func(r *tuskvaultv1.ListDrillReportsResponse) int { return len(r.GetReports()) }, fetch)
				}
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls"`)
				}
				var b strings.Builder
				var names []string
				for _, d := range r.GetReports() {
					b.WriteString(a.drillText(d, true) + "\n")
					names = append(names, d.GetJobId())
				}
				if len(names) == 0 {
					a.say("no drill has reported yet\nhint: run \"tuskctl snapshot verify %s --wait\"", args[0])
				}
				return a.printer().Print(print.View{Message: r, Names: names, Text: b.String()})
			})
		}}
	c.Flags().BoolVar(&last, "last", false, "only the newest")
	return c
}

// drillText says what a drill found; whole adds the tables and the phases.
func (a *app) drillText(r *tuskvaultv1.DrillReport, whole bool) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	verdict := strings.ToUpper(r.GetVerdict())
	if r.GetWithoutAmcheck() && r.GetVerdict() == "passed" {
		verdict += " without pg_amcheck"
	}
	if r.GetReason() != "" {
		verdict += ": " + r.GetReason()
	}
	line("drill", "%s", verdict)
	if r.GetEndTime() == nil {
		return b.String()
	}
	network := "no network"
	if !r.GetNetworkIsolated() {
		network = "the host's network, listening nowhere"
	}
	line("held", "by agent %s on %s (%s), PostgreSQL %s, %s; job %s", r.GetAgent(), r.GetHost(), r.GetOperatingSystem(), print.Version(r.GetServerVersionNum()), network, print.Short(r.GetJobId()))
	line("took", "%s, ended %s (%s ago); %s fetched, %s on disk", print.Span(r.GetEndTime().AsTime().Sub(r.GetStartTime().AsTime())), print.Time(r.GetEndTime()),
		print.Ago(r.GetEndTime(), a.now()), print.Size(r.GetTransferredBytes()), print.Size(r.GetDiskBytes()))
	if whole {
		line("phases", "%s", phasesText(r.GetPhases()))
	}
	for _, d := range r.GetDatabases() {
		drillDatabaseText(&b, d, whole)
	}
	return b.String()
}

func drillDatabaseText(b *strings.Builder, d *tuskvaultv1.DrillDatabase, whole bool) {
	line := func(head, format string, args ...any) {
		fmt.Fprintf(b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	state := d.GetVerdict()
	if d.GetReason() != "" {
		state += ": " + d.GetReason()
	}
	line("database", "%s: %s", d.GetName(), state)
	tables := fmt.Sprintf("%s tables equal", print.Count(d.GetTablesEqual()))
	for _, more := range []struct {
		n    int64
		text string
	}{{d.GetTablesDiffering(), "differ"}, {d.GetTablesNotCompared(), "not compared"}, {d.GetTablesOmitted(), "without rows in the snapshot"}} {
		if more.n > 0 {
			tables += fmt.Sprintf(", %s %s", print.Count(more.n), more.text)
		}
	}
	line("", "  %s; %s rows, %s, %s on disk; pg_amcheck: %s", tables, print.Count(d.GetRows()), print.Size(d.GetPlainBytes()), print.Size(d.GetDiskBytes()), d.GetAmcheck())
	for _, t := range d.GetTables() {
		if whole && t.GetResult() != "equal" {
			line("", "  table %s: %s %s", t.GetName(), t.GetResult(), t.GetReason())
		}
	}
	if d.GetAmcheck() != "clean" {
		for _, l := range d.GetAmcheckOutput() {
			line("", "  pg_amcheck: %s", l)
		}
	}
	for _, x := range d.GetAssertions() {
		line("", "  assertion %q: %s %s", x.GetName(), x.GetResult(), x.GetDetail())
	}
	if !whole {
		return
	}
	if len(d.GetWork()) > 0 {
		line("", "  restore: %s (data, compare and indexes: sessions added up)", phasesText(d.GetWork()))
	}
	line("", "  locale %s", d.GetLocale())
	for _, x := range d.GetExtensions() {
		line("", "  extension %s", x)
	}
	for _, w := range d.GetWarnings() {
		line("", "  warning: %s", w)
	}
}

func phasesText(all []*tuskvaultv1.DrillPhase) string {
	var parts []string
	for _, p := range all {
		name := p.GetName()
		if p.GetDatabase() != "" {
			name += " " + p.GetDatabase()
		}
		parts = append(parts, fmt.Sprintf("%s %s", name, p.GetDuration().AsDuration().Round(10*time.Millisecond)))
	}
	return strings.Join(parts, ", ")
}

func (a *app) agentDrillsCmd() *cobra.Command {
	var on, off bool
	c := &cobra.Command{Use: "drills AGENT --on | --off", Short: "Let an agent hold drills of snapshots of any domain, or no longer",
		Long: `Give an agent the role drill, or take it away. With it, the controller may hand
the agent the keys of any domain for a drill, and what is restored runs there
with the rights of the user of the throw-away server (drill.user in the agent's
configuration). Agents hold drills of their own snapshots and of their cluster's
without it.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeAgents,
		RunE: func(c *cobra.Command, args []string) error {
			if on == off {
				return exit.WrongUsage(fmt.Errorf("agent drills: say either --on or --off"))
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.SetAgentDrills(ctx, &tuskvaultv1.SetAgentDrillsRequest{Agent: args[0], Drills: on})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetAgent().GetName()}, Text: r.GetAgent().GetName() + " " + drillRole(r.GetAgent()) + "\n"})
			})
		}}
	c.Flags().BoolVar(&on, "on", false, "it may")
	c.Flags().BoolVar(&off, "off", false, "it may not")
	return c
}

// drillRole says of which snapshots an agent may hold drills.
func drillRole(g *tuskvaultv1.Agent) string {
	if g.GetDrills() {
		return "may hold drills of any snapshot"
	}
	return "may hold drills of its own snapshots and its cluster's"
}

// placementText says where a drill is held, and why not elsewhere.
func placementText(j *tuskvaultv1.Job) string {
	var b strings.Builder
	for _, p := range j.GetDrill().GetPlacement() {
		fmt.Fprintf(&b, "%-12s %s\n", "placement", p)
	}
	return b.String()
}
