package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// errUnchanged ends a change that has nothing to do; the caller of change sees
// success and the job as it is.
var errUnchanged = errors.New("job: nothing to change")

// change is one transaction about one job and its current attempt.
type change struct {
	m       *Manager
	tx      *catalog.Tx
	now     time.Time
	job     catalog.Job
	attempt catalog.Attempt // zero before the first
	made    bool            // the job's snapshot exists now, and did not before
	stop    string          // why the agent must stop the attempt that has ended, if it must
	order   int
}

// change runs fn on a job in one transaction, in this order:
//
//  1. The catalog has the job, its attempt, and lines for its log. A crash after
//     it leaves a journal that says what happened, and an agent that finds out
//     when it comes back.
//  2. The job in memory follows, and everybody who watches is woken.
//  3. The agent is told to stop, or that there may be work.
func (m *Manager) change(ctx context.Context, id repo.JobID, fn func(c *change) error) (catalog.Job, error) {
	var c change
	err := m.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		c = change{m: m, tx: tx, now: time.Now().UTC().Round(0), order: tx.Order()}
		var err error
		if c.job, err = tx.Job(id); err != nil {
			return err
		}
		if c.job.Current != (repo.Fence{}) {
			if c.attempt, err = tx.Attempt(id, c.job.Current); err != nil {
				return err
			}
		}
		if err := fn(&c); err != nil {
			return err
		}
		return c.write()
	})
	if errors.Is(err, errUnchanged) {
		return c.job, nil
	}
	if err != nil {
		return catalog.Job{}, err
	}
	if c.made {
		m.announceSnapshot(c.job)
	}
	m.remember(c.job, c.order)
	ref := Ref{Job: id, Fence: c.attempt.Fence}
	if c.stop != "" {
		m.dispatch.Cancel(c.job.Agent, ref, c.stop)
	}
	if c.job.State == catalog.JobQueued || c.job.State.Terminal() {
		m.dispatch.Wake(c.job.Agent)
	}
	m.log.Info("job changed", zap.Stringer("job_id", id), zap.Stringer("state", c.job.State), zap.Stringer("attempt", c.job.Current), zap.String("reason", c.job.Message))
	return c.job, nil
}

func (c *change) write() error {
	if c.attempt.Fence != (repo.Fence{}) {
		if err := c.tx.PutAttempt(c.attempt); err != nil {
			return err
		}
	}
	if err := c.tx.PutJob(c.job); err != nil {
		return err
	}
	if c.job.State.Terminal() {
		return c.tx.SweepPacks(c.job.ID)
	}
	return nil
}

// note adds a line of the controller to the job's log.
func (c *change) note(level, format string, args ...any) error {
	return c.tx.AppendLog(c.job.ID, catalog.LogLine{Fence: c.job.Current, Time: c.now, Level: level, Message: clip(fmt.Sprintf(format, args...))})
}

// fire applies an event; why becomes the message of what ends or waits.
func (c *change) fire(e Event, why string) error {
	facts, err := c.facts()
	if err != nil {
		return err
	}
	from := c.job.State
	step := Next(from, e, facts)
	if step.Refused != nil {
		return refusal(from, e, step.Refused)
	}
	was := c.attempt.State
	if step.Attempt != 0 {
		c.attempt.State = step.Attempt
		if step.Attempt.Ended() && !was.Ended() {
			c.attempt.Ended = c.now
			c.attempt.Error = clip(why)
			c.tellAgent(e, why)
		}
		if step.Attempt == catalog.AttemptSucceeded {
			c.attempt.Error = ""
		}
	}
	return c.enter(from, step.State, why)
}

// refusal says why an event does not count.
func refusal(from catalog.JobState, e Event, kind *errs.Kind) error {
	switch {
	case e == EventCancel && !from.Terminal():
		return fmt.Errorf("its snapshot is being written, wait for the outcome: %w", kind)
	case from.Terminal():
		return fmt.Errorf("it has ended (%s): %w", from, kind)
	}
	return fmt.Errorf("it is %s, which %s does not fit: %w", from, e, kind)
}

// tellAgent notes that the agent must stop, unless it is the one who said that
// the attempt has ended.
func (c *change) tellAgent(e Event, why string) {
	switch e {
	case EventExpired, EventOvertaken, EventRevoked, EventAborted, EventUncommitted:
		c.stop = why
	}
}

// enter brings the job into a state.
func (c *change) enter(from, to catalog.JobState, why string) error {
	if to.Terminal() && c.job.Doubt && c.job.Kind == catalog.JobBackup && c.job.SnapshotID.IsZero() && c.job.Ending == 0 {
		// A put of some attempt may still be on its way to the store: the job ends
		// only when an abort marker keeps its place.
		c.job.Ending, to = to, catalog.JobCommitting
	}
	if to != from || to.Terminal() {
		c.job.Message = clip(why)
	}
	c.job.State = to
	switch {
	case to.Terminal():
		c.job.Ended, c.job.Ending, c.job.NextAttempt = c.now, 0, time.Time{}
		if to == catalog.JobSucceeded {
			c.job.Message = ""
		}
		return c.note(levelOf(to), "job %s%s", to, because(c.job.Message))
	case to == catalog.JobQueued && from != catalog.JobQueued:
		c.job.NextAttempt = c.now.Add(c.m.backoff(&c.job))
		return c.note("warn", "attempt %s ended%s; the next one begins after %s", c.job.Current, because(why), c.job.NextAttempt.Format(time.RFC3339))
	}
	return nil
}

func levelOf(s catalog.JobState) string {
	if s == catalog.JobSucceeded {
		return "info"
	}
	return "error"
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (c *change) facts() (Facts, error) {
	reported := c.job.Result != nil && c.job.Result.Fence == c.job.Current
	f := Facts{Cancel: c.job.CancelRequested, Incomplete: c.job.Incomplete, Reported: reported, Ending: c.job.Ending}
	f.Tries = int(c.job.Attempts) < c.m.opts.Attempts && (!reported || c.job.Result.Retryable)
	agent, err := c.tx.Agent(c.job.Agent)
	switch {
	case errors.Is(err, errs.NotFound), err == nil && agent.State == catalog.AgentRevoked:
		f.Tries = false
	case err != nil:
		return f, err
	}
	return f, nil
}

// current refuses what is not about the job's current attempt: Denied for another
// agent's, Conflict for one that is over.
func (c *change) current(agent repo.AgentID, ref Ref) error {
	if c.attempt.Fence == ref.Fence && c.attempt.Agent == agent && !c.attempt.State.Ended() {
		return nil
	}
	return c.stale(agent, ref)
}

// stale says why an attempt is not the current one.
func (c *change) stale(agent repo.AgentID, ref Ref) error {
	a, err := c.tx.Attempt(ref.Job, ref.Fence)
	switch {
	case errors.Is(err, errs.NotFound) && c.job.Agent != agent, err == nil && a.Agent != agent:
		return fmt.Errorf("%s: it was not leased to this agent: %w", ref, errs.Denied)
	case err != nil && !errors.Is(err, errs.NotFound):
		return err
	case c.job.Current == ref.Fence:
		return fmt.Errorf("%s: it has ended (%s): %w", ref, a.State, errs.Conflict)
	}
	return fmt.Errorf("%s: it is over, the newest is %s: %w", ref, c.job.Current, errs.Conflict)
}

// backoff is the pause before the next attempt: doubling with each that was used
// up, or with each rejection in a row, and spread by a quarter so that a fleet
// that lost its controller does not come back in step.
func (m *Manager) backoff(j *catalog.Job) time.Duration {
	m.mu.Lock()
	n := max(int(j.Attempts)-1, 0)
	if e := m.jobs[j.ID]; e != nil {
		n = max(n, e.busy)
	}
	m.mu.Unlock()
	d := m.opts.Backoff
	for range min(n, 20) {
		d = min(2*d, maxBackoff)
	}
	return d - d/8 + rand.N(d/4+1)
}

// remember brings the job in memory up to what a transaction has written, unless
// a later one did so already.
func (m *Manager) remember(j catalog.Job, order int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer signal(m.kick)
	for w := range m.watchers[j.ID] {
		signal(w)
	}
	e := m.jobs[j.ID]
	switch {
	case e != nil && e.order > order:
		return
	}
	m.announceLocked(e, j, order)
	switch {
	case j.State.Terminal():
		delete(m.jobs, j.ID)
		return
	case e == nil:
		e = &entry{id: j.ID, kind: j.Kind, agent: j.Agent, instance: j.Instance, name: j.InstanceName, dryRun: j.DryRun(), created: j.Created}
		m.jobs[j.ID] = e
	}
	now := time.Now()
	moved := e.state != j.State || e.current != j.Current || e.ending != (j.Ending != 0)
	if e.current != j.Current {
		e.progress, e.pace = nil, nil
	}
	e.order, e.state, e.current, e.ending = order, j.State, j.Current, j.Ending != 0
	e.cancel, e.reason, e.next = j.CancelRequested, j.CancelReason, j.NextAttempt
	if moved {
		m.scheduleLocked(e, now)
	}
	if e.cancel && e.until.IsZero() && (e.state == catalog.JobLeased || e.state == catalog.JobRunning) {
		e.until = now.Add(cancelPatience)
	}
	if !e.until.IsZero() && e.due.After(e.until) {
		e.due = e.until
	}
}

// scheduleLocked sets when something happens in the entry's new state if nothing
// else does.
func (m *Manager) scheduleLocked(e *entry, now time.Time) {
	e.heard++
	e.settle, e.unknown = false, false
	e.until = time.Time{}
	switch {
	case e.state == catalog.JobQueued:
		// A clock that was set back must not make a job wait for ever.
		e.due = e.next
		if latest := now.Add(2 * maxBackoff); e.due.After(latest) {
			e.due, e.next = latest, latest
		}
	case e.ending:
		e.due = now
	case e.state == catalog.JobCommitted:
		e.due = now.Add(closingPatience)
		e.until = e.due
	default:
		e.due = now.Add(m.opts.Lease)
	}
	if e.state == catalog.JobRunning {
		e.busy = 0
	}
}

// maxText bounds messages, which agents can make long.
const maxText = 4096

// clip gives s as valid UTF-8, which the catalog insists on, of at most maxText
// bytes: a cut may fall into the middle of a letter.
func clip(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-3], "") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
