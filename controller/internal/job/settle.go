package job

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// keepSettling asks the store about jobs whose snapshot may or may not exist and
// whose agent is gone. It is apart from keepTime, so that a slow store costs no
// lease.
func (m *Manager) keepSettling(ctx context.Context) error {
	for {
		for _, id := range m.takeSettling() {
			err := m.settle(ctx, id, true)
			if errors.Is(err, errs.NotFound) {
				m.forget(id)
				continue
			}
			if err != nil && ctx.Err() == nil {
				m.log.Warn("snapshot not resolved, will try again", zap.Stringer("job_id", id), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.settling:
		}
	}
}

func (m *Manager) takeSettling() []repo.JobID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []repo.JobID
	for id, e := range m.jobs {
		if e.settle {
			e.settle = false
			ids = append(ids, id)
		}
	}
	return ids
}

// settle finds out what became of the snapshot of a committing job, in this order:
//
//  1. A job that is ending gets an abort marker in the store. A crash after it
//     leaves the marker, and the next start finds it.
//  2. Whatever is in the store then is journaled: a snapshot, the marker, or, when
//     giveUp says that nobody may be committing any more, that there is nothing: the
//     job is tried again, or ends, by step 1.
func (m *Manager) settle(ctx context.Context, id repo.JobID, giveUp bool) error {
	var j catalog.Job
	var a catalog.Attempt
	err := m.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if j, err = tx.Job(id); err != nil || j.State != catalog.JobCommitting {
			return err
		}
		a, err = tx.Attempt(id, j.Current)
		return err
	})
	if err != nil || j.State != catalog.JobCommitting {
		return err
	}
	presence, snapshot, err := m.ask(ctx, j, a)
	if err != nil {
		return err
	}
	switch presence {
	case Present:
		return m.Committed(ctx, snapshot)
	case Aborted:
		return m.settled(ctx, j, EventAborted, j.Message)
	case Absent:
		if giveUp && j.Ending == 0 {
			return m.settled(ctx, j, EventExpired, "the agent was lost while its snapshot was being written, and the store does not have it")
		}
	}
	return nil
}

func (m *Manager) ask(ctx context.Context, j catalog.Job, a catalog.Attempt) (Presence, catalog.Snapshot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storeTimeout, fmt.Errorf("the store did not answer within %s: %w", storeTimeout, errs.Timeout))
	defer cancel()
	if j.Ending != 0 {
		return m.store.Abort(ctx, j.Instance, a)
	}
	return m.store.Find(ctx, j.Instance, a)
}

// settled journals what the store said, unless the job has moved on meanwhile.
func (m *Manager) settled(ctx context.Context, was catalog.Job, e Event, why string) error {
	_, err := m.change(ctx, was.ID, func(c *change) error {
		if c.job.State != catalog.JobCommitting || c.job.Current != was.Current || c.job.Ending != was.Ending {
			return errUnchanged
		}
		return c.fire(e, why)
	})
	return err
}
