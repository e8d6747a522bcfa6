package ingest

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// sentence is that of the packs that one prune has condemned.
type sentence struct {
	// decided tells that the prune has written down for which jobs it waits.
	decided bool
	waits   map[repo.JobID]struct{}
}

// bars tells whether a condemned pack does not count. It counts in a commit of a
// job that the prune waits for: what that job was told is there will be copied
// before anything is deleted. Until it is decided which these are, every commit
// under way is of such a job, or is over before the prune looks at the snapshots
// again.
func (s *sentence) bars(claims repo.JobID) bool {
	if s == nil {
		return false
	}
	if claims.IsZero() {
		return true
	}
	_, waited := s.waits[claims]
	return s.decided && !waited
}

// Condemn takes in that packs will be deleted: from now on no agent is told that
// what lies only in them is stored. Restores go on to read them. It must be
// called before it is written down which jobs are not ended: one that was told
// before that something is stored is among those then. The function that it
// gives must be called with these, once that is done.
func (s *Server) Condemn(domain seal.DomainID, packs []pack.ID) (decide func(waits []repo.JobID)) {
	one := &sentence{}
	s.distrust.mu.Lock()
	defer s.distrust.mu.Unlock()
	of := s.distrust.ofLocked(domain)
	for _, id := range packs {
		of.condemned[id] = one
	}
	return func(waits []repo.JobID) {
		s.distrust.mu.Lock()
		defer s.distrust.mu.Unlock()
		one.decided, one.waits = true, make(map[repo.JobID]struct{}, len(waits))
		for _, id := range waits {
			one.waits[id] = struct{}{}
		}
	}
}

// Pardon takes a Condemn back that was not written down for certain.
func (s *Server) Pardon(domain seal.DomainID, packs []pack.ID) {
	s.distrust.mu.Lock()
	defer s.distrust.mu.Unlock()
	of := s.distrust.ofLocked(domain)
	for _, id := range packs {
		delete(of.condemned, id)
	}
}

// DropPacks forgets condemned packs that are in the store no more: first the
// local index, then that they were condemned. The order matters: a place that
// the index still names must go on to count as none.
func (s *Server) DropPacks(ctx context.Context, domain seal.DomainID, packs []pack.ID) error {
	d, err := s.domain(ctx, domain)
	if err != nil {
		return fmt.Errorf("forget pruned packs: %w", err)
	}
	// What looks for packs that the index lacks lists the store, and holds this too:
	// it has either taken them in by now or does not find them.
	if err := d.indexing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	err = d.set.DropPacks(ctx, packs)
	d.indexing.Release(1)
	if err != nil {
		return fmt.Errorf("forget pruned packs: %w", err)
	}
	s.Pardon(domain, packs)
	s.distrust.mu.Lock()
	defer s.distrust.mu.Unlock()
	of := s.distrust.ofLocked(domain)
	for _, id := range packs {
		delete(of.marked, id)
	}
	return nil
}

// Damaged tells whether a place is known to be damaged.
func (s *Server) Damaged(domain seal.DomainID, id pack.ID, offset int64) bool {
	s.distrust.mu.RLock()
	defer s.distrust.mu.RUnlock()
	of := s.distrust.domains[domain]
	if of == nil {
		return false
	}
	return of.bad(index.Location{Pack: id, Offset: offset})
}

// HasPack tells whether the domain's index names a pack.
func (s *Server) HasPack(ctx context.Context, domain seal.DomainID, id pack.ID) (bool, error) {
	d, err := s.domain(ctx, domain)
	if err != nil {
		return false, err
	}
	return d.set.HasPack(id)
}
