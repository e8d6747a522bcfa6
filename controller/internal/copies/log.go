package copies

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// numbered is a snapshot to be copied, with the number of the log record that it
// names as the newest when it was made.
type numbered struct {
	info   blob.Info
	number uint64
}

// copyLog copies snapshots and the catalog log in the order of their numbers:
// before a record, the snapshots that were made before it, since it may speak of
// them; before a snapshot, the record that it names. So at every moment the log in
// the copy ends where its snapshots do. Packs and index files are there already.
//
// A record that is damaged ends the log in the copy, until a full record stands
// for it; snapshots go on without.
func (r *round) copyLog(ctx context.Context) (done bool, err error) {
	log := r.plan.missing[kindLog]
	limit, known := r.plan.newest, r.plan.newest // what is newer waits for the next round
	if r.plan.cut[kindLog] {
		if limit, _, err = repo.ParseCatalogObject(log[len(log)-1].Key); err != nil {
			return false, err
		}
	}
	snapshots, err := r.number(ctx)
	if err != nil {
		return false, err
	}
	take := func(below uint64) error {
		var batch []blob.Info
		for len(snapshots) > 0 && snapshots[0].number < below {
			batch = append(batch, snapshots[0].info)
			snapshots = snapshots[1:]
		}
		return r.copyMany(ctx, batch, workers)
	}
	broken := false
	for _, info := range log {
		n, full, err := repo.ParseCatalogObject(info.Key)
		if err != nil {
			return false, err
		}
		if broken && !full {
			r.leftOut.Add(1)
			continue
		}
		if err := take(n); err != nil {
			return false, err
		}
		if r.moved.Load() {
			return false, nil
		}
		ok, err := r.copyOne(ctx, info)
		switch {
		case errors.Is(err, errDiffers):
			return false, r.f.rolledBack(ctx, repo.Witness{Repository: r.f.s.d.Repository.ID(), Number: n}, err)
		case err != nil:
			return false, err
		case r.moved.Load():
			return false, nil
		case ok:
			broken = false
			r.f.logAt = n
		case !full:
			broken = true
			r.f.logAt = 0 // look at the whole log again
		}
	}
	below := limit + 1
	if broken {
		below = math.MaxUint64
	}
	if err := take(below); err != nil {
		return false, err
	}
	if len(log) == 0 && r.f.logAt == 0 {
		r.f.logAt = known
	}
	return len(snapshots) == 0 && !r.moved.Load() && !r.plan.cut[kindLog] && !r.plan.cut[kindSnapshot], nil
}

// number reads from the missing snapshots which record they name, and puts them
// in that order. One that cannot be read comes first and is found damaged.
func (r *round) number(ctx context.Context) ([]numbered, error) {
	out := make([]numbered, len(r.plan.missing[kindSnapshot]))
	for i, info := range r.plan.missing[kindSnapshot] {
		n, err := r.f.s.d.Repository.SnapshotLogNumber(ctx, info.Key, info.Size)
		if err != nil && !errors.Is(err, errs.NotFound) && !atFault(ctx, r.from, err) {
			return nil, err
		}
		out[i] = numbered{info, n}
	}
	slices.SortStableFunc(out, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}
