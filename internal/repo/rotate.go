package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// rewrapAhead is how many domains are wrapped anew at once.
const rewrapAhead = 8

// Rewrap is a key that goes on with another master key, and what wraps it.
type Rewrap struct {
	ID       ID
	Unlocker seal.Unlocker
}

// Own gives the key that the repository was opened with, as it can be wrapped anew.
func (r *Repository) Own() Rewrap { return Rewrap{ID: r.opened, Unlocker: r.unlocker} }

// RotateMaster makes a new master key and puts it in force, and gives its number.
// keys go on with it; every other key that the repository has must be in lost,
// stops working when the new key is in force, and must be added anew by whoever has its secret.
//
// Durable steps, n being the number of the new key, one above every number seen:
//  1. keys/<id>-<n>: for each of keys, a wrap of the new master key.
//  2. ca/<serial>-<n>: each certificate authority, sealed anew.
//  3. Of each domain a generation that is sealed under the new key.
//  4. Steps 2 and 3 again, for what came meanwhile, while nothing else may be
//     sealed under the master key.
//  5. keys/master-<n>: the succession, with the older catalog keys, while nothing
//     may be appended to the log.
//  6. The next record of the catalog log, under the old catalog key: it names the
//     succession. *Now the new key is in force.* The log's own create decides
//     between this and another controller.
//
// A crash before step 6 leaves objects that are passed over, and the old key in
// force; one after it leaves the new one. Both open with every key of keys.
// An undecided step 6 is errs.Unavailable: nothing is sealed under either key
// until the next Append of the log has settled it.
//
// What it replaces stays readable to whoever has the old key until DropReplaced
// has removed it, and in copies of the store for ever. The roots of domains do
// not change.
func (r *Repository) RotateMaster(ctx context.Context, l *Log, keys []Rewrap, lost []ID) (uint64, error) {
	if err := r.rotating.Acquire(ctx, 1); err != nil {
		return 0, fmt.Errorf("rotate master key: %w", blob.Canceled(ctx))
	}
	defer r.rotating.Release(1)
	n, err := r.rotateMaster(ctx, l, keys, lost)
	if err != nil {
		return n, fmt.Errorf("rotate master key: %w", err)
	}
	return n, nil
}

func (r *Repository) rotateMaster(ctx context.Context, l *Log, keys []Rewrap, lost []ID) (uint64, error) {
	if len(keys) == 0 || !slices.ContainsFunc(keys, func(k Rewrap) bool { return k.ID == r.opened }) {
		return 0, fmt.Errorf("the key that the repository was opened with would be lost: %w", errs.Invalid)
	}
	list, err := r.listKeys(ctx)
	if err != nil {
		return 0, err
	}
	c := &rotation{repo: r, log: l, from: r.current(), domains: map[seal.DomainID]uint64{}, cas: map[string]bool{}}
	c.next = &masters{number: max(list.newest(), c.from.number) + 1, key: seal.NewMasterKey()}
	for _, k := range keys {
		if err := r.putKey(ctx, c.next, k.ID, k.Unlocker); err != nil {
			return 0, fmt.Errorf("key %s: %w", k.ID.Short(), err)
		}
	}
	if err := errors.Join(c.rewrapCAs(ctx), c.rewrapDomains(ctx)); err != nil {
		return 0, err
	}
	if err := r.gate.Acquire(ctx, gateWeight); err != nil {
		return 0, blob.Canceled(ctx)
	}
	err = c.unchanged(ctx, keys, lost)
	if err == nil {
		err = errors.Join(c.rewrapCAs(ctx), c.rewrapDomains(ctx))
	}
	if err != nil {
		r.gate.Release(gateWeight)
		return 0, err
	}
	return c.next.number, l.rekey(ctx, func(record uint64) ([]byte, error) { return c.succeed(ctx, record) }, c.end)
}

// rotation is one change of the master key.
type rotation struct {
	repo       *Repository
	log        *Log
	from, next *masters

	mu      sync.Mutex
	domains map[seal.DomainID]uint64 // the generation that was written of each
	cas     map[string]bool
}

// unchanged refuses what somebody did meanwhile: another change of the master
// key, and a key that nobody has decided about.
func (c *rotation) unchanged(ctx context.Context, keys []Rewrap, lost []ID) error {
	if now := c.repo.current().number; now != c.from.number {
		return fmt.Errorf("master key %d has been put in force meanwhile: %w", now, errs.Conflict)
	}
	ids, err := c.repo.KeyIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		kept := slices.ContainsFunc(keys, func(k Rewrap) bool { return k.ID == id })
		if !kept && !slices.Contains(lost, id) {
			return fmt.Errorf("key %s was added meanwhile: %w", id.Short(), errs.Conflict)
		}
	}
	return nil
}

// rewrapCAs seals each certificate authority anew that has not been yet.
func (c *rotation) rewrapCAs(ctx context.Context) error {
	return c.repo.CAs(ctx, func(serial string) error {
		if c.cas[serial] {
			return nil
		}
		bundle, err := c.repo.readCA(ctx, c.from, serial)
		if err == nil {
			err = c.repo.putCA(ctx, c.next, serial, bundle)
		}
		if err != nil {
			return fmt.Errorf("certificate authority %s: %w", serial, err)
		}
		c.cas[serial] = true
		return nil
	})
}

// rewrapDomains writes a generation under the new key of each domain that has
// none yet, or has got one under the old key since.
func (c *rotation) rewrapDomains(ctx context.Context) error {
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(rewrapAhead)
	err := c.repo.Domains(groupCtx, func(id seal.DomainID) error {
		g.Go(func() error {
			if err := c.rewrapDomain(groupCtx, id); err != nil {
				return fmt.Errorf("domain %x: %w", id[:4], err)
			}
			return nil
		})
		return groupCtx.Err()
	})
	if waitErr := g.Wait(); waitErr != nil {
		return waitErr
	}
	return err
}

func (c *rotation) rewrapDomain(ctx context.Context, id seal.DomainID) error {
	d, err := c.repo.Domain(ctx, id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	done := c.domains[id]
	c.mu.Unlock()
	d.mu.Lock()
	generation, epoch, since := d.generation, d.epoch, d.since
	d.mu.Unlock()
	if done != 0 && done == generation {
		return nil
	}
	generation++
	if err := d.put(ctx, c.next, generation, epoch, since); err != nil {
		return err
	}
	// A new seal epoch goes after it.
	d.adopt(generation, epoch, since)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.domains[id] = generation
	return nil
}

// succeed puts the succession, once the record that will make it true has a
// number, and gives that record's payload.
func (c *rotation) succeed(ctx context.Context, record uint64) ([]byte, error) {
	c.next.catalogs = append(slices.Clone(c.from.catalogs), catalogKey{through: record, key: c.from.key.Catalog()})
	if extra := len(c.next.catalogs) - maxCatalogKeys; extra > 0 {
		c.next.catalogs = c.next.catalogs[extra:]
	}
	s := &succession{successionClear: successionClear{Version: 1, Master: c.next.number, Previous: c.from.number, Log: record,
		Time: time.Now().UTC().Truncate(time.Second)}, catalogs: c.next.catalogs}
	text, err := s.seal(c.repo, c.next.key)
	if err != nil {
		return nil, err
	}
	if err := c.repo.store.Create(ctx, SuccessionObject(s.Master), blob.Bytes(text)); err != nil {
		return nil, err
	}
	stored, err := c.repo.openSuccession(ctx, s.Master, c.next.key)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	if stored.hash != s.hash {
		return nil, fmt.Errorf("read back %s: it is another one: %w", SuccessionObject(s.Master), errs.Corrupt)
	}
	return s.rekey()
}

// end puts the new key in force, or leaves the old one.
func (c *rotation) end(done bool) {
	if done {
		c.repo.mu.Lock()
		c.repo.keys = c.next
		c.repo.mu.Unlock()
	}
	c.repo.gate.Release(gateWeight)
}

// DropReplaced removes what is sealed under master keys other than the one in
// force: wraps, certificate authorities, generations of domains, successions.
// permit is called before each batch of them: what it returns an error for stays.
// Whether anything may be deleted is the caller's question. What the
// store does not let go yet (blob.Deferred: a lock that has not ended) stays, is
// counted as kept, and goes with a later call.
//
// Of a change that was prepared and never came into force nothing goes before
// the log is past the record that would have put it in force. A crash leaves
// some; the next call goes on.
func (r *Repository) DropReplaced(ctx context.Context, l *Log, permit func(keys []string) error) (dropped, kept int, err error) {
	if err := r.gate.Acquire(ctx, 1); err != nil { // no change of the master key meanwhile
		return 0, 0, blob.Canceled(ctx)
	}
	defer r.gate.Release(1)
	sealed, wraps, err := r.replaced(ctx, l)
	if err != nil {
		return 0, 0, fmt.Errorf("remove what old master keys sealed: %w", err)
	}
	for _, keys := range [][]string{sealed, wraps} {
		if kept > 0 {
			return dropped, kept, nil // the wraps tell the next call that there is more to do
		}
		for batch := range slices.Chunk(keys, deleteBatch) {
			err := permit(batch)
			if err == nil {
				var left int
				left, err = r.deleteKeys(ctx, batch)
				dropped, kept = dropped+len(batch)-left, kept+left
			}
			if err != nil {
				return dropped, kept, fmt.Errorf("remove what old master keys sealed: %w", err)
			}
		}
	}
	return dropped, kept, nil
}

// Replaced counts what DropReplaced would remove.
func (r *Repository) Replaced(ctx context.Context, l *Log) (int, error) {
	sealed, wraps, err := r.replaced(ctx, l)
	if err != nil {
		return 0, fmt.Errorf("look for what old master keys sealed: %w", err)
	}
	return len(sealed) + len(wraps), nil
}

// maxReplaced bounds the objects that one call removes.
const maxReplaced = 100_000

// replaced lists what may go: first what was sealed, then wraps and successions.
// Where no wrap may go, nothing is left of a change, and nothing else is looked at.
func (r *Repository) replaced(ctx context.Context, l *Log) (sealed, wraps []string, err error) {
	current := r.current().number
	list, err := r.listKeys(ctx)
	if err != nil {
		return nil, nil, err
	}
	head, err := l.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	// A number above the one in force may still come into force by a put under way.
	open := map[uint64]bool{}
	for _, n := range list.successions {
		if n < current {
			continue
		}
		s, _, _, err := r.readSuccession(ctx, n)
		if err != nil && !harmful(err) {
			return nil, nil, err
		}
		open[n] = n == current || err != nil || s.Log > head.Number
	}
	goes := func(n uint64) bool { return n != current && !open[n] }
	for _, w := range list.wraps {
		if goes(w.master) {
			wraps = append(wraps, w.object())
		}
	}
	for _, n := range list.successions {
		if goes(n) {
			wraps = append(wraps, SuccessionObject(n))
		}
	}
	if len(wraps) == 0 {
		return nil, nil, nil
	}
	err = r.store.List(ctx, CAPrefix, "", func(info blob.Info) error {
		if _, n, err := ParseCAObject(info.Key); err == nil && goes(n) && len(sealed) < maxReplaced {
			sealed = append(sealed, info.Key)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	domains, err := r.replacedDomains(ctx, goes, maxReplaced-len(sealed))
	if len(domains)+len(sealed) >= maxReplaced {
		wraps = nil // more than one call's work
	}
	return append(sealed, domains...), wraps, err
}

// replacedDomains lists generations that are sealed under another master key and
// followed by one under the key in force.
func (r *Repository) replacedDomains(ctx context.Context, goes func(uint64) bool, most int) (out []string, err error) {
	var id seal.DomainID
	var before []string // of the domain id, that may go once a good one follows
	err = r.store.List(ctx, DomainsPrefix, "", func(info blob.Info) error {
		domain, _, err := ParseDomainObject(info.Key)
		if err != nil {
			return nil // a check names it
		}
		if domain != id {
			id, before = domain, before[:0]
		}
		text, err := blob.ReadAll(ctx, r.store, info.Key, maxDomainBytes)
		if err != nil {
			return err
		}
		d, err := InspectDomain(info.Key, text)
		switch {
		case err != nil:
		case d.Master == r.current().number:
			if len(out)+len(before) <= most {
				out = append(out, before...)
			}
			before = before[:0]
		case goes(d.Master):
			before = append(before, info.Key)
		}
		return nil
	})
	return out, err
}
