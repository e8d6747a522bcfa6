package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// patience is how long a wait outlives a controller that cannot be reached: a
// restart must not make scripts believe that a job failed.
const patience = 5 * time.Minute

// retryEvery is the pause between two tries to reach the controller.
const retryEvery = 2 * time.Second

// waitAll follows jobs to their ends, shows progress, prints the results and
// gives the error that makes the exit code: the worst of the jobs.
func (a *app) waitAll(ctx context.Context, jobs []*tuskvaultv1.Job) error {
	cl, err := a.dial()
	if err != nil {
		return err
	}
	defer cl.close()
	w, h := drawing(a.Err)
	watcher := print.NewProgress(a.Err, w, h, a.now)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64) // streams on one connection; further jobs are followed as earlier ones end
	for i := range jobs {
		g.Go(func() error {
			j, err := a.follow(gctx, cl, jobs[i], watcher)
			jobs[i] = j
			return err
		})
	}
	err = g.Wait()
	watcher.Close()
	if ctx.Err() != nil {
		return a.detached(jobs)
	}
	if err != nil {
		return err
	}
	return a.printEnded(jobs)
}

func (a *app) detached(jobs []*tuskvaultv1.Job) error {
	var hints []string
	for _, j := range jobs {
		if !terminal(j) {
			hints = append(hints, "attach again: tuskctl job watch "+j.GetId(), "stop it: tuskctl job cancel "+j.GetId())
		}
	}
	return exit.Hint(errDetached, hints...)
}

// follow watches one job until it ends. A stream that breaks is opened again
// for as long as patience lasts.
func (a *app) follow(ctx context.Context, cl *client, j *tuskvaultv1.Job, w *print.Progress) (*tuskvaultv1.Job, error) {
	lastHeard := a.now()
	for {
		err := a.stream(ctx, cl, &j, w, &lastHeard)
		switch {
		case err == nil && terminal(j):
			return j, nil
		case ctx.Err() != nil:
			return j, context.Cause(ctx)
		case err != nil && !errors.Is(err, errs.Unavailable):
			return j, fmt.Errorf("watch job %s: %w", print.Short(j.GetId()), err)
		case a.now().Sub(lastHeard) > patience:
			return j, fmt.Errorf("watch job %s: no controller for %s, the job may go on: %w", print.Short(j.GetId()), patience, errs.Unavailable)
		}
		w.Note(j.GetId(), "waiting for the controller")
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

func (a *app) stream(ctx context.Context, cl *client, j **tuskvaultv1.Job, w *print.Progress, heard *time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := cl.job.WatchJob(ctx, &tuskvaultv1.WatchJobRequest{Job: (*j).GetId()})
	if err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		*j, *heard = r.GetJob(), a.now()
		w.Update(progressOf(*j))
	}
}

// progressOf picks what the progress display shows of a job.
func progressOf(j *tuskvaultv1.Job) print.JobProgress {
	out := print.JobProgress{ID: j.GetId(), Title: jobKind(j) + " " + j.GetInstance(), State: jobState(j), Ended: terminal(j), Message: j.GetMessage()}
	p := j.GetProgress()
	if p == nil || terminal(j) {
		return out
	}
	out.Phase = p.GetPhase()
	out.Blocked = p.GetBlocked()
	out.Transferred = p.GetTransferredBytes()
	out.Rate, out.Left = p.GetBytesPerSecond(), time.Duration(p.GetSecondsLeft())*time.Second
	for _, d := range p.GetDatabases() {
		part := print.Part{Name: d.GetDatabase(), Phase: d.GetPhase(), Rows: d.GetRowsDone(), Bytes: d.GetBytesDone(), Total: d.GetBytesTotal(),
			Tables: int(d.GetTablesDone()), TablesTotal: int(d.GetTablesTotal()), Indexes: int(d.GetIndexBuildsDone()), IndexesTotal: int(d.GetIndexBuildsTotal())}
		for _, t := range d.GetTables() {
			if t.GetPhase() != "waiting" && t.GetPhase() != "done" {
				part.Busy = append(part.Busy, busyOf(t))
			}
		}
		out.Parts = append(out.Parts, part)
	}
	return out
}

func busyOf(t *tuskvaultv1.TableProgress) print.Busy {
	return print.Busy{Name: t.GetTable(), Phase: t.GetPhase(), Rows: t.GetRowsDone(), RowsTotal: t.GetRowsTotal(), Bytes: t.GetBytesDone(),
		Total: t.GetBytesTotal(), Estimated: t.GetEstimated()}
}

// printEnded prints the ended jobs and turns their states into an error.
func (a *app) printEnded(jobs []*tuskvaultv1.Job) error {
	var text strings.Builder
	var names []string
	for _, j := range jobs {
		names = append(names, j.GetId())
		fmt.Fprintf(&text, "%-12s %s %s: %s in %s\n", "job", print.Short(j.GetId()), jobKind(j)+" "+j.GetInstance(), jobState(j), took(j, a.now()))
		if j.GetSnapshotId() != "" && j.GetKind() == tuskvaultv1.JobKind_JOB_KIND_BACKUP {
			fmt.Fprintf(&text, "%-12s %s\n", "snapshot", j.GetSnapshotId())
		}
		text.WriteString(placementText(j))
		text.WriteString(a.resultText(j))
	}
	if err := a.printer().Print(print.View{Message: &tuskvaultv1.ListJobsResponse{Jobs: jobs}, Names: names, Text: text.String()}); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.GetState() != tuskvaultv1.JobState_JOB_STATE_SUCCEEDED {
			return endError(j)
		}
	}
	return nil
}

func endError(j *tuskvaultv1.Job) error {
	e := jobError{message: fmt.Sprintf("job %s: %s", print.Short(j.GetId()), jobState(j)),
		hints: []string{"the whole story: tuskctl job show " + print.Short(j.GetId()), "the agent's lines: tuskctl job logs " + print.Short(j.GetId())}}
	if m := j.GetMessage(); m != "" {
		e.message += ": " + m
	}
	if j.GetResult().GetDrill().GetVerdict() == verdictFailed {
		return differenceError{e}
	}
	return e
}
