package session

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// read handles what the controller says.
func (l *link) read(st stream) error {
	for {
		m, err := st.Recv()
		if err != nil {
			return ended(err)
		}
		l.mu.Lock()
		l.heard = time.Now()
		l.mu.Unlock()
		l.c.runner.touch()
		if err := l.handle(m); err != nil {
			return err
		}
	}
}

// handle does what one message asks for. An error ends the link.
func (l *link) handle(m *tuskvaultv1.SessionResponse) error {
	switch m := m.GetMessage().(type) {
	case *tuskvaultv1.SessionResponse_HeartbeatAck:
		l.clock(m.HeartbeatAck.GetTime().AsTime(), time.Now())
		l.witness(m.HeartbeatAck.GetWitness())
		if err := l.c.o.State.settle(false); err != nil {
			l.log.Error("state not saved", zap.Error(err))
		}
	case *tuskvaultv1.SessionResponse_Offer:
		return l.offer(m.Offer)
	case *tuskvaultv1.SessionResponse_Cancel:
		for _, ref := range l.refs([]*tuskvaultv1.AttemptRef{m.Cancel.GetAttempt()}) {
			l.log.Info("attempt canceled", logging.JobID(ref.ID), logging.Attempt(ref.Fence), zap.String("reason", text(m.Cancel.GetReason())))
			l.c.runner.cancel(ref, fmt.Errorf("%s: %w", text(m.Cancel.GetReason()), errs.Canceled))
		}
	case *tuskvaultv1.SessionResponse_ResultAck:
		for _, ref := range l.refs([]*tuskvaultv1.AttemptRef{m.ResultAck.GetAttempt()}) {
			l.c.runner.forget(ref)
		}
	case *tuskvaultv1.SessionResponse_SetLogLevel:
		if err := l.c.o.SetLogLevel(m.SetLogLevel.GetLevel()); err != nil {
			l.log.Warn("log level not changed", zap.Error(err))
		}
	case *tuskvaultv1.SessionResponse_InventoryRequest:
		l.c.stock.ask()
	case *tuskvaultv1.SessionResponse_Welcome:
		return fmt.Errorf("session: a second welcome: %w", errs.Invalid)
	default:
		l.log.Warn("message of the controller ignored: this agent does not know its kind")
	}
	return nil
}

// offer answers an offer: taken, refused, or, when it has ended already, by its result.
func (l *link) offer(m *tuskvaultv1.JobOffer) error {
	j, err := jobFromWire(m)
	if j.ID.IsZero() {
		l.log.Warn("offer ignored", zap.Error(err)) // it has no name to answer to
		return nil
	}
	if err == nil {
		err = known(m)
	}
	if err == nil {
		err = l.rules.judge(j)
	}
	if err == nil {
		err = l.c.runner.take(j)
	}
	switch {
	case errors.Is(err, errAlreadyDone):
		l.c.runner.wakeUp()
		return nil
	case err != nil:
		l.log.Warn("offer refused", logging.JobID(j.ID), logging.Attempt(j.Fence), zap.Error(err))
		return l.reply(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Reject{Reject: &tuskvaultv1.JobReject{
			Attempt: refToWire(j.Ref()), Reason: text(err.Error()), Retryable: job.Retryable(err)}}})
	}
	return l.reply(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Accept{Accept: &tuskvaultv1.JobAccept{Attempt: refToWire(j.Ref())}}})
}

// known refuses an offer with a wish that this version would ignore: a snapshot
// without the part that a newer controller wanted must not look like success.
func known(m *tuskvaultv1.JobOffer) error {
	if err := rpc.CheckKnown(m); err != nil {
		return fmt.Errorf("the offer asks for something this version does not know: %w", err)
	}
	return nil
}

// clock notes the difference between the clocks.
func (l *link) clock(theirs, ours time.Time) {
	skew := theirs.Sub(ours)
	l.c.o.State.contact(ours, skew)
	l.mu.Lock()
	defer l.mu.Unlock()
	if skewed := skew.Abs() > skewNotice; skewed != l.skewed {
		l.skewed = skewed
		l.log.Warn("clock compared with the controller's", zap.Duration("controller_is_ahead_by", skew), zap.Bool("differs", skewed))
	}
}

// witness remembers what the controller says of the repository. One that is
// behind what was seen is not believed, and the log says so once a session.
func (l *link) witness(m *tuskvaultv1.Witness) {
	w, ok := witnessFromWire(m, time.Now())
	if !ok {
		return
	}
	if w.Repository != repo.RepositoryID(l.c.o.Identity.Current().Peer.Repository) {
		l.log.Error("controller speaks of another repository", logging.Repository(w.Repository))
		return
	}
	behind := l.c.o.State.witness(w)
	l.mu.Lock()
	defer l.mu.Unlock()
	if behind && !l.behind {
		l.behind = true
		seen := l.c.o.State.Facts().Witness
		l.log.Error("repository is behind what this agent has seen: its store may have been rolled back",
			zap.Uint64("log_number", w.LogNumber), zap.Uint64("seen_log_number", seen.LogNumber), zap.Uint64("seen_epoch", seen.Epoch))
	}
}
