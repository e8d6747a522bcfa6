package job

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Create journals a job and queues it. The same spec again gives the same job,
// however far it is; another spec under the same id is Conflict.
func (m *Manager) Create(ctx context.Context, spec Spec) (catalog.Job, error) {
	if spec.ID.IsZero() || spec.works() != 1 || (spec.Drill != nil) == spec.Agent.IsZero() {
		return catalog.Job{}, fmt.Errorf("create job %s: without id or work: %w", spec.ID, errs.Invalid)
	}
	if m.unfinished() >= maxUnfinished {
		return catalog.Job{}, fmt.Errorf("create job %s: %d jobs are waiting: %w", spec.ID, maxUnfinished, errs.Exhausted)
	}
	var job catalog.Job
	order, made := 0, false
	err := m.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		wanted, err := describe(tx, spec)
		if err != nil {
			return err
		}
		job, err = tx.Job(spec.ID)
		switch {
		case err == nil && !sameWork(job, wanted):
			return fmt.Errorf("a job of this id does something else: %w", errs.Conflict)
		case err == nil:
			return errUnchanged
		case !errors.Is(err, errs.NotFound):
			return err
		}
		job, order, made = wanted, tx.Order(), true
		return tx.PutJob(job)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return catalog.Job{}, fmt.Errorf("create job %s: %w", spec.ID, err)
	}
	if made {
		m.remember(job, order)
		m.dispatch.Wake(job.Agent)
	}
	return job, nil
}

// works counts what is asked for.
func (s *Spec) works() int {
	n := 0
	for _, set := range []bool{s.Backup != nil, s.Restore != nil, s.Drill != nil} {
		if set {
			n++
		}
	}
	return n
}

func (m *Manager) unfinished() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.jobs)
}

// describe makes the record of a job that is not journaled yet.
func describe(tx *catalog.Tx, spec Spec) (catalog.Job, error) {
	instance, err := tx.Instance(spec.Instance)
	if err != nil {
		return catalog.Job{}, err
	}
	worker := instance.Agent
	if spec.Drill != nil {
		worker = spec.Agent
	}
	agent, err := tx.Agent(worker)
	if err != nil {
		return catalog.Job{}, err
	}
	if agent.State == catalog.AgentRevoked {
		return catalog.Job{}, fmt.Errorf("agent %s is revoked: %w", agent.Name, errs.Conflict)
	}
	at := time.Now().UTC().Round(0)
	j := catalog.Job{ID: spec.ID, Kind: catalog.JobBackup, State: catalog.JobQueued, Instance: instance.ID, InstanceName: instance.FullName(),
		Agent: agent.ID, Backup: spec.Backup, Restore: spec.Restore, Drill: spec.Drill, Created: at, CreatedBy: spec.By, NextAttempt: at}
	if spec.Restore != nil {
		j.Kind = catalog.JobRestore
		if _, err := usable(tx, spec.Restore.Snapshot); err != nil {
			return j, err
		}
		j.SnapshotID = spec.Restore.Snapshot
	}
	if spec.Drill != nil {
		j.Kind = catalog.JobDrill
		s, err := usable(tx, spec.Drill.Snapshot)
		if err != nil {
			return j, err
		}
		if s.Instance != instance.ID {
			return j, fmt.Errorf("snapshot %s is not of instance %s: %w", s.ID, instance.FullName(), errs.Invalid)
		}
		j.SnapshotID = s.ID
	}
	return j, nil
}

// usable gives a snapshot that is not being purged. The purger decides in a
// transaction too, so that a job journaled before it is seen there, and one that
// comes after it is refused here.
func usable(tx *catalog.Tx, id repo.JobID) (catalog.Snapshot, error) {
	s, err := tx.Snapshot(id)
	if err == nil && !s.Purged.IsZero() {
		err = fmt.Errorf("snapshot %s is being purged since %s: %w", id.Short(), s.Purged.UTC().Format(time.RFC3339), errs.Conflict)
	}
	return s, err
}

// sameWork tells whether two jobs were asked for in the same words.
func sameWork(a, b catalog.Job) bool {
	if a.Kind != b.Kind || a.Instance != b.Instance || a.Agent != b.Agent {
		return false
	}
	return reflect.DeepEqual(plain(a), plain(b))
}

// plain gives what was asked for with empty lists as nil, as they are read back.
func plain(j catalog.Job) any {
	if j.Backup != nil {
		b := *j.Backup
		b.Databases, b.Exclude = filled(b.Databases), filled(b.Exclude)
		return b
	}
	if j.Restore != nil {
		r := *j.Restore
		r.Databases = filled(r.Databases)
		return r
	}
	if j.Drill != nil {
		d := *j.Drill
		d.Databases, d.Assertions = filled(d.Databases), filled(d.Assertions)
		d.AgentName, d.Placement = "", nil // how it was placed was not asked for
		return d
	}
	return nil
}

func filled[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// Cancel asks a job to stop: a queued one ends at once, an executing one when its
// agent has stopped, at the latest after a minute. A job whose snapshot is being
// written is Conflict: wait for it. So is one that has ended.
func (m *Manager) Cancel(ctx context.Context, id repo.JobID, by, reason string) (catalog.Job, error) {
	var told Ref
	why := "canceled by " + by
	if reason != "" {
		why += ": " + reason
	}
	job, err := m.change(ctx, id, func(c *change) error {
		told = Ref{}
		if c.job.State == catalog.JobCanceled {
			return errUnchanged
		}
		if err := c.fire(EventCancel, why); err != nil {
			return err
		}
		if !c.job.CancelRequested {
			c.job.CancelRequested, c.job.CancelBy, c.job.CancelReason = true, by, clip(reason)
		}
		if c.job.State == catalog.JobLeased || c.job.State == catalog.JobRunning {
			told = Ref{Job: id, Fence: c.job.Current}
			c.job.Message = clip(why)
			return c.note("warn", "asked to stop: %s", why)
		}
		return nil
	})
	if err != nil {
		return job, fmt.Errorf("cancel job %s: %w", id, err)
	}
	if told != (Ref{}) {
		m.dispatch.Cancel(job.Agent, told, why)
	}
	return job, nil
}
