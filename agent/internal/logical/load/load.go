package load

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
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
	shaper   *shaper
	asked    map[*repo.Database]*asked // by what is restored of it
	nothing  []*asked                  // databases in which no pattern matches
}

// Prepare reads what is needed of the snapshot (archives, chunk lists, facts of
// large objects), looks at the server and plans. Nothing is changed. A plan that
// refuses is no error: see Plan.Err.
func Prepare(ctx context.Context, o Options, content *repo.Content, id repo.JobID, request job.Restore) (*Restore, error) {
	if content.Logical == nil {
		return nil, fmt.Errorf("restore snapshot of kind %q: %w", content.Kind, errs.Unsupported)
	}
	r := &Restore{o: o, id: id, jobs: Jobs(request.Jobs), asked: map[*repo.Database]*asked{}, plan: &Plan{request: request}}
	var err error
	if r.shaper, err = newShaper(request); err != nil {
		return nil, fmt.Errorf("plan restore: %w", err)
	}
	all, err := r.chooseAll(ctx, content)
	if err != nil {
		return nil, err
	}
	if request.Live {
		if err := r.lookAtLive(ctx, all); err != nil {
			return nil, err
		}
	}
	needs := map[*repo.Database]*Needs{}
	r.content = reduced(content, all, len(request.Databases) > 0)
	for i := range r.content.Logical.Databases {
		d := &r.content.Logical.Databases[i]
		at := slices.IndexFunc(all, func(one *asked) bool { return one.source.Name == d.Name })
		if at < 0 || all[at].part == nil { // not asked for, or its backup failed
			continue
		}
		if all[at].needs == nil { // in use
			if err := r.readNeeds(ctx, all[at]); err != nil {
				return nil, err
			}
		}
		needs[d], r.asked[d] = all[at].needs, all[at]
	}
	target, err := readTarget(ctx, o.Config, inquiry{content: r.content, needs: needs, request: request, wanted: wantedNames(all)})
	if err != nil {
		return nil, err
	}
	r.plan = Decide(r.content, needs, target, id, request)
	if len(request.Databases) == 0 {
		r.plan.unmatched("", missing(append(r.nothing, all...)))
	}
	return r, nil
}

// chooseAll decides what of each database is restored. One in which no pattern
// matches is not restored, unless it was named.
func (r *Restore) chooseAll(ctx context.Context, content *repo.Content) ([]*asked, error) {
	var all []*asked
	request := r.plan.request
	if request.GlobalsOnly {
		return nil, nil
	}
	for i := range content.Logical.Databases {
		d := &content.Logical.Databases[i]
		named := slices.ContainsFunc(request.Databases, func(m job.Mapping) bool { return m.Source == d.Name.Display() })
		if len(request.Databases) > 0 && !named {
			continue
		}
		if d.State == repo.DatabaseFailed {
			if named || !request.Selective() {
				all = append(all, &asked{source: d, named: named})
			}
			continue
		}
		one, err := r.choose(ctx, d, named)
		if err != nil {
			return nil, err
		}
		if one.part.Empty() && !named && request.Selective() {
			r.nothing = append(r.nothing, one)
			continue
		}
		if !request.Live { // a part in use is moved first
			if err := r.readNeeds(ctx, one); err != nil {
				return nil, err
			}
			one.part = &selection.Part{Database: one.part.Database} // its archive is read again
		}
		all = append(all, one)
	}
	return all, nil
}

func wantedNames(all []*asked) []pg.Name {
	var out []pg.Name
	for _, one := range all {
		out = append(out, one.source.Name)
	}
	return out
}

// reduced is the snapshot's content with what is restored of the databases asked
// for, and with others the others as well.
func reduced(content *repo.Content, all []*asked, others bool) *repo.Content {
	c, l := *content, *content.Logical
	l.Databases = nil
	for _, d := range content.Logical.Databases {
		at := slices.IndexFunc(all, func(one *asked) bool { return one.source.Name == d.Name })
		switch {
		case at >= 0 && all[at].part != nil:
			l.Databases = append(l.Databases, *all[at].part.Database)
		case at >= 0 || others:
			l.Databases = append(l.Databases, d)
		}
	}
	c.Logical = &l
	return &c
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
	for _, line := range r.plan.Globals.lines() {
		r.o.Reporter.Log("info", line)
	}
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
