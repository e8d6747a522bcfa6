package job

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Progress keeps the newest progress of an attempt, in memory.
func (m *Manager) Progress(agent repo.AgentID, ref Ref, p Progress) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.jobs[ref.Job]
	switch {
	case e == nil || e.current != ref.Fence || !e.live():
		return fmt.Errorf("progress of %s: it is over: %w", ref, errs.Conflict)
	case e.agent != agent:
		return fmt.Errorf("progress of %s: it was not leased to this agent: %w", ref, errs.Denied)
	}
	e.pace = e.pace.add(time.Now(), moved(&p))
	p.BytesPerSecond = e.pace.rate()
	p.SecondsLeft = secondsLeft(&p, p.BytesPerSecond)
	e.progress = &p
	for w := range m.watchers[ref.Job] {
		signal(w)
	}
	return nil
}

// Log keeps lines of the job's current attempt, at most catalog.MaxLogLines a job.
func (m *Manager) Log(ctx context.Context, agent repo.AgentID, ref Ref, lines ...catalog.LogLine) error {
	err := m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		j, err := tx.Job(ref.Job)
		if err != nil {
			return err
		}
		c := change{m: m, tx: tx, job: j}
		if c.attempt, err = tx.Attempt(ref.Job, ref.Fence); err != nil || c.attempt.Agent != agent || j.Current != ref.Fence {
			return c.stale(agent, ref)
		}
		for i := range lines {
			lines[i].Fence, lines[i].Message = ref.Fence, clip(lines[i].Message)
		}
		return tx.AppendLog(ref.Job, lines...)
	})
	return about("log of", ref, err)
}

// Result journals the end of an attempt. It is idempotent: nil means that the
// agent may forget the attempt. Conflict is the answer to a report of an attempt
// that has been given up; it changes nothing, and the agent may forget it too.
// drill is the report of a drill, nil when there is none; see takeDrill.
func (m *Manager) Result(ctx context.Context, agent repo.AgentID, ref Ref, r catalog.Result, drill *catalog.DrillReport) error {
	if r.Outcome < catalog.OutcomeSucceeded || r.Outcome > catalog.OutcomeCanceled {
		return fmt.Errorf("result of %s: outcome %d: %w", ref, r.Outcome, errs.Invalid)
	}
	r = bounded(r, ref.Fence)
	found, unread := readDrill(drill)
	var ask bool
	_, err := m.change(ctx, ref.Job, func(c *change) error {
		ask = false
		if c.attempt.Fence != ref.Fence || c.attempt.Agent != agent {
			return c.stale(agent, ref)
		}
		if c.job.Result != nil && c.job.Result.Fence == ref.Fence {
			return errUnchanged // told twice
		}
		if c.attempt.State.Ended() {
			made := c.attempt.State == catalog.AttemptSucceeded || c.attempt.State == catalog.AttemptFailed && c.job.Incomplete
			if !made || c.job.Kind != catalog.JobBackup {
				return c.stale(agent, ref)
			}
			c.job.Result = &r // the figures of a snapshot whose job did not wait for them
			return nil
		}
		if err := c.takeDrill(&r, drill, found, unread); err != nil {
			return err
		}
		event, why := verdict(c.job, r)
		c.job.Result = &r
		ask = c.job.State == catalog.JobCommitting
		return c.fire(event, why)
	})
	if err == nil && ask {
		m.askStore(ref.Job)
	}
	return about("result of", ref, err)
}

// verdict tells what a report means for the job, whatever the agent calls it.
func verdict(j catalog.Job, r catalog.Result) (Event, string) {
	why := r.Error
	if why == "" {
		why = firstProblem(r)
	}
	if r.Outcome == catalog.OutcomeCanceled {
		if j.CancelRequested {
			why = "canceled by " + j.CancelBy
			if j.CancelReason != "" {
				why += ": " + j.CancelReason
			}
		}
		return EventStopped, why
	}
	if j.Kind == catalog.JobDrill {
		return drillVerdict(r, why)
	}
	switch r.Outcome {
	case catalog.OutcomeFailed:
		if r.Retryable {
			return EventFailed, why
		}
		return EventFailedForGood, why
	}
	switch {
	case j.State == catalog.JobCommitted || j.State == catalog.JobCommitting:
		return EventSucceeded, why
	case j.Kind == catalog.JobBackup:
		return EventFailedForGood, "the agent reported success without a snapshot"
	case len(r.Databases) == 0 && !j.DryRun() && (j.Restore == nil || !j.Restore.GlobalsOnly):
		return EventFailedForGood, "the agent restored no database"
	case !j.DryRun() && slices.ContainsFunc(r.Databases, func(d catalog.DatabaseResult) bool { return !done(j, d) }):
		return EventFailedForGood, why
	}
	return EventSucceeded, ""
}

// done tells whether what was asked for happened to a database: all of it is
// there, or all but damaged tables that were to be skipped.
func done(j catalog.Job, d catalog.DatabaseResult) bool {
	return d.Complete || j.Restore != nil && j.Restore.SkipDamaged && d.Error == ""
}

func firstProblem(r catalog.Result) string {
	for _, d := range r.Databases {
		if !d.Complete && d.Error != "" {
			return fmt.Sprintf("database %s: %s", d.Database, d.Error)
		}
	}
	for _, p := range r.Problems {
		if p.Error {
			return p.Reason
		}
	}
	if r.Outcome == catalog.OutcomeSucceeded {
		return ""
	}
	return "the agent gave no reason"
}

// bounded cuts a report to what the catalog keeps.
func bounded(r catalog.Result, fence repo.Fence) catalog.Result {
	r.Fence, r.Error = fence, clip(r.Error)
	if n := len(r.Problems); n > catalog.MaxProblems {
		r.Problems = append(slices.Clone(r.Problems[:catalog.MaxProblems-1]), catalog.Problem{Error: true,
			Reason: fmt.Sprintf("and %d more problems", n-catalog.MaxProblems+1)})
	}
	r.Plan = r.Plan[:min(len(r.Plan), catalog.MaxPlanLines)]
	r.Databases = r.Databases[:min(len(r.Databases), catalog.MaxDatabaseResults)]
	return r
}
