package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
)

// record gathers the report while the drill goes on. What is not filled in says
// that it did not happen.
type record struct {
	report.Report
	reporter job.Reporter
	problems []repo.Problem
}

func (g *Ground) newRecord(j job.Job, r job.Reporter) *record {
	h := host.Look(g.o.Base)
	self, repository := g.o.Self(), g.o.Repository()
	return &record{reporter: r, Report: report.Report{Job: j.ID.String(), Attempt: j.Fence.String(), Repository: repository.String(),
		Domain: fmt.Sprintf("%x", j.Grant.Domain[:]), Snapshot: j.Drill.Snapshot.String(), Agent: self.String(), Asked: j.Drill.Databases, Started: time.Now(),
		Host: report.Host{Name: h.Hostname, OperatingSystem: h.OperatingSystem, AgentVersion: g.o.Version}}}
}

// phase notes what a step took; database is empty for a step of the whole.
func (r *record) phase(name, database string, began time.Time) {
	r.Phases = append(r.Phases, report.Phase{Name: name, Database: database, Millis: time.Since(began).Milliseconds()})
}

// expect notes the databases that will be restored, and that nothing is known of
// them yet.
func (r *record) expect(content *repo.Content, d job.Drill) error {
	for _, name := range d.Databases {
		if !slices.ContainsFunc(content.Logical.Databases, func(b repo.Database) bool { return b.Name.Display() == name }) {
			return fmt.Errorf("the snapshot has no database %s: %w", name, errs.NotFound)
		}
	}
	for i := range content.Logical.Databases {
		b := &content.Logical.Databases[i]
		name := b.Name.Display()
		if len(d.Databases) > 0 && !slices.Contains(d.Databases, name) {
			continue
		}
		one := report.Database{Name: name, State: string(b.State), Amcheck: report.AmcheckNotRun}
		for _, t := range b.Tables {
			if t.Omitted == "" {
				one.NotCompared++
			} else {
				one.Omitted++
			}
		}
		for _, p := range b.Problems {
			one.Warnings = append(one.Warnings, "in the snapshot: "+describe(p))
		}
		for _, a := range d.Assertions {
			if a.Database == name {
				one.Assertions = append(one.Assertions, report.Assertion{Name: a.Name, SQL: a.SQL, Result: report.AssertionNotRun})
			}
		}
		r.Databases = append(r.Databases, one)
	}
	return nil
}

// take fills in what the restore of a database said.
func take(out *report.Database, o load.Outcome) {
	for _, d := range o.Databases {
		out.Restored, out.Rows, out.PlainBytes = d.Complete, d.Rows, d.PlainBytes
	}
	for _, c := range o.Compared {
		out.Equal, out.Differing, out.NotCompared, out.Omitted = c.Equal, c.Differing, c.NotCompared, c.Omitted
		for _, t := range c.Tables {
			out.Tables = append(out.Tables, report.Table{Name: t.Schema.Display() + "." + t.Name.Display(), Result: comparison(t.State), Rows: t.Rows, Reason: t.Why})
		}
		for _, w := range []struct {
			name string
			d    time.Duration
		}{{"schema", c.Schema}, {"data", c.Data}, {"compare", c.Compare}, {"indexes and the rest", c.Build}, {"statistics", c.Statistics}} {
			out.Work = append(out.Work, report.Phase{Name: w.name, Millis: w.d.Milliseconds()})
		}
	}
	if o.Err != nil {
		out.Reason, out.Damaged = o.Err.Error(), damaged(o.Err)
	}
	for _, p := range o.Problems {
		if p.Severity != "error" {
			out.Warnings = append(out.Warnings, describe(p))
		}
	}
}

func comparison(s load.TableState) report.Comparison {
	switch s {
	case load.TableEqual:
		return report.Equal
	case load.TableDiffers:
		return report.Differs
	}
	return report.NotCompared
}

func describe(p repo.Problem) string {
	return strings.TrimPrefix(p.Object+": "+p.Reason, ": ")
}

// damaged tells whether a database could not be restored for a reason that lies
// in the snapshot: damage, a difference, or a statement that the server refuses.
// A host that lacks something, or a peer that was away, says nothing of it.
func damaged(err error) bool {
	if errors.Is(err, errs.Corrupt) {
		return true
	}
	code := postgres.Code(err)
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.Busy, errs.Timeout, errs.Exhausted, errs.Canceled, errs.Unsupported, errs.ReadOnly:
		return false
	}
	switch code {
	case "", "42809", "22023", "58P01", "XX000": // the first two: CREATE DATABASE with a locale that this host does not have
		return false
	}
	return !slices.Contains([]string{"08", "28", "53", "57", "58"}, code[:2])
}

// result makes the result of the attempt: the verdict decides, and err says why
// when the drill did not get to the end.
func (g *Ground) result(ctx context.Context, r *record, err error) job.Result {
	r.Ended = time.Now()
	if err != nil {
		r.Reason = err.Error()
	}
	r.Settle()
	out := job.Result{Outcome: job.Succeeded, Problems: r.problems, Started: r.Started, Ended: r.Ended}
	if r.Verdict != report.Passed {
		out.Outcome, out.Err = job.Failed, fmt.Sprintf("the drill %s: %s", map[report.Verdict]string{report.Failed: "failed", report.Incomplete: "is incomplete"}[r.Verdict], r.Reason)
	}
	if err != nil {
		failed := job.FailedResult(ctx, err)
		if failed.Outcome == job.Canceled {
			failed.Started, failed.Ended = r.Started, r.Ended
			return failed // it was stopped, which says nothing of the snapshot
		}
		_, full := errors.AsType[errNoRoom](err)
		out.Outcome, out.Err = job.Failed, cmp.Or(out.Err, r.Reason)
		out.Retryable = failed.Retryable && r.Verdict == report.Incomplete && !full && !errors.Is(err, errOverTime)
		if hint := postgres.Hint(err); hint != "" {
			out.Problems = append(out.Problems, repo.Problem{Severity: "error", Object: "drill", Reason: err.Error(), Hint: hint})
		}
	}
	for i := range r.Databases {
		d := &r.Databases[i]
		out.Databases = append(out.Databases, job.DatabaseResult{Database: d.Name, Complete: d.Verdict == report.Passed, Err: d.Reason,
			Tables: d.Equal + d.Differing + d.NotCompared, Rows: d.Rows, PlainBytes: d.PlainBytes, TablesVerified: d.Equal})
		out.Stats.Rows += d.Rows
		out.Stats.PlainBytes += d.PlainBytes
	}
	out.Stats.TransferredBytes = r.TransferredBytes
	statement, err := r.Encode()
	if err == nil {
		var signed report.Signed
		if signed, err = g.o.Sign(statement); err == nil {
			out.Drill = &signed
			return out
		}
	}
	out.Outcome, out.Err = job.Failed, err.Error()
	return out
}

// relay passes on what the restore of one database reports, beside what is known
// of the others.
type relay struct {
	job.Reporter
	fetched func() int64

	mu   sync.Mutex
	rows []job.DatabaseProgress
	at   int
}

func newRelay(r job.Reporter, databases []report.Database, fetched func() int64) *relay {
	out := &relay{Reporter: r, fetched: fetched}
	for i := range databases {
		out.rows = append(out.rows, job.DatabaseProgress{Database: databases[i].Name, Phase: job.PhaseWaiting})
	}
	return out
}

// Progress takes the progress of the restore under way.
func (r *relay) Progress(p job.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p.Databases) == 1 && r.at < len(r.rows) {
		r.rows[r.at] = p.Databases[0]
	}
	r.tellLocked(p.Phase)
}

// phase says what is done with database number at.
func (r *relay) phase(at int, phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at = at; at < len(r.rows) {
		r.rows[at].Phase = phase
	}
	r.tellLocked("proving")
}

func (r *relay) tellLocked(phase string) {
	r.Reporter.Progress(job.Progress{Phase: phase, Databases: slices.Clone(r.rows), Transferred: r.fetched()})
}
