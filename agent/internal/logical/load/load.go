package load

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// application is what pg_stat_activity shows of the sessions.
const application = "tuskvault restore"

// progressInterval is how often the reporter is told.
const progressInterval = time.Second

// cleanupTime bounds what is done after a failure or a cancellation.
const cleanupTime = time.Minute

// MaxJobs bounds the parallel sessions of one restore.
const MaxJobs = 64

// Options are what a restore works with.
type Options struct {
	// Config reaches the server.
	Config postgres.Config
	// Source gives the snapshot's bytes.
	Source Source
	// Reporter takes progress, at most every second, and log lines.
	Reporter job.Reporter
	// Transferred counts sealed bytes fetched so far, for progress.
	Transferred func() int64
	// Memory of the server's host in bytes, 0 when unknown.
	Memory int64
	// CompareAll goes on with the other tables after one that differs. Its database
	// fails in the end all the same.
	CompareAll bool
}

// Jobs gives the number of parallel sessions for a request: what was asked for,
// else one for each processor, between 2 and 8.
func Jobs(asked int) int {
	if asked > 0 {
		return min(asked, MaxJobs)
	}
	return min(max(runtime.NumCPU(), 2), 8)
}

// Restore is a restore that was planned.
type Restore struct {
	o       Options
	content *repo.Content
	id      repo.JobID
	plan    *Plan
	jobs    int
	rows    []*progress
	// compared has an element for each database whose restore has ended.
	compared []Compared
}

// Prepare reads what is needed of the snapshot (archives, chunk lists, facts of
// large objects), looks at the server and plans. Nothing is changed. A plan that
// refuses is no error: see Plan.Err.
func Prepare(ctx context.Context, o Options, content *repo.Content, id repo.JobID, request job.Restore) (*Restore, error) {
	if content.Logical == nil {
		return nil, fmt.Errorf("restore snapshot of kind %q: %w", content.Kind, errs.Unsupported)
	}
	needs := map[*repo.Database]*Needs{}
	var wanted []pg.Name
	for i := range content.Logical.Databases {
		d := &content.Logical.Databases[i]
		named := slices.ContainsFunc(request.Databases, func(m job.Mapping) bool { return m.Source == d.Name.Display() })
		if d.State == repo.DatabaseFailed || len(request.Databases) > 0 && !named {
			continue
		}
		wanted = append(wanted, d.Name)
		n, err := readNeeds(ctx, o.Source, d, request.NoOwner)
		if err != nil {
			return nil, err
		}
		needs[d] = n
	}
	target, err := readTarget(ctx, o.Config, inquiry{content: content, needs: needs, request: request, wanted: wanted})
	if err != nil {
		return nil, err
	}
	r := &Restore{o: o, content: content, id: id, jobs: Jobs(request.Jobs)}
	r.plan = Decide(content, needs, target, id, request)
	return r, nil
}

// readNeeds reads one database's archive and checks that all of its lists can
// be read: what is damaged there must be found before the target is touched.
func readNeeds(ctx context.Context, source Source, d *repo.Database, noOwner bool) (*Needs, error) {
	a, err := readArchive(ctx, source, d)
	if err != nil {
		return nil, err
	}
	n, err := needsOf(d, a)
	if err != nil {
		return nil, err
	}
	for i := range d.Tables {
		t := &d.Tables[i]
		for j := range t.Runs {
			if err := source.Check(ctx, t.Runs[j].Stream); err != nil {
				return nil, fmt.Errorf("database %s: table %s: %w", d.Name.Display(), relation{t.Schema, t.Name}, err)
			}
		}
	}
	if o := d.LargeObjects; o != nil {
		err := source.Check(ctx, o.Data)
		if err == nil && !noOwner {
			err = addObjects(ctx, n, source, o)
		}
		if err != nil {
			return nil, fmt.Errorf("database %s: large objects: %w", d.Name.Display(), err)
		}
	}
	return n, nil
}

// Plan gives the plan.
func (r *Restore) Plan() *Plan { return r.plan }

// Outcome is what a restore did.
type Outcome struct {
	Databases []job.DatabaseResult
	// Compared has what was found in the tables of each of Databases.
	Compared []Compared
	Problems []repo.Problem
	Rows     int64
	Bytes    int64
	// Err is the first failure, nil when every database is complete and equal.
	Err error
}

// Run does what the plan says. It touches nothing if the plan refuses. A
// database that fails does not stop the others. When ctx ends it stops within
// seconds and removes what is half made.
func (r *Restore) Run(ctx context.Context) Outcome {
	if err := r.plan.Err(); err != nil {
		return Outcome{Err: err, Problems: append(slices.Clone(r.plan.Refusals), r.plan.Warnings...)}
	}
	out := Outcome{Problems: slices.Clone(r.plan.Warnings)}
	for i := range r.plan.Databases {
		r.rows = append(r.rows, newProgress(&r.plan.Databases[i]))
	}
	stop := r.report(ctx)
	defer stop()
	problems, err := r.createGlobals(ctx)
	out.Problems = append(out.Problems, problems...)
	if err != nil {
		out.Err = fmt.Errorf("create globals: %w", err)
		for _, p := range r.rows {
			p.fail()
		}
		return out
	}
	for i := range r.plan.Databases {
		d := &r.plan.Databases[i]
		result, problems, err := r.database(ctx, d, r.rows[i])
		out.Databases = append(out.Databases, result)
		out.Problems = append(out.Problems, problems...)
		out.Rows += result.Rows
		out.Bytes += result.PlainBytes
		if err != nil {
			out.Problems = append(out.Problems, repo.Problem{Severity: "error", Database: d.Target, Reason: err.Error(), Hint: postgres.Hint(err)})
			if out.Err == nil {
				out.Err = err
			}
		}
	}
	out.Compared = r.compared
	return out
}

// report tells the reporter how far the restore is, until the result is called.
func (r *Restore) report(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ended and waited for by stop
		defer close(done)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			r.tell()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		r.tell()
	}
}

func (r *Restore) tell() {
	p := job.Progress{Phase: "restoring"}
	for _, row := range r.rows {
		p.Databases = append(p.Databases, row.snapshot())
	}
	if r.o.Transferred != nil {
		p.Transferred = r.o.Transferred()
	}
	r.o.Reporter.Progress(p)
}
