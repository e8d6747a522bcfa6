package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Authorize tells what an attempt may do now: Denied for a foreign agent,
// Conflict for an attempt that is not current or has ended, Canceled for one that
// was asked to stop, NotFound for an unknown job.
func (m *Manager) Authorize(ctx context.Context, agent repo.AgentID, ref Ref) (Grant, error) {
	g := Grant{Ref: ref, Agent: agent}
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(ref.Job)
		if err != nil {
			return err
		}
		c := change{m: m, tx: tx, job: j}
		if j.Current == ref.Fence {
			if c.attempt, err = tx.Attempt(ref.Job, ref.Fence); err != nil {
				return err
			}
		}
		if err := c.current(agent, ref); err != nil {
			return err
		}
		if j.CancelRequested && c.attempt.State != catalog.AttemptCommitting && c.attempt.State != catalog.AttemptCommitted {
			return fmt.Errorf("%s: it was asked to stop: %w", ref, errs.Canceled)
		}
		return c.grant(&g)
	})
	return g, err
}

func (c *change) grant(g *Grant) error {
	i, err := c.tx.Instance(c.job.Instance)
	if err != nil {
		return err
	}
	g.Kind, g.Instance, g.Domain, g.SealEpoch, g.DryRun = c.job.Kind, i.ID, c.attempt.Domain, c.attempt.SealEpoch, c.job.DryRun()
	// A domain of its own is never given to another instance, so every other one
	// is a cluster's.
	g.Shared = c.attempt.Domain != i.OwnDomain
	if c.job.Kind != catalog.JobBackup {
		g.Snapshot, err = c.tx.Snapshot(c.job.SnapshotID)
	}
	return err
}

// local runs fn on the job's current attempt in a transaction that is not
// exported; the job itself does not change.
func (m *Manager) local(ctx context.Context, act string, ref Ref, fn func(c *change) error) error {
	err := m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		j, err := tx.Job(ref.Job)
		if err != nil {
			return err
		}
		c := change{m: m, tx: tx, job: j}
		if j.Current != (repo.Fence{}) {
			if c.attempt, err = tx.Attempt(ref.Job, j.Current); err != nil {
				return err
			}
		}
		return fn(&c)
	})
	return about(act, ref, err)
}

// PackIntent journals that a pack is about to be put, in the transaction that
// checks that the attempt is current; else Conflict, or Canceled when it was
// asked to stop. The same intent twice is one.
func (m *Manager) PackIntent(ctx context.Context, p catalog.Pack) error {
	return m.local(ctx, "pack of", Ref{p.Job, p.Fence}, func(c *change) error {
		if err := c.current(c.attempt.Agent, Ref{p.Job, p.Fence}); err != nil {
			return err
		}
		if c.job.CancelRequested {
			return fmt.Errorf("it was asked to stop: %w", errs.Canceled)
		}
		if _, err := c.tx.Pack(p.Job, p.ID); !errors.Is(err, errs.NotFound) {
			return err
		}
		p.State = catalog.PackIntent
		return c.tx.PutPack(p)
	})
}

// PackStored notes that a pack is durable in the store, whichever attempt put it.
func (m *Manager) PackStored(ctx context.Context, job repo.JobID, id catalog.PackID) error {
	return m.pack(ctx, job, id, func(tx *catalog.Tx, p catalog.Pack) error {
		if p.State != catalog.PackIntent {
			return nil
		}
		p.State = catalog.PackStored
		return tx.PutPack(p)
	})
}

// PackDropped removes the record of a pack that is known not to be in the store.
func (m *Manager) PackDropped(ctx context.Context, job repo.JobID, id catalog.PackID) error {
	err := m.pack(ctx, job, id, func(tx *catalog.Tx, _ catalog.Pack) error { return tx.DeletePack(job, id) })
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func (m *Manager) pack(ctx context.Context, job repo.JobID, id catalog.PackID, fn func(*catalog.Tx, catalog.Pack) error) error {
	return m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		p, err := tx.Pack(job, id)
		if err != nil {
			return err
		}
		return fn(tx, p)
	})
}

// PacksIndexed notes that the chunks of packs are in an index file. Records of
// jobs that have ended are not needed any more then.
func (m *Manager) PacksIndexed(ctx context.Context, job repo.JobID, ids []catalog.PackID) error {
	return m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		for _, id := range ids {
			p, err := tx.Pack(job, id)
			if errors.Is(err, errs.NotFound) {
				continue // swept: it was indexed before
			}
			if err != nil {
				return err
			}
			p.State = catalog.PackIndexed
			if err := tx.PutPack(p); err != nil {
				return err
			}
		}
		j, err := tx.Job(job)
		if err != nil || !j.State.Terminal() {
			return err
		}
		return tx.SweepPacks(job)
	})
}

// Packs gives the packs of a job that keep accepts.
func (m *Manager) Packs(ctx context.Context, job repo.JobID, keep func(catalog.Pack) bool) ([]catalog.Pack, error) {
	var out []catalog.Pack
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.PacksOf(job) {
			if err != nil {
				return err
			}
			if keep(p) {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// OpenPacks gives all packs in a state that is not PackIndexed.
func (m *Manager) OpenPacks(ctx context.Context, state catalog.PackState) ([]catalog.Pack, error) {
	var out []catalog.Pack
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.OpenPacks(state) {
			if err != nil {
				return err
			}
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// Committing journals that the attempt is about to put the snapshot object of
// this hash, in the transaction that checks that the attempt is current. Canceled
// when an operator asked it to stop, Conflict when it is not current.
func (m *Manager) Committing(ctx context.Context, ref Ref, object [32]byte) error {
	_, err := m.change(ctx, ref.Job, func(c *change) error {
		if err := c.current(c.attempt.Agent, ref); err != nil {
			return err
		}
		if c.job.Kind != catalog.JobBackup {
			return fmt.Errorf("it is a %s: %w", c.job.Kind, errs.Denied)
		}
		if err := c.fire(EventCommitting, ""); err != nil {
			return err
		}
		c.job.Doubt = true
		c.attempt.ObjectHash = object
		return nil
	})
	return about("commit of", ref, err)
}

// Uncommitted takes the committing state back: the store is known not to have the
// object. For an attempt that is not the current one nothing changes.
func (m *Manager) Uncommitted(ctx context.Context, ref Ref) error {
	_, err := m.change(ctx, ref.Job, func(c *change) error {
		if c.job.Current != ref.Fence || c.job.State != catalog.JobCommitting {
			return errUnchanged
		}
		return c.fire(EventUncommitted, "the store did not take the snapshot")
	})
	return about("commit of", ref, err)
}

// Unfinished is a commit whose outcome is not journaled.
type Unfinished struct {
	// Attempt that is, or was, committing.
	Attempt catalog.Attempt
	// Instance of the job.
	Instance repo.InstanceID
}

// Unfinished gives the commits whose outcome is not journaled. Those that are
// being given up are the Manager's own business.
func (m *Manager) Unfinished(ctx context.Context) ([]Unfinished, error) {
	var out []Unfinished
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for j, err := range tx.JobsIn(catalog.JobCommitting) {
			if err != nil {
				return err
			}
			if j.Ending != 0 {
				continue
			}
			a, err := tx.Attempt(j.ID, j.Current)
			if err != nil {
				return err
			}
			out = append(out, Unfinished{Attempt: a, Instance: j.Instance})
		}
		return nil
	})
	return out, err
}

// Committed journals a snapshot that is in the store, whichever attempt of the
// job made it. It is idempotent, and a job that has ended keeps its state.
func (m *Manager) Committed(ctx context.Context, s catalog.Snapshot) error {
	_, err := m.change(ctx, s.ID, func(c *change) error {
		if known, err := c.tx.Snapshot(s.ID); err == nil {
			s = known
		} else if err := c.putSnapshot(s); err != nil {
			return err
		}
		if c.job.State.Terminal() {
			if !c.job.SnapshotID.IsZero() {
				return errUnchanged
			}
			c.job.SnapshotID, c.made = s.ID, true
			return c.note("warn", "the snapshot was found in the store after the job had ended")
		}
		c.made = c.job.SnapshotID.IsZero()
		c.job.SnapshotID, c.job.Incomplete = s.ID, !s.Complete
		return c.settled(s)
	})
	return about("snapshot of", Ref{s.ID, s.Fence}, err)
}

// putSnapshot records the snapshot with what only the catalog knows.
func (c *change) putSnapshot(s catalog.Snapshot) error {
	if c.job.Kind != catalog.JobBackup || s.Instance != c.job.Instance {
		return fmt.Errorf("it is not of instance %s: %w", c.job.InstanceName, errs.Corrupt)
	}
	s.InstanceName = c.job.InstanceName
	i, err := c.tx.Instance(c.job.Instance)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	s.Incarnation = i.Incarnation
	return c.tx.PutSnapshot(s)
}

// settled moves the job on now that its snapshot exists.
func (c *change) settled(s catalog.Snapshot) error {
	why := ""
	if !s.Complete {
		why = "the snapshot lacks something that was asked for"
		if c.job.Result != nil && c.job.Result.Error != "" {
			why = c.job.Result.Error
		}
	}
	if s.Fence == c.job.Current && c.job.State != catalog.JobQueued {
		return c.fire(EventCommitted, why)
	}
	if err := c.credit(s.Fence); err != nil {
		return err
	}
	if why == "" {
		why = fmt.Sprintf("attempt %s has made the snapshot", s.Fence)
	}
	return c.fire(EventOvertaken, why)
}

// credit gives the snapshot to the attempt that made it, though it was given up.
func (c *change) credit(fence repo.Fence) error {
	if fence == c.job.Current {
		c.attempt.State, c.attempt.Error = catalog.AttemptSucceeded, ""
		return nil
	}
	winner, err := c.tx.Attempt(c.job.ID, fence)
	if errors.Is(err, errs.NotFound) {
		return nil // so old that it is not kept
	}
	if err != nil {
		return err
	}
	winner.State, winner.Error = catalog.AttemptSucceeded, ""
	return c.tx.PutAttempt(winner)
}
