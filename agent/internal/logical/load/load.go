package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// progressInterval is how often the reporter is told.
const progressInterval = time.Second

// cleanupTime bounds what is done after a failure or a cancellation.
const cleanupTime = time.Minute

// Options are what a restore works with.
type Options struct {
	// Config reaches the server.
	Config postgres.Config
	// Source gives the snapshot's bytes.
	Source stream.Source
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

// Restore is a restore that was planned.
type Restore struct {
	o       Options
	content *repo.Content
	id      repo.JobID
	plan    *plan.Plan
	jobs    int
	rows    []*progress
	// compared has an element for each database whose restore has ended.
	compared []Compared
}

// Prepare reads what is needed of the snapshot (archives, chunk lists, facts of
// large objects), looks at the server and plans. Nothing is changed. A plan that
// refuses is no error: see Plan.Err.
func Prepare(ctx context.Context, o Options, content *repo.Content, id repo.JobID, request job.Restore) (*Restore, error) {
	p, err := plan.Make(ctx, plan.Inputs{Server: o.Config, Source: o.Source, Content: content, Job: id, Request: request})
	if err != nil {
		return nil, err
	}
	return &Restore{o: o, content: content, id: id, jobs: plan.Jobs(request.Jobs), plan: p}, nil
}

// Plan gives the plan.
func (r *Restore) Plan() *plan.Plan { return r.plan }

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
	for _, line := range r.plan.Globals.Lines() {
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
