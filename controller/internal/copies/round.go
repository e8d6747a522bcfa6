package copies

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// workers is how many objects are copied at once: each holds one spool file, and
// a store gives hardly more from more.
const workers = 4

// wholeEvery is how often the whole catalog log is compared; between, what came
// after the newest record that was copied.
const wholeEvery = 24 * time.Hour

// round is one round of a follower.
type round struct {
	f        *follower
	from, to blob.Store
	plan     *plan
	due      []string // permits whose objects are gone here
	// moved tells that an object went while the round was under way; leftOut counts
	// those that are damaged.
	moved   atomic.Bool
	leftOut atomic.Int64
}

// round brings the copy up to date; see the package's comment for its steps and
// their order. again tells that more is known to be missing. It may end anywhere,
// by an error or with the process: what was copied refers to nothing that was
// not, and the next round finds the rest.
func (f *follower) round(ctx context.Context) (again bool, err error) {
	to, err := f.open(ctx)
	if err != nil {
		return false, err
	}
	r := &round{f: f, from: f.s.d.Repository.Store(), to: to}
	if r.due, err = f.permitsDue(ctx, r.from); err != nil {
		return false, err
	}
	whole := f.logAt == 0 || time.Since(f.whole) > wholeEvery
	after := ""
	if !whole {
		after = repo.LogObject(f.logAt - 1) // a full record of the number may have come since
	}
	began := now()
	if r.plan, err = compare(ctx, r.from, to, after); err != nil {
		return false, err
	}
	f.comparing = time.Since(began)
	r.begin(began)
	done, err := r.copyAll(ctx)
	if err != nil {
		return false, err
	}
	if whole && done {
		f.whole = time.Now()
		err = r.trimLog(ctx)
	}
	if err == nil && done && r.leftOut.Load() == 0 {
		err = r.remove(ctx)
	}
	if err == nil {
		err = r.settle(ctx)
	}
	if err == nil {
		r.end(done)
	}
	return !done, err
}

// begin notes what the comparison found.
func (r *round) begin(at time.Time) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	s := &r.f.state
	s.Compared, s.Objects, s.Bytes, s.Oldest = at, r.plan.objects, r.plan.bytes, r.plan.oldest
	if r.plan.objects > 0 {
		r.f.phase = PhaseCopying
	}
}

// copied takes an object off what is missing.
func (r *round) copied(info blob.Info) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.state.Objects--
	r.f.state.Bytes -= info.Size
}

// end notes how the round ended.
func (r *round) end(done bool) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	s := &r.f.state
	s.LeftOut = r.leftOut.Load()
	if !done {
		return
	}
	// What was left out is told by itself: no lag ends by waiting for it.
	s.Objects, s.Bytes, s.Oldest = 0, 0, time.Time{}
	if s.Strays == 0 {
		s.Returned = false // whatever is in it alone from now on was lost
	}
	s.Complete = s.Compared
}

// copyAll copies what is missing, forwards. It tells whether everything that the
// comparison found is there now, or left out.
func (r *round) copyAll(ctx context.Context) (done bool, err error) {
	// A step that could not be finished ends the round before what refers to it.
	for _, k := range []kind{kindKey, kindDomain, kindCA, kindEpoch, kindPack, kindIndex} {
		atOnce := workers
		if k != kindPack && k != kindIndex {
			atOnce = 1 // generations and epochs have no gaps
		}
		if err := r.copyMany(ctx, r.plan.missing[k], atOnce); err != nil {
			return false, err
		}
		if r.plan.cut[k] || r.moved.Load() {
			return false, nil
		}
	}
	return r.copyLog(ctx)
}

// copyMany copies objects that do not refer to one another, some at a time.
func (r *round) copyMany(ctx context.Context, all []blob.Info, atOnce int) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, info := range all {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error {
			_, err := r.copyOne(gctx, info)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// errDiffers is the error of an object that is in the copy with other bytes.
var errDiffers = fmt.Errorf("the copy has another object under this key: %w", errs.Conflict)

// copyOne copies one object. One that is gone, or damaged, is no error: there is
// then nothing in the copy, or what was there before.
func (r *round) copyOne(ctx context.Context, info blob.Info) (ok bool, err error) {
	got, err := r.f.s.fetch.fetch(ctx, r.from, info.Key, r.f.pace)
	switch {
	case errors.Is(err, errs.NotFound):
		r.moved.Store(true)
		return false, nil
	case atFault(ctx, r.from, err):
		r.leftOut.Add(1)
		r.f.log.Error("object is damaged and was not copied", zap.String("object", info.Key), zap.Error(err))
		return false, r.f.s.foundDamaged(ctx, info.Key)
	case err != nil:
		return false, err
	}
	defer got.release()
	err = r.to.Create(ctx, info.Key, got.body)
	if errors.Is(err, errs.Exists) {
		equal := false
		if equal, err = blob.Equal(ctx, r.to, info.Key, got.body); err == nil && !equal {
			err = errDiffers
		}
	}
	if err == nil {
		err = r.seen(ctx, info.Key, got.body.Size())
	}
	if err != nil {
		return false, fmt.Errorf("copy object %s: %w", info.Key, err)
	}
	r.copied(info)
	return true, nil
}

// seen looks for an object whose put was reported as done, before anything that
// refers to it is put: a store may lose it without a word.
func (r *round) seen(ctx context.Context, key string, size int64) error {
	there, err := r.to.Stat(ctx, key)
	switch {
	case errors.Is(err, errs.NotFound):
		return fmt.Errorf("reported as written, and it is not there: %w", errs.Unavailable)
	case err == nil && there.Size != size:
		return fmt.Errorf("%d bytes of %d are there: %w", there.Size, size, errs.Unavailable)
	}
	return err
}

// settle looks at what the comparison found strange: objects that differ, and
// those that are in the copy alone. A good one heals a bad one.
func (r *round) settle(ctx context.Context) error {
	for _, key := range r.plan.differ {
		for _, store := range []string{"", r.f.o.Name} {
			if _, err := r.f.s.Heal(ctx, store, key); err != nil && !notHealed(err) {
				return err
			}
		}
	}
	left := int64(0)
	if len(r.plan.strays) > 0 {
		var err error
		if left, err = r.settleStrays(ctx); err != nil {
			return err
		}
		left += r.plan.strayCount - int64(len(r.plan.strays)) // not looked at yet
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.state.Strays = left
	return nil
}

// maxPutBack bounds the strays that one round puts back.
const maxPutBack = 1000

// settleStrays puts objects back that the repository's own store has lost, in
// write order, unless a person has yet to decide which store is right. It gives
// the number of those that are still in the copy alone.
func (r *round) settleStrays(ctx context.Context) (left int64, err error) {
	lost, err := r.lost(ctx)
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	may, err := r.f.s.mayDelete(ctx)
	if err != nil {
		return 0, err
	}
	if r.f.state.Returned || !may {
		return int64(len(lost)), nil
	}
	for _, k := range []kind{kindDomain, kindCA, kindPack, kindIndex, kindSnapshot} {
		for _, key := range lost {
			if kindOf(key) != k {
				continue
			}
			if _, err := r.f.s.Heal(ctx, "", key); err == nil {
				left--
			} else if !notHealed(err) {
				return 0, err
			}
		}
	}
	return left + int64(len(lost)), nil
}

// lost gives the strays that the repository's own store really does not have and
// that nothing permits to delete. A record of the log beyond its end there means
// that it was set back.
func (r *round) lost(ctx context.Context) (lost []string, err error) {
	for _, key := range r.plan.strays {
		permitted, err := r.f.s.permitted(ctx, key)
		if err != nil {
			return nil, err
		}
		if permitted {
			continue
		}
		_, err = r.from.Stat(ctx, key)
		if err == nil {
			continue
		}
		if !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		if domain, _, err := repo.ParseIndexObject(key); err == nil {
			if others, err := holds(ctx, r.from, repo.IndexPrefix(domain)); err != nil || others {
				if err != nil {
					return nil, err
				}
				continue // merged into those; see mergedAway
			}
		}
		if n, full, err := repo.ParseCatalogObject(key); err == nil {
			if full {
				continue // one of this number may never have been put again
			}
			return nil, r.f.rolledBack(ctx, repo.Witness{Repository: r.f.s.d.Repository.ID(), Number: n}, errs.Conflict)
		}
		if lost = append(lost, key); len(lost) == maxPutBack {
			break
		}
	}
	return lost, nil
}
