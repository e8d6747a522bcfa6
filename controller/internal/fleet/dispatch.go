package fleet

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// dispatch hands work to the agent: at once when woken, and every pollEvery in
// case a call to Wake found no session. It takes back offers that nobody
// answers.
func (s *session) dispatch(ctx context.Context) {
	tick := time.NewTicker(min(pollEvery, s.hub.opts.OfferTimeout/2))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
			s.withdraw(ctx)
			s.retryInventory(ctx)
		}
		for s.offerNext(ctx) {
		}
	}
}

// pastCapability is the capability number from which agents take what past
// restores took.
const pastCapability = 2

// offerNext leases the agent's next attempt and offers it. It tells whether
// there may be more.
func (s *session) offerNext(ctx context.Context) bool {
	offer, ok, err := s.hub.deps.Jobs.Lease(ctx, s.peer.Agent)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("no attempt leased, will try again", zap.Error(err))
		}
		return false
	}
	if !ok {
		return false
	}
	grant, err := s.grant(ctx, offer)
	if err != nil {
		s.log.Error("attempt not offered", zap.Stringer("job_id", offer.Ref.Job), zap.Error(err))
		s.takeBack(ctx, offer.Ref, fmt.Sprintf("keys of the attempt: %v", err))
		return false // the same again would fail the same way; the next tick tries
	}
	s.mu.Lock()
	s.offers[offer.Ref] = time.Now().Add(s.hub.opts.OfferTimeout)
	s.mu.Unlock()
	if s.capability < pastCapability {
		offer.Past = job.Past{} // it would refuse the work for a word that it does not know
	}
	s.send(&Offer{Offer: offer, Grant: grant})
	return true
}

// grant gives the keys for what the journal says the attempt is, never for
// what the agent says.
func (s *session) grant(ctx context.Context, o job.Offer) (repo.Grant, error) {
	switch o.Job.Kind {
	case catalog.JobBackup:
		return s.hub.deps.Keys.BackupGrant(ctx, o.Domain)
	case catalog.JobRestore, catalog.JobDrill:
		return s.hub.deps.Keys.RestoreGrant(ctx, o.Snapshot)
	}
	return repo.Grant{}, fmt.Errorf("job %s is of unknown kind %d", o.Job.ID, o.Job.Kind)
}

// answered notes that an offer is no longer open.
func (s *session) answered(ref job.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.offers, ref)
}

// withdraw takes back offers that were not answered in time. The agent is told
// to stop, in case its answer is only late.
func (s *session) withdraw(ctx context.Context) {
	var late []job.Ref
	s.mu.Lock()
	for ref, until := range s.offers {
		if !time.Now().Before(until) {
			late = append(late, ref)
			delete(s.offers, ref)
		}
	}
	s.mu.Unlock()
	for _, ref := range late {
		reason := fmt.Sprintf("offer not answered within %s", s.hub.opts.OfferTimeout)
		s.send(&Cancel{Ref: ref, Reason: reason})
		s.takeBack(ctx, ref, reason)
	}
}

// takeBack ends an attempt that never began. When that cannot be journaled the
// lease ends it.
func (s *session) takeBack(ctx context.Context, ref job.Ref, reason string) {
	if err := s.hub.deps.Jobs.Reject(ctx, s.peer.Agent, ref, reason, true); err != nil && !refused(err) && ctx.Err() == nil {
		s.log.Warn("offer not taken back, its lease will end it", zap.Stringer("job_id", ref.Job), zap.Error(err))
	}
}
