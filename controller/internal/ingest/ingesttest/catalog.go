// Package ingesttest has what tests of ingest need: a catalog in memory, a store
// that can be made to fail, and a power switch that both obey. The catalog and
// the store outlive the server, as disks do.
package ingesttest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Power counts durable steps and can be cut after the n-th: every later step
// fails and changes nothing, as if the machine had stopped there.
type Power struct {
	mu    sync.Mutex
	steps int
	limit int // 0: never cut
}

// errCut is what a step fails with when the power is cut.
var errCut = fmt.Errorf("power is cut: %w", errs.Unavailable)

// CutAfter restarts the count and cuts the power after n steps; 0 means never.
func (p *Power) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.limit = 0, n
}

// Steps is the number of durable steps since CutAfter.
func (p *Power) Steps() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps
}

// Cut tells whether the power is off.
func (p *Power) Cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0 && p.steps >= p.limit
}

// step counts a durable step, or fails it.
func (p *Power) step() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && p.steps >= p.limit {
		return errCut
	}
	p.steps++
	return nil
}

// Catalog implements ingest.Attempts and ingest.Journal in memory.
type Catalog struct {
	Power *Power

	mu        sync.Mutex
	grants    map[repo.JobID]held
	intents   map[pack.ID]ingest.PackIntent
	packs     map[pack.ID]ingest.PackRecord
	commits   map[repo.JobID]ingest.Committing
	snapshots map[repo.JobID]ingest.Snapshot
	authorize int
}

type held struct {
	agent repo.AgentID
	grant ingest.Grant
}

var (
	_ ingest.Attempts = (*Catalog)(nil)
	_ ingest.Journal  = (*Catalog)(nil)
)

// NewCatalog makes an empty one.
func NewCatalog(p *Power) *Catalog {
	return &Catalog{
		Power: p, grants: map[repo.JobID]held{}, intents: map[pack.ID]ingest.PackIntent{}, packs: map[pack.ID]ingest.PackRecord{},
		commits: map[repo.JobID]ingest.Committing{}, snapshots: map[repo.JobID]ingest.Snapshot{},
	}
}

// Lease makes an attempt the job's current one.
func (c *Catalog) Lease(agent repo.AgentID, g ingest.Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grants[g.Job] = held{agent, g}
}

// Authorize implements ingest.Attempts.
func (c *Catalog) Authorize(_ context.Context, agent repo.AgentID, job repo.JobID, fence repo.Fence) (ingest.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authorize++
	h, ok := c.grants[job]
	switch {
	case !ok:
		return ingest.Grant{}, errs.NotFound
	case h.agent != agent:
		return ingest.Grant{}, errs.Denied
	case h.grant.Fence != fence:
		return ingest.Grant{}, fmt.Errorf("attempt %s is not the newest: %w", fence, errs.Conflict)
	}
	return h.grant, nil
}

func (c *Catalog) current(job repo.JobID, fence repo.Fence) error {
	if h, ok := c.grants[job]; !ok || h.grant.Fence != fence {
		return fmt.Errorf("attempt %s is not the newest: %w", fence, errs.Conflict)
	}
	return nil
}

// change runs fn as one durable transaction.
func (c *Catalog) change(fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Power.step(); err != nil {
		return err
	}
	return fn()
}

// PackIntent implements ingest.Journal.
func (c *Catalog) PackIntent(_ context.Context, i ingest.PackIntent) error {
	return c.change(func() error {
		if err := c.current(i.Job, i.Fence); err != nil {
			return err
		}
		c.intents[i.ID] = i
		return nil
	})
}

// PackStored implements ingest.Journal.
func (c *Catalog) PackStored(_ context.Context, job repo.JobID, id pack.ID) error {
	return c.change(func() error {
		i, ok := c.intents[id]
		if _, stored := c.packs[id]; stored {
			return nil
		}
		if !ok {
			return fmt.Errorf("pack %s of job %s: no intent: %w", id, job, errs.NotFound)
		}
		delete(c.intents, id)
		c.packs[id] = ingest.PackRecord{PackIntent: i}
		return nil
	})
}

// PackDropped implements ingest.Journal.
func (c *Catalog) PackDropped(_ context.Context, _ repo.JobID, id pack.ID) error {
	return c.change(func() error {
		delete(c.intents, id)
		delete(c.packs, id)
		return nil
	})
}

// PackIndexed implements ingest.Journal.
func (c *Catalog) PackIndexed(_ context.Context, _ repo.JobID, ids []pack.ID) error {
	return c.change(func() error {
		for _, id := range ids {
			p, ok := c.packs[id]
			if !ok {
				return fmt.Errorf("pack %s: %w", id, errs.NotFound)
			}
			p.Indexed = true
			c.packs[id] = p
		}
		return nil
	})
}

// PacksOf implements ingest.Journal.
func (c *Catalog) PacksOf(_ context.Context, job repo.JobID) ([]ingest.PackRecord, error) {
	return c.Packs(func(p ingest.PackRecord) bool { return p.Job == job }), nil
}

// Unindexed implements ingest.Journal.
func (c *Catalog) Unindexed(context.Context) ([]ingest.PackRecord, error) {
	return c.Packs(func(p ingest.PackRecord) bool { return !p.Indexed }), nil
}

// Packs gives the records that keep accepts, by id.
func (c *Catalog) Packs(keep func(ingest.PackRecord) bool) []ingest.PackRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []ingest.PackRecord
	for _, p := range c.packs {
		if keep(p) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b ingest.PackRecord) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all
}

// Intents implements ingest.Journal.
func (c *Catalog) Intents(context.Context) ([]ingest.PackIntent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []ingest.PackIntent
	for _, i := range c.intents {
		all = append(all, i)
	}
	return all, nil
}

// Committing implements ingest.Journal.
func (c *Catalog) Committing(_ context.Context, s ingest.Committing) error {
	return c.change(func() error {
		if err := c.current(s.Job, s.Fence); err != nil {
			return err
		}
		c.commits[s.Job] = s
		return nil
	})
}

// Committed implements ingest.Journal.
func (c *Catalog) Committed(_ context.Context, s ingest.Snapshot) error {
	return c.change(func() error {
		delete(c.commits, s.ID)
		c.snapshots[s.ID] = s
		return nil
	})
}

// Uncommitted implements ingest.Journal.
func (c *Catalog) Uncommitted(_ context.Context, job repo.JobID, _ repo.Fence) error {
	return c.change(func() error {
		delete(c.commits, job)
		return nil
	})
}

// Unfinished implements ingest.Journal.
func (c *Catalog) Unfinished(context.Context) ([]ingest.Committing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []ingest.Committing
	for _, s := range c.commits {
		all = append(all, s)
	}
	return all, nil
}

// LogNumber implements ingest.Journal.
func (c *Catalog) LogNumber(context.Context) (uint64, error) { return 7, nil }

// Snapshot gives the record of a snapshot.
func (c *Catalog) Snapshot(id repo.JobID) (ingest.Snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.snapshots[id]
	return s, ok
}
