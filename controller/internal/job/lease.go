package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Lease gives the agent its next attempt, or false when there is none now. The
// attempt and its fencing number are journaled before it returns; an offer that
// never reaches the agent is lost with its lease, or given back by Reject.
//
// A job whose keys cannot be had keeps none of the agent's other jobs waiting; it
// is tried again each time, and the error is given when nothing else was leased.
func (m *Manager) Lease(ctx context.Context, agent repo.AgentID) (Offer, bool, error) {
	var failed error
	for _, id := range m.candidates(agent) {
		offer, err := m.lease(ctx, agent, id)
		switch {
		case err == nil:
			return offer, true, nil
		case errors.Is(err, errs.Busy), errors.Is(err, errs.NotFound):
			continue // taken, or not possible now: see the next one
		}
		err = fmt.Errorf("lease job %s: %w", id, err)
		if !errors.Is(err, errs.Corrupt) {
			return Offer{}, false, err
		}
		failed = errors.Join(failed, err)
	}
	return Offer{}, false, failed
}

// candidates gives the jobs that the agent could begin now, oldest first.
func (m *Manager) candidates(agent repo.AgentID) []repo.JobID {
	m.mu.Lock()
	defer m.mu.Unlock()
	live, drills := 0, 0
	taken := make(map[repo.InstanceID]bool)
	var ready []*entry
	for _, e := range m.jobs {
		switch {
		case e.agent != agent:
		case e.live():
			live++
			if e.kind == catalog.JobDrill {
				drills++
			} else {
				taken[e.instance] = true
			}
		case e.state == catalog.JobQueued && !e.next.After(time.Now()):
			ready = append(ready, e)
		}
	}
	if live >= m.opts.PerAgent {
		return nil
	}
	slices.SortFunc(ready, func(a, b *entry) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	var ids []repo.JobID
	for _, e := range ready {
		if e.kind == catalog.JobDrill && drills == 0 || e.kind != catalog.JobDrill && !taken[e.instance] {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// lease makes the next attempt of one job. Busy: it is not to be had now.
func (m *Manager) lease(ctx context.Context, agent repo.AgentID, id repo.JobID) (Offer, error) {
	domain, epoch, err := m.sealEpoch(ctx, id)
	if err != nil {
		return Offer{}, err
	}
	var o Offer
	var withdrawn bool
	job, err := m.change(ctx, id, func(c *change) error {
		var err error
		if o, err = c.offer(agent); err != nil {
			return err
		}
		if withdrawn, err = c.withdrawn(); err != nil || withdrawn {
			return err
		}
		if c.job.Kind == catalog.JobBackup && o.Domain != domain {
			return fmt.Errorf("its domain has just changed: %w", errs.Busy)
		}
		if err := m.free(c); err != nil {
			return err
		}
		return c.begin(&o, epoch)
	})
	if err == nil && withdrawn {
		return Offer{}, fmt.Errorf("it has ended: %w", errs.Busy)
	}
	o.Job = job
	if err == nil && job.Kind == catalog.JobRestore {
		if past, e := m.past(ctx, job.Instance); e == nil { // else there is no estimate, which costs nothing
			o.Past = past
		}
	}
	return o, err
}

// sealEpoch asks, before the transaction, for the seal epoch that a backup will
// be given.
func (m *Manager) sealEpoch(ctx context.Context, id repo.JobID) (domain seal.DomainID, epoch uint32, err error) {
	backup := false
	err = m.catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(id)
		if err != nil {
			return err
		}
		i, err := tx.Instance(j.Instance)
		domain, backup = i.Domain, j.Kind == catalog.JobBackup
		return err
	})
	if err == nil && backup {
		epoch, err = m.store.SealEpoch(ctx, domain)
	}
	return domain, epoch, err
}

// offer gathers what an attempt would be about.
func (c *change) offer(agent repo.AgentID) (Offer, error) {
	o := Offer{}
	if c.job.State != catalog.JobQueued || c.job.Agent != agent {
		return o, fmt.Errorf("it is not queued for this agent: %w", errs.Busy)
	}
	a, err := c.tx.Agent(agent)
	if err != nil {
		return o, err
	}
	if a.State != catalog.AgentActive {
		return o, fmt.Errorf("agent %s is %s: %w", a.Name, a.State, errs.Busy)
	}
	if o.Instance, err = c.tx.Instance(c.job.Instance); err != nil {
		return o, err
	}
	o.Domain, o.AgentName = o.Instance.Domain, a.Name
	if c.job.Kind != catalog.JobBackup {
		if o.Snapshot, err = c.tx.Snapshot(c.job.SnapshotID); err != nil {
			return o, err
		}
		o.Domain = o.Snapshot.Domain
	}
	return o, nil
}

// free refuses an attempt while the instance or the agent has no room; the
// transaction sees what memory may not have followed yet. A drill touches nothing
// of the instance, so it neither waits for its other jobs nor delays them; but an
// agent holds one at a time, for the sake of its disk and memory.
func (m *Manager) free(c *change) error {
	live := 0
	for j, err := range c.tx.JobsIn(catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted) {
		switch {
		case err != nil:
			return err
		case j.Ending != 0 || j.Agent != c.job.Agent:
		case j.Kind == catalog.JobDrill && c.job.Kind == catalog.JobDrill:
			return fmt.Errorf("its agent holds a drill: %w", errs.Busy)
		case j.Instance == c.job.Instance && j.Kind != catalog.JobDrill && c.job.Kind != catalog.JobDrill:
			return fmt.Errorf("its instance is at work: %w", errs.Busy)
		default:
			live++
		}
	}
	if live >= m.opts.PerAgent {
		return fmt.Errorf("its agent is at work: %w", errs.Busy)
	}
	return nil
}

// begin makes the attempt.
func (c *change) begin(o *Offer, epoch uint32) error {
	fence, err := c.tx.NextFence()
	if err != nil {
		return err
	}
	if err := c.fire(EventLease, ""); err != nil {
		return err
	}
	c.attempt = catalog.Attempt{Job: c.job.ID, Fence: fence, Agent: c.job.Agent, AgentName: o.AgentName, State: catalog.AttemptOffered,
		Domain: o.Domain, SealEpoch: epoch, Started: c.now}
	c.job.Current = fence
	c.job.Attempts++
	c.job.NextAttempt = time.Time{}
	if c.job.Started.IsZero() {
		c.job.Started = c.now
	}
	o.Ref = Ref{Job: c.job.ID, Fence: fence}
	if err := c.tx.TrimAttempts(c.job.ID, keepAttempts-1); err != nil {
		return err
	}
	return c.note("info", "attempt %s offered to agent %s", fence, o.AgentName)
}

// Accept notes that the agent takes the attempt.
func (m *Manager) Accept(ctx context.Context, agent repo.AgentID, ref Ref) error {
	_, err := m.change(ctx, ref.Job, func(c *change) error {
		if err := c.current(agent, ref); err != nil {
			return err
		}
		if c.attempt.State != catalog.AttemptOffered {
			return errUnchanged // told twice, or its commit was faster
		}
		return c.fire(EventAccept, "")
	})
	return about("accept", ref, err)
}

// Reject notes that the agent does not take the attempt. When another try can
// succeed the attempt does not count as one.
func (m *Manager) Reject(ctx context.Context, agent repo.AgentID, ref Ref, reason string, retryable bool) error {
	_, err := m.change(ctx, ref.Job, func(c *change) error {
		if c.attempt.Fence == ref.Fence && c.attempt.Agent == agent && c.attempt.State == catalog.AttemptRejected {
			return errUnchanged
		}
		if err := c.current(agent, ref); err != nil {
			return err
		}
		if !retryable {
			return c.fire(EventReject, "the agent refused it: "+reason)
		}
		c.job.Attempts--
		m.countBusy(ref.Job)
		return c.fire(EventBusy, "the agent did not take it: "+reason)
	})
	return about("reject", ref, err)
}

func (m *Manager) countBusy(id repo.JobID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.jobs[id]; e != nil {
		e.busy++
	}
}

// ExtendLease renews the leases of what the agent is running and returns those
// attempts that it must stop. It only looks at memory.
func (m *Manager) ExtendLease(_ context.Context, agent repo.AgentID, running []Ref) (abandon []Ref, err error) {
	type reminder struct {
		ref    Ref
		reason string
	}
	var again []reminder
	m.mu.Lock()
	for _, ref := range running {
		e := m.jobs[ref.Job]
		if e == nil || e.agent != agent || e.current != ref.Fence || !e.live() {
			abandon = append(abandon, ref)
			continue
		}
		m.extendLocked(e)
		if e.cancel {
			again = append(again, reminder{ref, e.reason})
		}
	}
	m.mu.Unlock()
	for _, r := range again {
		m.dispatch.Cancel(agent, r.ref, "canceled: "+r.reason)
	}
	return abandon, nil
}

func (m *Manager) extendLocked(e *entry) {
	e.heard++
	e.unknown = false
	e.due = time.Now().Add(m.opts.Lease)
	if !e.until.IsZero() && e.due.After(e.until) {
		e.due = e.until
	}
}

// Reconcile takes what a new session says it is running: attempts that both know
// go on, attempts that the agent must stop are returned, and those that the agent
// does not know are given up, after the moment that a report of their end may
// still need to arrive.
func (m *Manager) Reconcile(ctx context.Context, agent repo.AgentID, running []Ref) (abandon []Ref, err error) {
	abandon, err = m.ExtendLease(ctx, agent, running)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.jobs {
		if e.agent != agent || !e.live() || slices.Contains(running, e.ref()) {
			continue
		}
		if soon := time.Now().Add(resultPatience); e.due.After(soon) {
			e.due = soon
		}
		e.unknown = e.state != catalog.JobCommitted
	}
	signal(m.kick)
	return abandon, nil
}

// Revoke ends the agent's live attempts and fails what is queued for it. A job
// whose snapshot is being written ends as the store decides.
func (m *Manager) Revoke(ctx context.Context, agent repo.AgentID, reason string) error {
	m.mu.Lock()
	var ids []repo.JobID
	for id, e := range m.jobs {
		if e.agent == agent && !e.ending {
			ids = append(ids, id)
		}
	}
	m.mu.Unlock()
	why := "its agent was revoked"
	if reason != "" {
		why += ": " + reason
	}
	var all error
	for _, id := range ids {
		_, err := m.change(ctx, id, func(c *change) error {
			if c.job.State.Terminal() {
				return errUnchanged
			}
			return c.fire(EventRevoked, why)
		})
		if err != nil {
			all = errors.Join(all, fmt.Errorf("end job %s of a revoked agent: %w", id, err))
		}
	}
	return all
}

// about names the act and the attempt in an error.
func about(act string, ref Ref, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", act, ref, err)
}
