package prune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// orphanAge is how old a pack must be that nobody knows before it may go: a put
// that was given up can still land.
const orphanAge = 7 * 24 * time.Hour

// known is what the catalog says of the packs of a domain at one moment. It is
// read after the packs are listed and before the snapshots are: a pack that is
// listed is then protected, or its job has ended, and its snapshot is seen.
type known struct {
	// intents may or may not be in the store, whole.
	intents map[pack.ID]struct{}
	// protected packs have a record: their job has not ended, or they are not indexed.
	protected map[pack.ID]struct{}
	// condemned packs by any prune of the domain.
	condemned map[pack.ID]struct{}
	prunes    map[repo.ID]struct{}
	epoch     uint64
}

// unfinished are the states of jobs that have not ended.
func unfinished() []catalog.JobState {
	var out []catalog.JobState
	for s := catalog.JobQueued; !s.Terminal(); s++ {
		out = append(out, s)
	}
	return out
}

// readKnown reads it in one transaction. Memory: 32 bytes and a little for each
// pack of jobs under way and of condemned ones, of which there are bounds.
func readKnown(tx *catalog.Tx, domain seal.DomainID, epoch uint64) (*known, error) {
	k := &known{intents: map[pack.ID]struct{}{}, protected: map[pack.ID]struct{}{}, condemned: map[pack.ID]struct{}{}, prunes: map[repo.ID]struct{}{}, epoch: epoch}
	take := func(p catalog.Pack, err error) error {
		if err != nil || p.Domain != domain {
			return err
		}
		if p.State == catalog.PackIntent {
			k.intents[p.ID] = struct{}{}
		}
		k.protected[p.ID] = struct{}{}
		return nil
	}
	for _, state := range []catalog.PackState{catalog.PackIntent, catalog.PackStored} {
		for p, err := range tx.OpenPacks(state) {
			if err := take(p, err); err != nil {
				return nil, err
			}
		}
	}
	for j, err := range tx.JobsIn(unfinished()...) {
		if err != nil {
			return nil, err
		}
		for p, err := range tx.PacksOf(j.ID) {
			if err := take(p, err); err != nil {
				return nil, err
			}
		}
	}
	prunes, err := tx.Prunes()
	if err != nil {
		return nil, err
	}
	for _, p := range prunes {
		k.prunes[p.ID] = struct{}{}
		if p.Domain != domain {
			continue
		}
		for id, err := range tx.CondemnedBy(p.ID) {
			if err != nil {
				return nil, err
			}
			k.condemned[id] = struct{}{}
		}
	}
	return k, nil
}

func (k *known) isProtected(id pack.ID) bool {
	_, ok := k.protected[id]
	return ok
}

// standing decides what a pack counts for. indexed tells that the domain's index
// names it, ended that its job is known to have ended, or not known at all.
func (k *known) standing(p *check.PackUse, indexed, ended bool, now time.Time) check.Standing {
	if _, ok := k.condemned[p.ID]; ok {
		return check.Condemned
	}
	if _, ok := k.intents[p.ID]; ok {
		return check.Ignored
	}
	_, own := k.prunes[repo.ID(p.Job)]
	if own || indexed || k.isProtected(p.ID) {
		return check.Stays
	}
	// Nobody knows it: an orphan.
	if now.Sub(p.Created) >= orphanAge && (p.Epoch < k.epoch || ended) {
		return check.Stays
	}
	return check.Ignored
}

// waitsFor gives the jobs that must have ended before anything that was
// condemned now is copied and deleted: every one that has ever had an attempt. One
// that has had none asks only from now on.
func waitsFor(tx *catalog.Tx) (ids []repo.JobID, err error) {
	for j, err := range tx.JobsIn(unfinished()...) {
		if err != nil {
			return nil, err
		}
		if j.Current != (repo.Fence{}) {
			ids = append(ids, j.ID)
		}
	}
	return ids, nil
}

// jobEnded tells whether a job has ended; one that the catalog does not know has.
func jobEnded(tx *catalog.Tx, id repo.JobID) (bool, error) {
	j, err := tx.Job(id)
	if errors.Is(err, errs.NotFound) {
		return true, nil
	}
	return err == nil && j.State.Terminal(), err
}

// waiting tells what a condemned prune waits for; empty when for nothing more.
func waiting(tx *catalog.Tx, p catalog.Prune, minAge time.Duration, now time.Time) (string, error) {
	left := 0
	var first repo.JobID
	for _, id := range p.Jobs {
		ended, err := jobEnded(tx, id)
		if err != nil {
			return "", err
		}
		if !ended {
			if left++; left == 1 {
				first = id
			}
		}
	}
	due := p.Condemned.Add(minAge)
	switch {
	case left == 1:
		return fmt.Sprintf("job %s, which has not ended", first.Short()), nil
	case left > 1:
		return fmt.Sprintf("%d jobs that have not ended, the first is %s", left, first.Short()), nil
	case now.Before(due):
		return "readers outside the controller, until " + due.UTC().Format(time.RFC3339), nil
	}
	return "", nil
}

// snapshotsOf gives the snapshots of a domain that the catalog has.
func snapshotsOf(ctx context.Context, c Catalog, domain seal.DomainID, fn func(catalog.Snapshot) error) error {
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		var rows []catalog.Snapshot
		err := c.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, page.Token, err = tx.Snapshots(page, func(s catalog.Snapshot) bool { return s.Domain == domain })
			return err
		})
		if err != nil {
			return err
		}
		for _, s := range rows {
			if err := fn(s); err != nil {
				return err
			}
		}
		if page.Token == "" {
			return nil
		}
	}
}
