package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Catalog is where everything is kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Chunks moves chunks and knows where they are. *ingest.Server implements it.
type Chunks interface {
	Condemn(domain seal.DomainID, packs []pack.ID) (decide func(waits []repo.JobID))
	Pardon(domain seal.DomainID, packs []pack.ID)
	CopyFrames(ctx context.Context, c ingest.Copying) (bytes int64, err error)
	ReplaceIndexes(ctx context.Context, domain seal.DomainID, gone []pack.ID, waiting func(context.Context, pack.ID) (bool, error)) error
	DropPacks(ctx context.Context, domain seal.DomainID, packs []pack.ID) error
	HasPack(ctx context.Context, domain seal.DomainID, id pack.ID) (bool, error)
	Damaged(domain seal.DomainID, id pack.ID, offset int64) bool
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Deps are what a Pruner stands on.
type Deps struct {
	Repository *repo.Repository
	Catalog    Catalog
	Chunks     Chunks
	Trail      Trail
	// Adopt records the snapshots that are in the store and not in the catalog. It
	// fails when there is one of which nobody can tell what it needs.
	Adopt func(ctx context.Context) error
	// Clear forgets the damage of packs that are gone.
	Clear func(ctx context.Context, domain seal.DomainID, packs ...pack.ID) error
	// Ballast is let go when the store is full; nil for a store that never is.
	Ballast *Ballast
	// Dir is a folder for sorted files.
	Dir string
	// Epoch is the controller's.
	Epoch uint64
	Log   *zap.Logger
}

// Pruner prunes domains, one at a time:
//
//  1. Snapshots that the catalog does not know are adopted. What is needed is what
//     snapshots name; packs of jobs that have not ended stay whatever is in them.
//  2. Packs are condemned, in the catalog, with the jobs that have not ended. After
//     a crash here the next start goes on with the wait, and nothing in the packs
//     counts as stored.
//  3. It waits until each of those jobs has ended, and besides Options.MinAge.
//  4. What is needed is found out again, and what of it is in condemned packs only
//     is copied into new packs, durable and indexed; that this is so is in the
//     catalog then. After a crash before that the step is done again, and finds the
//     packs that it has made.
//  5. That the condemned packs may be deleted is in the catalog, in the transaction
//     that asks whether anything may be; then index files without them are put, the
//     old ones are deleted, the packs are deleted, and the local index forgets them.
//     After a crash here the next start does all of it again: what is gone is no
//     error. The record goes last.
//
// Each record is in the catalog log in the store before the next step begins. A
// process that slept and wakes deletes at most what a record in the log permits.
type Pruner struct {
	Deps
	o Options
}

// Options are the rules.
type Options struct {
	// MinAge is how long condemned packs stay at least, for readers outside the controller.
	MinAge time.Duration
	// Budget bounds the bytes of chunks copied in one domain at once.
	Budget int64
	// Interval is the pause between runs in the background; 0 means none.
	Interval time.Duration
}

// logTimeout bounds the wait for a record to be in the store's log.
const logTimeout = 2 * time.Minute

// domain does in one domain what can be done now. fresh lets it condemn more.
func (p *Pruner) domain(ctx context.Context, id seal.DomainID, spec Spec, fresh bool) (o catalog.PruneOutcome, err error) {
	o.Domain = id
	prunes, err := p.prunes(ctx, id)
	if err != nil {
		return o, err
	}
	busy := false
	for _, one := range prunes {
		left, err := p.advance(ctx, one, spec, &o)
		if err != nil {
			return o, err
		}
		if left != 0 {
			o.WaitingPacks, o.WaitingBytes = o.WaitingPacks+one.Packs, o.WaitingBytes+one.Bytes
		}
		busy = busy || left == catalog.PruneCondemned || left == catalog.PruneCopied
	}
	if busy || !fresh {
		return o, nil
	}
	one, err := p.condemn(ctx, id, spec, &o)
	if err != nil || one == nil {
		return o, err
	}
	left, err := p.advance(ctx, *one, spec, &o)
	if left != 0 {
		o.WaitingPacks, o.WaitingBytes = o.WaitingPacks+one.Packs, o.WaitingBytes+one.Bytes
	}
	return o, err
}

// prunes gives those of a domain that have not ended, oldest first.
func (p *Pruner) prunes(ctx context.Context, id seal.DomainID) (out []catalog.Prune, err error) {
	err = p.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { out, err = tx.Prunes(); return err })
	out = slices.DeleteFunc(out, func(x catalog.Prune) bool { return x.Domain != id })
	slices.SortFunc(out, func(a, b catalog.Prune) int { return a.Condemned.Compare(b.Condemned) })
	return out, err
}

// uses finds out what is needed, steps 1 and 4. The caller closes what it gets.
func (p *Pruner) uses(ctx context.Context, id seal.DomainID) (*check.Use, *known, error) {
	if err := p.Adopt(ctx); err != nil {
		return nil, nil, err
	}
	var k *known
	var failed error
	u, err := check.Uses(ctx, check.UseOptions{Repository: p.Repository, Domain: id, Dir: p.Dir,
		Bad: func(pk pack.ID, offset int64) bool { return p.Chunks.Damaged(id, pk, offset) },
		Listed: func(ctx context.Context) error {
			return p.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { k, err = readKnown(tx, id, p.Epoch); return err })
		},
		Standing: func(u *check.PackUse) check.Standing {
			s, err := p.standing(ctx, k, u)
			failed = errors.Join(failed, err)
			return s
		},
		Snapshots: func(ctx context.Context, fn func(repo.InstanceID, repo.JobID) error) error {
			if failed != nil {
				return failed
			}
			return snapshotsOf(ctx, p.Catalog, id, func(s catalog.Snapshot) error { return p.snapshot(ctx, s, fn) })
		}})
	if err == nil {
		p.tell(id, u)
	}
	return u, k, err
}

// maxTold bounds the damaged objects that are named in the log.
const maxTold = 10

// tell says what was not as it should be and kept nothing from going on.
func (p *Pruner) tell(id seal.DomainID, u *check.Use) {
	for _, f := range u.Damaged[:min(len(u.Damaged), maxTold)] {
		p.Log.Warn("object is damaged and left as it is", zap.Stringer("domain", id), zap.String("object", f.Object), zap.String("reason", f.Detail))
	}
	if u.Missing > 0 {
		p.Log.Error("chunks that snapshots need are in no pack", zap.Stringer("domain", id), zap.Int64("chunks", u.Missing))
	}
}

func (p *Pruner) standing(ctx context.Context, k *known, u *check.PackUse) (check.Standing, error) {
	indexed, err := p.Chunks.HasPack(ctx, u.Domain, u.ID)
	if err != nil {
		return check.Ignored, err
	}
	ended := false
	if !indexed {
		if err := p.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { ended, err = jobEnded(tx, u.Job); return err }); err != nil {
			return check.Ignored, err
		}
	}
	return k.standing(u, indexed, ended, time.Now()), nil
}

// snapshot takes one in. One that is purged is not: nobody reads it, and nothing
// can keep it. One whose object is gone must be gone from the catalog too by now:
// otherwise somebody has taken it away, and what it needs must stay.
func (p *Pruner) snapshot(ctx context.Context, s catalog.Snapshot, fn func(repo.InstanceID, repo.JobID) error) error {
	if !s.Purged.IsZero() {
		return nil
	}
	err := fn(s.Instance, s.ID)
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	var purged bool
	lookErr := p.Catalog.View(ctx, func(tx *catalog.Tx) error {
		now, err := tx.Snapshot(s.ID)
		purged = !now.Purged.IsZero()
		return err
	})
	switch {
	case purged, errors.Is(lookErr, errs.NotFound):
		return nil
	case lookErr != nil:
		return lookErr
	}
	return fmt.Errorf("snapshot %s is recorded and not in the store: %v: %w", s.ID, err, errs.Corrupt) //nolint:errorlint // replaces the kind
}

// sync makes a change about a domain that is in the store's log when it returns
// nil, or errs.Conflict when the domain is erased. When the store does not take it,
// the ballast goes: the store may be full.
func (p *Pruner) sync(ctx context.Context, domain seal.DomainID, fn func(*catalog.Tx) error) error {
	try := func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, logTimeout, fmt.Errorf("the catalog log did not take it within %s: %w", logTimeout, errs.Timeout))
		defer cancel()
		return p.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
			_, err := tx.Erasure(domain)
			switch {
			case err == nil:
				return fmt.Errorf("domain %s is erased: %w", domain, errs.Conflict)
			case !errors.Is(err, errs.NotFound):
				return err
			}
			return fn(tx)
		})
	}
	err := try()
	if err == nil || !errors.Is(err, errs.Unavailable) || !p.release(ctx) {
		return err
	}
	return try()
}

// erased tells whether a domain is erased, as far as the catalog can be asked.
func (p *Pruner) erased(ctx context.Context, id seal.DomainID) bool {
	return p.Catalog.View(ctx, func(tx *catalog.Tx) error { _, err := tx.Erasure(id); return err }) == nil
}

// release lets the ballast go and tells whether there was any.
func (p *Pruner) release(ctx context.Context) bool {
	if p.Ballast == nil {
		return false
	}
	freed, err := p.Ballast.Release(ctx)
	if err != nil {
		p.Log.Warn("ballast was not let go", zap.Error(err))
	}
	if freed > 0 {
		p.Log.Warn("the store is full: ballast was let go", zap.Int64("bytes", freed))
	}
	return freed > 0
}
