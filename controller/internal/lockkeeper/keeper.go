// Package lockkeeper extends the locks of the objects that the repository needs,
// before they end (docs/FORMAT.md, "Locks"). It owns when that is done and how far
// it is; the store owns the locks, and internal/repo how long each is.
package lockkeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

const (
	// retryEvery is the pause after the store or the catalog did not answer.
	retryEvery = time.Minute
	// checkEvery bounds how long nothing is looked at, whatever the clock was set to.
	checkEvery = time.Hour
	// pageKeys is how many objects are extended between two notes of the position:
	// what a crash has done again.
	pageKeys = 256
)

// Catalog is where the position is noted.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Kept says which objects of a page are needed still: what is to be deleted
// should not be locked once more. An object that is extended without need is
// deleted later, and that is all.
type Kept func(tx *catalog.Tx, keys []string) ([]string, error)

// Keeper extends locks.
//
// Each part of the store has rounds of its own. A round begins when half of a
// lock's length has passed since the last one began, goes through the part in the
// order of keys, and extends every object to the whole length from that moment
// on: one request an object in half a length. What came after the last round
// began was locked when it was made. So nothing ends before the next round if that
// takes less than the other half.
//
// After each page the position is noted; a crash extends one page again.
type Keeper struct {
	store   blob.Store
	catalog Catalog
	kept    Kept
	log     *zap.Logger
}

// New makes a Keeper; Run gives it life. kept may be nil: then everything is kept.
func New(store blob.Store, c Catalog, kept Kept, log *zap.Logger) *Keeper {
	return &Keeper{store: store, catalog: c, kept: kept, log: log.Named("locks")}
}

// Run extends locks until ctx ends. In a store that locks nothing it does nothing.
func (k *Keeper) Run(ctx context.Context) error {
	locker, err := blob.AsLocker(k.store)
	if err != nil {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		next, err := k.pass(ctx, locker)
		if err != nil && ctx.Err() == nil {
			k.log.Warn("extending locks was interrupted, will try again", zap.Error(err), zap.Duration("pause", retryEvery))
			next = retryEvery
		}
		wait(ctx, min(next, checkEvery))
	}
	return nil
}

// pass goes through every part that is due, and tells how long nothing will be.
func (k *Keeper) pass(ctx context.Context, locker blob.Locker) (time.Duration, error) {
	rounds, err := k.rounds(ctx)
	if err != nil {
		return 0, err
	}
	next := checkEvery
	var failed error
	for _, prefix := range repo.LockedPrefixes() {
		length := locker.LockTime(prefix)
		if length <= 0 {
			continue
		}
		round := roundOf(rounds, prefix)
		if left := due(round, length, time.Now()); left > 0 {
			next = min(next, left)
			continue
		}
		// One part that cannot be extended must not keep the others from it.
		if err := k.round(ctx, locker, round, length); err != nil {
			failed = errors.Join(failed, err)
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return next, failed
}

// due tells how long a part need not be looked at; 0 or less when a round is under
// way or due. A last round in the future is of a clock that was wrong.
func due(r catalog.LockRound, length time.Duration, now time.Time) time.Duration {
	if !r.Started.IsZero() || r.Covered.IsZero() || r.Covered.After(now) {
		return 0
	}
	return r.Covered.Add(length / 2).Sub(now)
}

// late tells whether locks may end before a round that is under way reaches them.
func late(r catalog.LockRound, length time.Duration, now time.Time) bool {
	return !r.Covered.IsZero() && now.Sub(r.Covered) > length*3/4
}

// round goes on with a part's round, or begins one, to its end.
func (k *Keeper) round(ctx context.Context, locker blob.Locker, r catalog.LockRound, length time.Duration) error {
	if r.Started.IsZero() {
		r.Started, r.After, r.Objects, r.Failed = now(), "", 0, 0
		if r.Prefix == repo.CatalogPrefix {
			var err error
			if r.After, err = repo.NeededLog(ctx, k.store); err != nil {
				return err
			}
		}
	}
	for {
		if late(r, length, time.Now()) {
			k.log.Error("locks may end before they are extended", zap.String("prefix", r.Prefix), zap.Time("last_round", r.Covered), zap.Duration("lock_length", length))
		}
		keys, err := k.page(ctx, r)
		if err != nil {
			return err
		}
		if err := k.extend(ctx, locker, &r, keys); err != nil {
			return err
		}
		if len(keys) < pageKeys { // it was the last page
			r.Covered, r.CoveredObjects, r.CoveredFailed = r.Started, r.Objects, r.Failed
			r.Started, r.After, r.Objects, r.Failed = time.Time{}, "", 0, 0
			k.log.Info("locks extended", zap.String("prefix", r.Prefix), zap.Int64("objects", r.CoveredObjects), zap.Int64("failed", r.CoveredFailed))
			return k.save(ctx, r)
		}
		r.After = keys[len(keys)-1]
		if err := k.save(ctx, r); err != nil {
			return err
		}
	}
}

// page lists the next objects of a part.
func (k *Keeper) page(ctx context.Context, r catalog.LockRound) ([]string, error) {
	var keys []string
	errFull := errors.New("page is full")
	err := k.store.List(ctx, r.Prefix, r.After, func(info blob.Info) error {
		if keys = append(keys, info.Key); len(keys) == pageKeys {
			return errFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("list what is to be locked: %w", err)
	}
	return keys, nil
}

// extend extends one page. An object that cannot be extended is counted; when none
// of a page can, the round stops there.
func (k *Keeper) extend(ctx context.Context, locker blob.Locker, r *catalog.LockRound, keys []string) error {
	if k.kept != nil && len(keys) > 0 {
		keys = slices.Clone(keys)
		err := k.catalog.View(ctx, func(tx *catalog.Tx) (err error) { keys, err = k.kept(tx, keys); return err })
		if err != nil {
			return fmt.Errorf("find what is needed still: %w", err)
		}
	}
	var first error
	done, failed := int64(0), int64(0)
	for _, key := range keys {
		_, err := locker.Lock(ctx, key)
		switch {
		case err == nil:
			done++
		case errors.Is(err, errs.NotFound): // deleted since it was listed
		case errors.Is(err, errs.Unavailable) || ctx.Err() != nil:
			return err
		default:
			failed++
			first = firstOf(first, err)
		}
	}
	r.Objects += done
	r.Failed += failed
	if first == nil {
		return nil
	}
	if done == 0 {
		return first
	}
	k.log.Error("locks of some objects were not extended", zap.Int64("objects", failed), zap.Error(first))
	return nil
}

// firstOf gives the first of two errors.
func firstOf(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func (k *Keeper) rounds(ctx context.Context) (rounds []catalog.LockRound, err error) {
	err = k.catalog.View(ctx, func(tx *catalog.Tx) error { rounds, err = tx.LockRounds(); return err })
	if err != nil {
		return nil, fmt.Errorf("find how far extending locks is: %w", err)
	}
	return rounds, nil
}

func roundOf(rounds []catalog.LockRound, prefix string) catalog.LockRound {
	if i := slices.IndexFunc(rounds, func(r catalog.LockRound) bool { return r.Prefix == prefix }); i >= 0 {
		return rounds[i]
	}
	return catalog.LockRound{Prefix: prefix}
}

// save notes how far one part is.
func (k *Keeper) save(ctx context.Context, r catalog.LockRound) error {
	err := k.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		rounds, err := tx.LockRounds()
		if err != nil {
			return err
		}
		rounds = slices.DeleteFunc(rounds, func(o catalog.LockRound) bool { return o.Prefix == r.Prefix })
		return tx.PutLockRounds(append(rounds, r))
	})
	if err != nil {
		return fmt.Errorf("note how far extending locks is: %w", err)
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Round(0) }

// wait waits for a time or the end.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
