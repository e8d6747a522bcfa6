package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// witnessTimeout bounds the look at one record of the log: a slow store must not
// keep agents out.
const witnessTimeout = 10 * time.Second

// ahead tells by numbers alone why what an agent saw cannot have been the history
// that this controller of an epoch goes on with: head is its newest record, base
// the newest when its reign began. Empty when it can.
func ahead(seen, head, base catalog.Witness, epoch uint64) string {
	switch {
	case seen.Epoch > epoch:
		return fmt.Sprintf("a controller of epoch %d, this one is of epoch %d: the store was rolled back, or another controller uses it", seen.Epoch, epoch)
	case seen.Epoch == epoch && seen.Number > head.Number:
		return fmt.Sprintf("record %d of the catalog log, which ends at record %d: the store was rolled back, or another controller uses it", seen.Number, head.Number)
	case seen.Epoch < epoch && seen.Number > base.Number:
		return fmt.Sprintf("record %d of the catalog log (epoch %d), which ended at record %d when this controller took over: the store was rolled back before", seen.Number, seen.Epoch, base.Number)
	case seen.Number == head.Number && seen.Hash != head.Hash:
		return fmt.Sprintf("another record %d of the catalog log: the store was rolled back", seen.Number)
	}
	return ""
}

// checkWitness compares what the agent last saw of the repository with what is
// there. An agent that has seen more, or something else, proves that the store was
// rolled back, or that another controller has taken over: deletion is paused
// until a person has decided. Backups go on.
func (s *session) checkWitness(ctx context.Context, seen catalog.Witness) {
	own := s.hub.deps.Witness()
	if seen.Repository != own.Repository || seen.Repository.IsZero() || seen.Number == 0 {
		return
	}
	reason := ahead(seen, own, s.hub.deps.Base, s.hub.opts.Epoch)
	if reason == "" {
		reason = s.forked(ctx, seen)
	}
	if reason == "" {
		return
	}
	reason = fmt.Sprintf("agent %s has seen %s", s.peer.Name, reason)
	news := false
	err := s.hub.deps.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) (err error) {
		news, err = tx.Pause(catalog.Pause{Kind: catalog.PauseRolledBack, Subject: s.peer.Name, Reason: reason, Since: time.Now(), Witness: seen})
		if err != nil || !news {
			return err
		}
		return s.hub.deps.Trail.Append(tx, catalog.AuditRecord{Actor: "agent/" + s.peer.Name, Address: s.peer.Address,
			Action: "repository.witness", Object: "repository " + seen.Repository.String(), Outcome: errs.Conflict.Error(), Detail: reason})
	})
	switch {
	case err != nil:
		s.log.Error("deletion not paused although an agent has seen a newer state of the repository", zap.String("reason", reason), zap.Error(err))
	case news:
		s.hub.deps.Events.Publish(event.Event{Kind: event.DeletionChanged, Agent: s.peer.Agent, AgentName: s.peer.Name, Message: "paused: " + reason})
		s.log.Error("agent has seen a newer state of the repository than the store has, deletion is paused",
			zap.Uint64("seen_epoch", seen.Epoch), zap.Uint64("seen_log_number", seen.Number), zap.Uint64("log_number", own.Number))
	}
}

// forked looks whether the store has the very record that the agent saw.
func (s *session) forked(ctx context.Context, seen catalog.Witness) string {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	err := s.hub.deps.Holds(ctx, seen)
	switch {
	case errors.Is(err, errs.Conflict):
		return fmt.Sprintf("another record %d of the catalog log: the store was rolled back", seen.Number)
	case err != nil:
		s.log.Warn("not compared with the store what the agent has seen of it", zap.Uint64("seen_log_number", seen.Number), zap.Error(err))
	}
	return ""
}
