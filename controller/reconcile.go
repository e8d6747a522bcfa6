package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of a reconciliation.
const (
	// snapshotReaders is how many snapshot objects are read at once, and
	// snapshotBytes what they may have together: one object of a million tables is
	// read alone.
	snapshotReaders = 8
	snapshotBytes   = 16 << 20
	// snapshotBatch is how many are recorded in one transaction.
	snapshotBatch = 200
	// maxNamed bounds the objects that are named one by one.
	maxNamed = 100
)

// reconciler brings the catalog's snapshots in line with the objects in the
// store, which are the truth.
type reconciler struct {
	repository *repo.Repository
	catalog    *catalog.Catalog
	// all makes it read every object; else only those that the catalog does not know.
	all bool
	// beside tells that jobs run: the snapshot of one that has not ended is the job
	// manager's to record.
	beside bool
}

// reconciled tells what a reconciliation found.
type reconciled struct {
	// snapshots in the store, of which adopted were not in the catalog.
	snapshots, adopted int
	// damaged objects, at most maxNamed of them.
	damaged []error
	// absent are snapshots of the catalog without an object, but for those that are
	// being purged: the purger drops their records. Nothing was done about them.
	absent []repo.JobID
}

// run does it. Each record is one durable step, and repeating all of it changes
// nothing. An object that is damaged is told of and left for check to explain; a
// store that does not answer ends it.
func (r *reconciler) run(ctx context.Context) (*reconciled, error) {
	out := &reconciled{}
	seen := make(map[repo.JobID]struct{}) // 16 bytes a snapshot
	var batch []blob.Info
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := r.take(ctx, batch, out)
		batch = batch[:0]
		return err
	}
	err := r.repository.Store().List(ctx, repo.SnapshotsPrefix, "", func(info blob.Info) error {
		instance, id, err := repo.ParseSnapshotObject(info.Key)
		if err != nil {
			out.damage(err)
			return nil
		}
		known, err := r.known(ctx, instance, id)
		if err != nil {
			return err
		}
		seen[id] = struct{}{}
		if known {
			out.snapshots++
		}
		if known && !r.all {
			return nil
		}
		if batch = append(batch, info); len(batch) < snapshotBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = r.findAbsent(ctx, seen, out)
	}
	if err != nil {
		return nil, fmt.Errorf("compare snapshots with the store: %w", err)
	}
	return out, nil
}

func (o *reconciled) damage(err error) {
	if len(o.damaged) < maxNamed {
		o.damaged = append(o.damaged, err)
	}
}

func (r *reconciler) known(ctx context.Context, instance repo.InstanceID, id repo.JobID) (known bool, err error) {
	err = r.catalog.View(ctx, func(tx *catalog.Tx) error {
		s, err := tx.Snapshot(id)
		known = err == nil && s.Instance == instance
		if err == nil || !errors.Is(err, errs.NotFound) || !r.beside {
			return orNotFound(err)
		}
		j, err := tx.Job(id)
		known = err == nil && !j.State.Terminal()
		return orNotFound(err)
	})
	return known, err
}

// orNotFound takes nothing for an error but what is more than a record that is not there.
func orNotFound(err error) error {
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// take reads some objects and records those that are snapshots.
func (r *reconciler) take(ctx context.Context, batch []blob.Info, out *reconciled) error {
	found := make([]*ingest.Snapshot, len(batch))
	var mu sync.Mutex
	memory := semaphore.NewWeighted(snapshotBytes)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(snapshotReaders)
	for i, info := range batch {
		group.Go(func() error {
			weight := min(info.Size, snapshotBytes)
			if err := memory.Acquire(groupCtx, weight); err != nil {
				return context.Cause(groupCtx)
			}
			defer memory.Release(weight)
			instance, id, err := repo.ParseSnapshotObject(info.Key)
			if err != nil {
				return err
			}
			s, err := ingest.Describe(groupCtx, r.repository, instance, id)
			switch kind := errs.KindOf(err); {
			case err == nil:
				found[i] = &s
			case kind == errs.NotFound && !r.damaged(groupCtx, info):
				// An abort marker: its job was given up.
			case kind == errs.NotFound && r.erased(groupCtx, info):
				// It goes as soon as the store lets it.
			case kind == errs.Corrupt, kind == errs.Unsupported, kind == errs.NotFound:
				mu.Lock()
				defer mu.Unlock()
				out.damage(fmt.Errorf("%s: %w", info.Key, err))
			default:
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	adopted := 0
	err := r.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		adopted = 0
		for _, s := range found {
			if s == nil {
				continue
			}
			// Its keys are about to go, and it must not come back.
			if _, err := tx.Erasure(s.Domain); err == nil {
				continue
			} else if !errors.Is(err, errs.NotFound) {
				return err
			}
			news, err := adopt(tx, snapshotRecord(*s))
			if err != nil {
				return err
			}
			if news {
				adopted++
			}
		}
		return nil
	})
	out.adopted += adopted
	out.snapshots += adopted
	return err
}

// damaged tells an object that cannot be opened, since its domain is gone, from
// one that says that there is no snapshot.
func (r *reconciler) damaged(ctx context.Context, info blob.Info) bool {
	h, _, err := repo.CheckSnapshot(ctx, r.repository.Store(), info.Key, nil)
	return err != nil || h.State == repo.SnapshotCommitted
}

// erased tells an object of a domain that was erased.
func (r *reconciler) erased(ctx context.Context, info blob.Info) bool {
	h, _, err := repo.CheckSnapshot(ctx, r.repository.Store(), info.Key, nil)
	if err != nil {
		return false
	}
	return r.catalog.View(ctx, func(tx *catalog.Tx) error { _, err := tx.Erasure(h.Domain); return err }) == nil
}

// adopt records a snapshot as its object says it is. What the object does not
// say is kept as the catalog, or the log, has it. It tells whether it was unknown.
func adopt(tx *catalog.Tx, s catalog.Snapshot) (news bool, err error) {
	old, err := tx.Snapshot(s.ID)
	switch {
	case errors.Is(err, errs.NotFound):
		news = true
	case err != nil:
		return false, err
	case old.Instance != s.Instance:
		return false, fmt.Errorf("snapshot %s: the catalog has it of instance %s, the store of %s: %w", s.ID, old.Instance.Short(), s.Instance.Short(), errs.Corrupt)
	}
	instance, err := instanceOf(tx, s)
	if err != nil {
		return false, err
	}
	// That it is forgotten, held or purged no object says: what the log has is kept.
	s.Forgotten, s.Hold, s.Purged = old.Forgotten, old.Hold, old.Purged
	s.InstanceName, s.Incarnation, s.StoredBytes, s.SealEpoch = old.InstanceName, old.Incarnation, old.StoredBytes, max(s.SealEpoch, old.SealEpoch)
	if news {
		s.InstanceName, s.Incarnation = instance.FullName(), instance.Incarnation
		if j, err := tx.Job(s.ID); err == nil && j.Result != nil {
			s.StoredBytes = j.Result.Stats.TransferredBytes
		}
	}
	if err := tx.PutSnapshot(s); err != nil {
		return false, err
	}
	return news, settleJob(tx, s)
}

// instanceOf gives the instance of a snapshot. One that the log has lost is made
// again under a name that says so: its snapshots must stay within reach.
func instanceOf(tx *catalog.Tx, s catalog.Snapshot) (catalog.Instance, error) {
	i, err := tx.Instance(s.Instance)
	if !errors.Is(err, errs.NotFound) {
		return i, err
	}
	i = catalog.Instance{ID: s.Instance, Agent: s.Agent, AgentName: "recovered-" + s.Agent.Short(), Name: "recovered-" + s.Instance.Short(),
		Domain: s.Domain, OwnDomain: s.Domain, Incarnation: 1, SystemIdentifier: s.SystemIdentifier, FirstSeen: s.Started, LastSeen: s.Started}
	if a, err := tx.Agent(s.Agent); err == nil {
		i.AgentName = a.Name
	} else if !errors.Is(err, errs.NotFound) {
		return i, err
	}
	return i, tx.PutInstance(i)
}

// settleJob lets the job manager find the snapshot of a job that the catalog
// does not know to have ended: it is as if the controller had died between the
// put and its record.
func settleJob(tx *catalog.Tx, s catalog.Snapshot) error {
	j, err := tx.Job(s.ID)
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && j.SnapshotID == s.ID:
		return nil
	case err != nil:
		return err
	case j.State.Terminal():
		j.SnapshotID = s.ID
		return tx.PutJob(j)
	}
	if j.Current != s.Fence && j.Current != (repo.Fence{}) {
		a, err := tx.Attempt(j.ID, j.Current)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		if err == nil && !a.State.Ended() {
			a.State, a.Ended, a.Error = catalog.AttemptSuperseded, time.Now(), fmt.Sprintf("attempt %s has made the snapshot", s.Fence)
			if err := tx.PutAttempt(a); err != nil {
				return err
			}
		}
	}
	a, err := tx.Attempt(j.ID, s.Fence)
	switch {
	case errors.Is(err, errs.NotFound):
		a = catalog.Attempt{Job: j.ID, Fence: s.Fence, Agent: s.Agent, Domain: s.Domain, SealEpoch: s.SealEpoch, Started: s.Started}
		if agent, err := tx.Agent(s.Agent); err == nil {
			a.AgentName = agent.Name
		}
	case err != nil:
		return err
	}
	a.State, a.ObjectHash, a.Ended, a.Error = catalog.AttemptCommitting, s.ObjectHash, time.Time{}, ""
	if err := tx.PutAttempt(a); err != nil {
		return err
	}
	j.State, j.Current, j.Doubt = catalog.JobCommitting, s.Fence, true
	return tx.PutJob(j)
}

// findAbsent lists the snapshots of the catalog whose objects were not seen.
func (r *reconciler) findAbsent(ctx context.Context, seen map[repo.JobID]struct{}, out *reconciled) error {
	return r.catalog.View(ctx, func(tx *catalog.Tx) error {
		for page := (catalog.Page{Size: catalog.MaxPage}); ; {
			rows, next, err := tx.Snapshots(page, nil)
			if err != nil {
				return err
			}
			for _, s := range rows {
				if _, ok := seen[s.ID]; !ok && s.Purged.IsZero() {
					out.absent = append(out.absent, s.ID)
				}
			}
			if next == "" {
				return nil
			}
			page.Token = next
		}
	})
}

// drop removes the records of absent snapshots, for a store that is known to have
// been set back. One durable step.
func (r *reconciler) drop(ctx context.Context, absent []repo.JobID) error {
	if len(absent) == 0 {
		return nil
	}
	return r.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		for _, id := range absent {
			s, err := tx.Snapshot(id)
			if err == nil {
				err = tx.DeleteSnapshot(id)
			}
			if err == nil && s.Domain != (seal.DomainID{}) {
				err = tx.PutPruneNeed(s.Domain, catalog.PruneNeed{Since: time.Now(), Snapshots: 1, Bytes: s.StoredBytes})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
