// Package distrust stops relying on what a host has uploaded: its packs stay, for
// the snapshots that name them, and are not answered for any more, so that the
// next backups send what is in them again.
package distrust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// maxPacks bounds the packs that are not relied on: full ones are 16 TB, and take
	// 25 MB of memory.
	maxPacks = 1 << 18
	// readers is how many directories of packs are read at once, and batch how many
	// are recorded in one transaction.
	readers = 4
	batch   = 1000
)

// Catalog opens transactions. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Index does not answer for packs. *ingest.Server implements it.
type Index interface {
	DistrustHost(domain seal.DomainID, packs ...pack.ID)
}

// Service distrusts hosts. Its methods may be called concurrently.
type Service struct {
	repository *repo.Repository
	catalog    Catalog
	trail      Trail
	index      Index
	log        *zap.Logger
	turn       chan struct{} // one token: one walk at a time
}

// New makes a Service. Load tells the index what earlier processes decided.
func New(r *repo.Repository, c Catalog, t Trail, i Index, log *zap.Logger) *Service {
	return &Service{repository: r, catalog: c, trail: t, index: i, log: log.Named("distrust"), turn: make(chan struct{}, 1)}
}

// By is who asks, and from where.
type By struct{ Actor, Address string }

// Found is what a distrust came to.
type Found struct {
	Packs   int64
	Domains int
}

// Agent stops relying on what an agent uploaded since a time, in this order:
//
//  1. The decision and an audit record are in the store's log.
//  2. Packs are found by their authenticated trailers, in every domain that an
//     instance of the agent writes to or has snapshots in. Their records are in
//     the store's log, and the index does not answer for them any more.
//  3. That it is done is noted.
//
// After a crash behind step 1, Load goes on with 2 before anything is served. A
// decision about the same agent replaces an earlier one and never shortens it.
func (s *Service) Agent(ctx context.Context, name string, since time.Time, by By) (Found, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Found{}, context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	d := catalog.Distrust{Since: since, Until: time.Now(), By: by.Actor}
	if since.IsZero() || since.After(d.Until) {
		return Found{}, fmt.Errorf("distrust agent %s: since %s is no time in the past: %w", name, since.Format(time.RFC3339), errs.Invalid)
	}
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		a, err := tx.FindAgent(name)
		if err != nil {
			return err
		}
		d.Agent, d.Since = a.ID, since
		if old, err := tx.Distrust(a.ID); err == nil && old.Since.Before(d.Since) {
			d.Since = old.Since
		} else if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		return errors.Join(tx.PutDistrust(d), s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "repository.distrust",
			Object: "agent " + a.Name, Outcome: audit.OK, Detail: "since " + d.Since.UTC().Format(time.RFC3339)}))
	})
	if err != nil {
		return Found{}, fmt.Errorf("distrust agent %s: %w", name, err)
	}
	found, err := s.find(ctx, d)
	if err != nil {
		return found, fmt.Errorf("distrust agent %s: it is on record, and the next start or the same command again goes on: %w", name, err)
	}
	return found, nil
}

// Load tells the index which packs are not relied on, and finishes what was cut
// off. It must have returned before the first upload is served.
func (s *Service) Load(ctx context.Context) error {
	var open []catalog.Distrust
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		open = nil
		for p, err := range tx.DistrustedPacks(seal.DomainID{}) {
			if err != nil {
				return err
			}
			s.index.DistrustHost(p.Domain, pack.ID(p.Pack))
		}
		for d, err := range tx.Distrusts() {
			if err != nil {
				return err
			}
			if d.Done.IsZero() {
				open = append(open, d)
			}
		}
		return nil
	})
	for _, d := range open {
		if err == nil {
			_, err = s.find(ctx, d)
		}
	}
	if err != nil {
		return fmt.Errorf("load what is not relied on: %w", err)
	}
	return nil
}

// find does the steps after the decision.
func (s *Service) find(ctx context.Context, d catalog.Distrust) (Found, error) {
	var domains []seal.DomainID
	var instances []repo.InstanceID
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) { domains, instances, err = reach(tx, d.Agent); return err })
	if err != nil {
		return Found{}, err
	}
	out := Found{Domains: len(domains)}
	for _, id := range domains {
		n, err := s.findIn(ctx, id, instances, d)
		out.Packs += n
		if err != nil {
			return out, err
		}
	}
	d.Done, d.Packs = time.Now(), out.Packs
	s.log.Warn("packs of an agent are not relied on any more", zap.Stringer("agent_id", d.Agent), zap.Time("since", d.Since), zap.Int64("packs", out.Packs))
	return out, s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error { return tx.PutDistrust(d) })
}

// reach gives the domains that an agent's instances write to or have snapshots in.
func reach(tx *catalog.Tx, agent repo.AgentID) (domains []seal.DomainID, instances []repo.InstanceID, err error) {
	a, err := tx.Agent(agent)
	if err != nil {
		return nil, nil, err
	}
	own, err := tx.InstancesOf(a.Name)
	if err != nil {
		return nil, nil, err
	}
	add := func(id seal.DomainID) {
		if id != (seal.DomainID{}) && !slices.Contains(domains, id) {
			domains = append(domains, id)
		}
	}
	for _, i := range own {
		instances = append(instances, i.ID)
		add(i.Domain)
		add(i.OwnDomain)
		for page := (catalog.Page{Size: catalog.MaxPage}); ; {
			rows, next, err := tx.SnapshotsOf(i.ID, page)
			if err != nil {
				return nil, nil, err
			}
			for _, x := range rows {
				add(x.Domain)
			}
			if next == "" {
				break
			}
			page.Token = next
		}
	}
	return domains, instances, nil
}

// findIn finds and marks the packs of one domain.
func (s *Service) findIn(ctx context.Context, id seal.DomainID, instances []repo.InstanceID, d catalog.Distrust) (n int64, err error) {
	domain, err := s.repository.Domain(ctx, id)
	if errors.Is(err, errs.NotFound) {
		return 0, nil // it was erased
	}
	if err != nil {
		return 0, err
	}
	w := &walk{s: s, domain: domain, instances: instances, d: d}
	var infos []blob.Info
	flush := func() error {
		err := w.take(ctx, infos)
		infos = infos[:0]
		return err
	}
	err = s.repository.Store().List(ctx, repo.PackPrefix(id), "", func(info blob.Info) error {
		if infos = append(infos, info); len(infos) < batch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return w.found, err
}

// walk looks through the packs of one domain.
type walk struct {
	s         *Service
	domain    *repo.Domain
	instances []repo.InstanceID
	d         catalog.Distrust
	found     int64
}

// take reads the directories of some packs, and records and marks those that meet
// the decision.
func (w *walk) take(ctx context.Context, infos []blob.Info) error {
	var mu sync.Mutex
	var marked []pack.ID
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, info := range infos {
		g.Go(func() error {
			id, meets, err := w.meets(groupCtx, info)
			if err != nil || !meets {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			marked = append(marked, id)
			return nil
		})
	}
	if err := g.Wait(); err != nil || len(marked) == 0 {
		return err
	}
	if w.found += int64(len(marked)); w.found > maxPacks {
		return fmt.Errorf("more than %d packs of one domain: erase it instead: %w", maxPacks, errs.Exhausted)
	}
	err := w.s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		for _, id := range marked {
			if err := tx.PutDistrustedPack(catalog.DistrustedPack{Domain: w.domain.ID(), Pack: catalog.PackID(id), Agent: w.d.Agent}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.s.index.DistrustHost(w.domain.ID(), marked...)
	return nil
}

// meets tells whether a pack was uploaded by one of the instances in the time.
// One whose directory does not verify is a matter for a check; nothing in it counts.
func (w *walk) meets(ctx context.Context, info blob.Info) (id pack.ID, meets bool, err error) {
	_, id, err = repo.ParsePackObject(info.Key)
	if err != nil {
		return id, false, nil // no pack of ours
	}
	open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return w.s.repository.Store().Open(ctx, info.Key, off, n)
	}
	dir, err := pack.ReadDirectory(ctx, open, info.Size, id)
	if err == nil {
		err = pack.VerifyMAC(dir, w.domain.Keys().Pack())
	}
	if errors.Is(err, errs.Corrupt) || errors.Is(err, errs.NotFound) {
		return id, true, nil // whoever made it, it is not to be relied on
	}
	if err != nil {
		return id, false, err
	}
	return id, slices.Contains(w.instances, dir.Uploader) && !dir.Created.Before(w.d.Since) && !dir.Created.After(w.d.Until), nil
}
