package forget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// The pace of a Purger.
const (
	// roundEvery is how often it looks for what is due.
	roundEvery = 5 * time.Minute
	// settleTime is how long it waits after a start: agents connect meanwhile, who
	// vouch for the clock.
	settleTime = time.Minute
	// batch is how many snapshots one transaction decides about.
	batch = 100
)

// Catalog is where it is decided. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Clock tells whether the clock may be believed. *clock.Guard implements it.
type Clock interface {
	Check(ctx context.Context, closely bool) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Deps are what a Purger stands on.
type Deps struct {
	Catalog Catalog
	Store   blob.Store
	Clock   Clock
	Trail   Trail
	Events  interface{ Publish(event.Event) }
	Users   *Users
	// Delay between forgetting and purging.
	Delay time.Duration
	Log   *zap.Logger
}

// Purger makes the objects of forgotten snapshots go once their delay is over. For
// each snapshot, in this order:
//
//  1. A synchronous record says that it is purged, in the transaction that checks
//     that deletion is not paused, and that the snapshot is forgotten, due, held by
//     nothing and used by no unfinished job. From here on nothing brings it back: it
//     cannot be used, held or unforgotten.
//  2. Its object is deleted from the store, unless an export that had begun before
//     still reads it: then later.
//  3. One synchronous transaction drops its record and notes for prune that the
//     domain has something.
//
// A crash after step 1, or a store that does not answer or whose lock has not
// ended, leaves a record that says purged: the next round makes sure that the log
// has it and that deletion is still not paused, and goes on with step 2. After
// step 2 the object is gone and the record is there: deleting nothing is no error,
// and step 3 follows. Until then start-up knows the object, should it find it, as
// one that goes.
//
// While the clock is in doubt nothing is decided; what was forgotten while it was
// waits the whole delay again once it is believed.
type Purger struct {
	d Deps

	mu       sync.Mutex
	deferred map[repo.JobID]string // what the store refused, and why
}

// NewPurger makes a Purger; Run gives it life.
func NewPurger(d Deps) *Purger {
	d.Log = d.Log.Named("forget")
	return &Purger{d: d, deferred: map[repo.JobID]string{}}
}

// Run purges until ctx ends.
func (p *Purger) Run(ctx context.Context) error {
	next := time.NewTimer(settleTime)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
		if err := p.Round(ctx); err != nil && ctx.Err() == nil {
			p.d.Log.Warn("snapshots not purged, will try again", zap.Error(err), zap.Duration("pause", roundEvery))
		}
		next.Reset(roundEvery)
	}
}

// Deferred tells how many purged snapshots the store does not let go yet, and
// what it says of one of them.
func (p *Purger) Deferred() (n int, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.deferred {
		why = w
	}
	return len(p.deferred), why
}

// Round does what is due now.
func (p *Purger) Round(ctx context.Context) error {
	work, err := p.look(ctx)
	if err != nil {
		return err
	}
	if err := p.d.Clock.Check(ctx, work.any()); err != nil {
		if errors.Is(err, errs.Conflict) {
			return nil // the clock's guard has said so
		}
		return err
	}
	if err := p.restart(ctx, work.doubtful); err != nil {
		return err
	}
	confirmed, err := p.confirm(ctx, work.purged)
	if err != nil {
		return err
	}
	decided, err := p.decide(ctx, work.due)
	if err != nil {
		return err
	}
	for _, s := range append(confirmed, decided...) {
		if err := p.remove(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// work is what a round finds to do, at most batch of each.
type work struct {
	// purged in an earlier round, due in this one, forgotten in doubt.
	purged, due, doubtful []repo.JobID
}

func (w *work) any() bool { return len(w.purged)+len(w.due)+len(w.doubtful) > 0 }

func (p *Purger) look(ctx context.Context) (*work, error) {
	out := &work{}
	now := time.Now()
	err := p.d.Catalog.View(ctx, func(tx *catalog.Tx) error {
		for page := (catalog.Page{Size: catalog.MaxPage}); ; {
			rows, next, err := tx.Snapshots(page, func(s catalog.Snapshot) bool { return !s.Live() })
			if err != nil {
				return err
			}
			for _, s := range rows {
				switch {
				case !s.Purged.IsZero():
					out.purged = append(out.purged, s.ID)
				case s.Forgotten.Doubtful:
					out.doubtful = append(out.doubtful, s.ID)
				case mayPurge(s, now, p.d.Delay):
					out.due = append(out.due, s.ID)
				}
			}
			if page.Token = next; next == "" {
				return nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for forgotten snapshots: %w", err)
	}
	out.purged, out.due, out.doubtful = out.purged[:min(batch, len(out.purged))], out.due[:min(batch, len(out.due))], out.doubtful[:min(batch, len(out.doubtful))]
	return out, nil
}

// restart begins the delay of what was forgotten while the clock was in doubt.
func (p *Purger) restart(ctx context.Context, ids []repo.JobID) error {
	if len(ids) == 0 {
		return nil
	}
	return p.d.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		now := time.Now()
		for _, id := range ids {
			s, err := tx.Snapshot(id)
			if errors.Is(err, errs.NotFound) || err == nil && !s.Forgotten.Doubtful {
				continue
			}
			if err != nil {
				return err
			}
			s.Forgotten.Time, s.Forgotten.PurgeAfter, s.Forgotten.Doubtful = now, now.Add(p.d.Delay), false
			if err := tx.PutSnapshot(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// confirm makes sure that what an earlier round decided is in the log, and still
// permitted: the earlier transaction may not have reached the store.
func (p *Purger) confirm(ctx context.Context, ids []repo.JobID) (out []catalog.Snapshot, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	err = p.d.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		out = out[:0]
		if err := tx.MayDelete(); err != nil {
			return err
		}
		for _, id := range ids {
			s, err := tx.Snapshot(id)
			if err == nil {
				err = tx.PutSnapshot(s)
			}
			if err != nil {
				return err
			}
			out = append(out, s)
		}
		return nil
	})
	return p.unlessPaused(out, err)
}

// decide records which of the snapshots that are due are purged.
func (p *Purger) decide(ctx context.Context, ids []repo.JobID) (out []catalog.Snapshot, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	err = p.d.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		out = out[:0]
		if err := tx.MayDelete(); err != nil {
			return err
		}
		used, err := usedByJobs(tx)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, id := range ids {
			s, err := tx.Snapshot(id)
			if errors.Is(err, errs.NotFound) || err == nil && (!mayPurge(s, now, p.d.Delay) || used[id] || p.d.Users.Uses(id)) {
				continue
			}
			if err != nil {
				return err
			}
			s.Purged = now
			if err := errors.Join(tx.PutSnapshot(s), tx.PermitDelete(now, repo.SnapshotObject(s.Instance, id)), p.d.Trail.Append(tx, catalog.AuditRecord{Actor: "controller", Action: "snapshot.purge", Object: "snapshot " + s.ID.String(),
				Outcome: audit.OK, Detail: fmt.Sprintf("of %s, forgotten %s by %s: %s", s.InstanceName, at(s.Forgotten.Time), s.Forgotten.By, s.Forgotten.Reason)})); err != nil {
				return err
			}
			out = append(out, s)
		}
		return nil
	})
	return p.unlessPaused(out, err)
}

// unlessPaused takes a pause for a round without work: status tells of it.
func (p *Purger) unlessPaused(out []catalog.Snapshot, err error) ([]catalog.Snapshot, error) {
	if errors.Is(err, errs.Conflict) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decide what is purged: %w", err)
	}
	return out, nil
}

// remove deletes the object of a purged snapshot and then its record.
func (p *Purger) remove(ctx context.Context, s catalog.Snapshot) error {
	if p.d.Users.Uses(s.ID) {
		return nil
	}
	key := repo.SnapshotObject(s.Instance, s.ID)
	err := p.d.Store.Delete(ctx, key)
	if blob.Deferred(err) {
		p.defers(s, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := p.d.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error { return dropped(tx, s, time.Now()) }); err != nil {
		return fmt.Errorf("drop the record of purged snapshot %s: %w", s.ID, err)
	}
	p.mu.Lock()
	delete(p.deferred, s.ID)
	p.mu.Unlock()
	p.d.Log.Info("snapshot purged", zap.Stringer("snapshot_id", s.ID), logging.Instance(s.InstanceName))
	p.d.Events.Publish(event.Event{Kind: event.SnapshotPurged, Agent: s.Agent, Instance: s.InstanceName, Snapshot: s.ID, Message: "forgotten by " + s.Forgotten.By + ": " + s.Forgotten.Reason})
	return nil
}

// defers remembers what the store refused: its lock has not ended, or it lacks a right.
func (p *Purger) defers(s catalog.Snapshot, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.deferred[s.ID]; !known {
		p.d.Log.Warn("the store does not let a purged snapshot go yet", zap.Stringer("snapshot_id", s.ID), zap.Error(err))
	}
	p.deferred[s.ID] = err.Error()
}
