package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Max is how many copies a repository can have: each costs the memory of a plan
// and four spool files of a pack.
const Max = 4

// Catalog is where permits and states are kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Events take what people should hear of. *event.Log implements it.
type Events interface {
	Publish(e event.Event)
}

// Marks know what is damaged in the repository's own store. *scrub.Marks
// implements it.
type Marks interface {
	Mark(ctx context.Context, bad ...check.BadPack) error
	Clear(ctx context.Context, domain seal.DomainID, packs ...pack.ID) error
}

// Deps are what a Service stands on.
type Deps struct {
	// Repository is in its own store.
	Repository *repo.Repository
	// Epoch is the controller's.
	Epoch uint64
	// Unlockers are tried on the keys in copies.
	Unlockers []seal.Unlocker
	Catalog   Catalog
	Trail     Trail
	Events    Events
	Marks     Marks
	// Head gives the newest record of the catalog log; nil looks for it by listings.
	Head func() catalog.Witness
	// Dir is a folder for spool files, this Service's alone.
	Dir string
	Log *zap.Logger
}

// Options say what one copy is.
type Options struct {
	// Name for people; unique.
	Name string
	// Open opens its store, which must exist.
	Open func(ctx context.Context) (blob.Store, error)
	// BytesPerSecond bounds what is read to be copied; 0 means no bound.
	BytesPerSecond int64
	// MaxLag is from which lag on the copy is late.
	MaxLag time.Duration
}

// Service keeps all copies of a repository. Its methods may be called
// concurrently.
type Service struct {
	d         Deps
	log       *zap.Logger
	fetch     *fetcher
	followers []*follower
	started   time.Time

	wanted  chan damage   // objects to be healed
	healing chan struct{} // of 1: one object at a time is
	told    toldOnce
}

// damage is an object that is to be healed.
type damage struct {
	store string // name of a copy; empty for the repository's own store
	key   string
}

// maxWanted bounds the objects that wait to be healed. What is beyond is found
// again by the next scrub or check.
const maxWanted = 4096

// New makes a Service; Run gives it life.
func New(d Deps, all ...Options) *Service {
	s := &Service{d: d, log: d.Log.Named("copies"), fetch: newFetcher(d.Repository, d.Dir), started: time.Now(),
		wanted: make(chan damage, maxWanted), healing: make(chan struct{}, 1)}
	for _, o := range all {
		s.followers = append(s.followers, newFollower(s, o))
	}
	return s
}

// Run follows the repository's own store until ctx ends. Nothing that is wrong
// with a copy ends it.
func (s *Service) Run(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range s.followers {
		group.Go(func() error { f.run(ctx); return nil })
	}
	group.Go(func() error { s.healWanted(ctx); return nil })
	group.Go(func() error { s.watch(ctx); return nil })
	return group.Wait()
}

// prepare takes up what an earlier process left: spool files, states of copies
// that are not configured any more, and damage that was found.
func (s *Service) prepare(ctx context.Context) error {
	if len(s.followers) == 0 {
		return s.forgetCopies(ctx)
	}
	if err := s.fetch.cleanSpool(); err != nil {
		return err
	}
	if err := s.forgetCopies(ctx); err != nil {
		return err
	}
	return s.d.Catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			s.HealLater("", repo.PackObject(p.Domain, pack.ID(p.Pack)))
		}
		return nil
	})
}

// forgetCopies forgets copies that are not configured. A copy that comes back
// later may hold what was deleted meanwhile.
func (s *Service) forgetCopies(ctx context.Context) error {
	err := s.d.Catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		known, err := tx.Copies()
		if err != nil {
			return err
		}
		for _, c := range known {
			if s.find(c.Name) == nil {
				if err := tx.DeleteCopy(c.Name); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget copies: %w", err)
	}
	return nil
}

// find gives a copy by its name, nil when there is none.
func (s *Service) find(name string) *follower {
	for _, f := range s.followers {
		if f.o.Name == name {
			return f
		}
	}
	return nil
}

// Wake tells that something was stored: copies look for it soon.
func (s *Service) Wake() {
	for _, f := range s.followers {
		select {
		case f.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Names are the names of the copies.
func (s *Service) Names() (names []string) {
	for _, f := range s.followers {
		names = append(names, f.o.Name)
	}
	return names
}

// Repository opens the repository in a copy, for a check. errs.NotFound when no
// copy has the name, or it holds nothing yet.
func (s *Service) Repository(ctx context.Context, name string) (*repo.Repository, error) {
	f := s.find(name)
	if f == nil {
		return nil, fmt.Errorf("copy %q: %w", name, errs.NotFound)
	}
	return f.repository(ctx)
}

// watchEvery is how often lag is compared with its bound, and permits are looked
// through.
const watchEvery = time.Minute

// watch tells of copies that are late, also while a store does not answer, and
// drops permits that every copy has followed.
func (s *Service) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, f := range s.followers {
			f.judge(ctx)
		}
		if err := s.dropPermits(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("permits to delete that copies have followed not dropped, will try again", zap.Error(err))
		}
		if sleep(ctx, watchEvery) != nil {
			return
		}
	}
}

// maxPermits bounds the permits that one look takes.
const maxPermits = 10_000

// dropPermits forgets permits that every copy has followed, all of them when
// there is no copy.
func (s *Service) dropPermits(ctx context.Context) error {
	var done []string
	err := s.d.Catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.Permits("") {
			if err != nil {
				return err
			}
			followed := true
			for _, f := range s.followers {
				followed = followed && f.followed(p)
			}
			if followed {
				done = append(done, p.Object)
			}
			if len(done) == maxPermits {
				break
			}
		}
		return nil
	})
	if err != nil || len(done) == 0 {
		return err
	}
	err = s.d.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return tx.DropPermits(done...) })
	if err != nil {
		return err
	}
	for _, f := range s.followers {
		f.forget(done)
	}
	return nil
}

// mayDelete tells whether anything may be deleted at all.
func (s *Service) mayDelete(ctx context.Context) (bool, error) {
	err := s.d.Catalog.View(ctx, func(tx *catalog.Tx) error { return tx.MayDelete() })
	paused := errors.Is(err, errs.Conflict)
	if paused {
		err = nil
	}
	return err == nil && !paused, err
}
