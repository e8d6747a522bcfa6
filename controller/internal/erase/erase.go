// Package erase destroys the data of domains for ever: first it is on record, then
// the keys go, then everything that they opened.
package erase

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// again is how often what a store did not let go is tried again.
const again = time.Hour

// Catalog opens transactions. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Repository is where the data is. *repo.Repository implements it.
type Repository interface {
	CreateDomain(ctx context.Context) (seal.DomainID, error)
	DestroyDomain(ctx context.Context, id seal.DomainID) (kept int, err error)
	SweepDomain(ctx context.Context, id seal.DomainID, instances []repo.InstanceID) (kept int, err error)
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Cache forgets what is kept of a domain. *ingest.Server implements it.
type Cache interface {
	Forget(domain seal.DomainID) error
}

// Service erases. Its methods may be called concurrently.
type Service struct {
	repository Repository
	catalog    Catalog
	trail      Trail
	cache      Cache
	log        *zap.Logger
	turn       chan struct{} // one token: one erasure at a time
	kick       chan struct{}
}

// New makes a Service; Run finishes what was begun.
func New(r Repository, c Catalog, t Trail, cache Cache, log *zap.Logger) *Service {
	return &Service{repository: r, catalog: c, trail: t, cache: cache, log: log.Named("erase"), turn: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
}

// By is who asks, and from where.
type By struct{ Actor, Address string }

// Request says what is erased.
type Request struct {
	// Instance is its full name, Confirm the same typed again.
	Instance, Confirm string
	// WholeDomain agrees that what other instances have in its domains goes too.
	WholeDomain bool
}

// Result says what was, or would be, erased.
type Result struct {
	Domains   []seal.DomainID
	Instances []string
	Snapshots int64
	// Destroyed tells that the store has let every key go.
	Destroyed bool
}

// Plan tells what Erase would erase.
func (s *Service) Plan(ctx context.Context, instance string) (Result, error) {
	var sc *scope
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) { sc, err = scopeOf(tx, instance); return err })
	if err != nil {
		return Result{}, fmt.Errorf("erase instance: %w", err)
	}
	return sc.result(), nil
}

// Erase makes everything unreadable that is stored of an instance, in this order:
//
//  1. New domains are made in the store, for the backups to come. A crash leaves
//     domains without data.
//  2. One synchronous transaction: the erasures and an audit record are there, the
//     snapshots and their drills are not listed any more, the instances have new
//     domains. It is refused while deletion is paused, and while a job that reads
//     or writes the domains has not ended. From here on there is no way back.
//  3. The keys of the domains are deleted in the store.
//  4. Run deletes snapshots, index files and packs.
//
// After a crash behind step 2 the next start goes on with 3.
func (s *Service) Erase(ctx context.Context, r Request, by By) (Result, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	out, err := s.begin(ctx, r, by)
	if err != nil {
		return out, fmt.Errorf("erase instance: %w", err)
	}
	defer s.wake()
	out.Destroyed = true
	for _, id := range out.Domains {
		destroyed, err := s.destroy(ctx, id)
		if err != nil {
			return out, fmt.Errorf("erase instance: it is on record, and will go on by itself: %w", err)
		}
		out.Destroyed = out.Destroyed && destroyed
	}
	return out, nil
}

func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// begin does the steps up to the record.
func (s *Service) begin(ctx context.Context, r Request, by By) (Result, error) {
	if r.Instance == "" || r.Confirm != r.Instance {
		return Result{}, fmt.Errorf("%q was not confirmed by its full name: %w", r.Instance, errs.Invalid)
	}
	var planned *scope
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if err := tx.MayDelete(); err != nil {
			return err
		}
		planned, err = allowed(tx, r)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	fresh := map[seal.DomainID]seal.DomainID{}
	for _, id := range planned.domains {
		if fresh[id], err = s.repository.CreateDomain(ctx); err != nil {
			return Result{}, err
		}
	}
	var out Result
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		if err := tx.MayDelete(); err != nil {
			return err
		}
		sc, err := allowed(tx, r)
		if err != nil {
			return err
		}
		if !slices.Equal(sc.domains, planned.domains) {
			return fmt.Errorf("instance %s was moved to another domain meanwhile: %w", r.Instance, errs.Conflict)
		}
		out = sc.result()
		return errors.Join(sc.record(tx, fresh, by), s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "instance.erase",
			Object: "instance " + r.Instance, Outcome: audit.OK, Detail: fmt.Sprintf("%d domains, %d snapshots of %d instances", len(sc.domains), len(sc.snapshots), len(sc.instances))}))
	})
	return out, err
}

// destroy deletes the keys of a domain whose erasure is on record, and notes when
// the last of them has gone.
func (s *Service) destroy(ctx context.Context, id seal.DomainID) (done bool, err error) {
	kept, err := s.repository.DestroyDomain(ctx, id)
	if err != nil || kept > 0 {
		return false, err
	}
	return true, s.note(ctx, id, func(e *catalog.Erasure) {
		if e.Destroyed.IsZero() {
			e.Destroyed = time.Now()
		}
	})
}

func (s *Service) note(ctx context.Context, id seal.DomainID, change func(*catalog.Erasure)) error {
	return s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		e, err := tx.Erasure(id)
		if err != nil {
			return err
		}
		change(&e)
		return tx.PutErasure(e)
	})
}

// Run finishes the erasures that are on record, at once, when one was begun, and
// hourly for what the store did not let go. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		if err := s.finish(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("erasures are not finished, will try again", zap.Error(err))
		}
		select {
		case <-t.C:
		case <-s.kick:
		case <-ctx.Done():
			return nil
		}
	}
}

// finish takes every erasure as far as the store lets it. The keys of those that
// are done are looked for again: a put that arrived late must not bring one back.
func (s *Service) finish(ctx context.Context) error {
	var all []catalog.Erasure
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		for e, err := range tx.Erasures() {
			if err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failed error
	for _, e := range all {
		failed = errors.Join(failed, s.finishOne(ctx, e))
	}
	return failed
}

func (s *Service) finishOne(ctx context.Context, e catalog.Erasure) error {
	destroyed, err := s.destroy(ctx, e.Domain)
	if err != nil || !e.Done.IsZero() {
		return err
	}
	if !destroyed {
		s.log.Warn("the store does not let the keys of an erased domain go yet", zap.Stringer("domain", e.Domain))
	}
	kept, err := s.repository.SweepDomain(ctx, e.Domain, e.Instances)
	if err != nil {
		return err
	}
	if err := errors.Join(s.cache.Forget(e.Domain), s.unmark(ctx, e.Domain)); err != nil {
		return err
	}
	if kept > 0 || !destroyed {
		s.log.Info("erased domain: the store does not let everything go yet", zap.Stringer("domain", e.Domain), zap.Int("objects", kept))
		return nil
	}
	s.log.Info("domain is erased", zap.Stringer("domain", e.Domain))
	return s.note(ctx, e.Domain, func(e *catalog.Erasure) { e.Done = time.Now() })
}

// unmark forgets what is known of single packs of the domain.
func (s *Service) unmark(ctx context.Context, id seal.DomainID) error {
	return s.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		var packs []catalog.PackID
		for p, err := range tx.DistrustedPacks(id) {
			if err != nil {
				return err
			}
			packs = append(packs, p.Pack)
		}
		for p, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			if p.Domain == id {
				packs = append(packs, p.Pack)
			}
		}
		for _, p := range packs {
			if err := errors.Join(tx.DeleteDistrustedPack(id, p), tx.DeleteDamagedPack(id, p)); err != nil {
				return err
			}
		}
		return nil
	})
}
