package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// logBatch is the largest number of log lines journaled in one transaction.
const logBatch = 100

// report journals reports in the order in which they came, and answers a result
// only after it is journaled. An error that may pass ends the session: the
// agent keeps its results and sends them again in the next one.
func (s *session) report(ctx context.Context) {
	var next Inbound // taken from the queue by a batch it does not belong to
	for {
		m := next
		if next = nil; m == nil {
			var ok bool
			if m, ok = <-s.reports; !ok {
				return
			}
		}
		var err error
		switch m := m.(type) {
		case *LogLine:
			next, err = s.logLines(ctx, m)
		case *Accept:
			err = s.accept(ctx, m)
		case *Reject:
			err = s.reject(ctx, m)
		case *Result:
			err = s.result(ctx, m)
		case *Inventory:
			s.storeInventory(ctx, m)
		}
		if err != nil {
			s.cancel(err)
		}
	}
}

// logLines journals a line and those of the same attempt that wait behind it.
func (s *session) logLines(ctx context.Context, first *LogLine) (next Inbound, err error) {
	lines := []catalog.LogLine{boundLine(first.LogLine)}
	if n := s.dropped.Swap(0); n > 0 {
		lines = append(lines, catalog.LogLine{Time: first.Time, Level: "warn", Message: fmt.Sprintf("%d log lines dropped: they came faster than they could be kept", n)})
	}
	for len(lines) < logBatch && next == nil {
		select {
		case m, ok := <-s.reports:
			if line, same := m.(*LogLine); ok && same && line.Ref == first.Ref {
				lines = append(lines, boundLine(line.LogLine))
				continue
			}
			next = m // nil when the queue is closed and empty
		default:
		}
		break
	}
	err = s.hub.deps.Jobs.Log(ctx, s.peer.Agent, first.Ref, lines...)
	if refused(err) {
		s.foreign(ctx, first.Ref, "job.log", err)
		err = nil
	}
	return next, err
}

func (s *session) accept(ctx context.Context, m *Accept) error {
	s.answered(m.Ref)
	err := s.hub.deps.Jobs.Accept(ctx, s.peer.Agent, m.Ref)
	if refused(err) {
		s.foreign(ctx, m.Ref, "job.accept", err)
		s.send(&Cancel{Ref: m.Ref, Reason: err.Error()})
		return nil
	}
	return err
}

func (s *session) reject(ctx context.Context, m *Reject) error {
	s.answered(m.Ref)
	err := s.hub.deps.Jobs.Reject(ctx, s.peer.Agent, m.Ref, clip(m.Reason, maxText), m.Retryable)
	if refused(err) {
		s.foreign(ctx, m.Ref, "job.reject", err)
		return nil
	}
	return err
}

// result journals the end of an attempt, then acknowledges it. A result that
// can never count (its job is unknown, its attempt long over) is acknowledged
// too, or the agent would keep and send it for ever; one of another agent's job
// is not.
func (s *session) result(ctx context.Context, m *Result) error {
	s.answered(m.Ref)
	err := s.hub.deps.Jobs.Result(ctx, s.peer.Agent, m.Ref, boundResult(m.Result), boundDrill(m.Drill))
	if refused(err) {
		s.foreign(ctx, m.Ref, "job.result", err)
		if errors.Is(err, errs.Denied) || errors.Is(err, errs.Invalid) {
			return nil
		}
		err = nil
	}
	if err == nil {
		s.send(&ResultAck{Ref: m.Ref})
		s.wakeUp() // the agent has room now
	}
	return err
}

// refused tells an answer that will be the same next time.
func refused(err error) bool {
	return errors.Is(err, errs.Denied) || errors.Is(err, errs.NotFound) || errors.Is(err, errs.Conflict) ||
		errors.Is(err, errs.Invalid) || errors.Is(err, errs.Canceled)
}

// foreign notes a report that was refused. An attempt that has ended meanwhile
// is daily life; an attempt of another agent or of no job is audited.
func (s *session) foreign(ctx context.Context, ref job.Ref, action string, err error) {
	s.log.Info("report refused", zap.String("action", action), zap.Stringer("job_id", ref.Job), zap.Stringer("attempt", ref.Fence), zap.Error(err))
	if errors.Is(err, errs.Denied) || errors.Is(err, errs.NotFound) {
		kind := errs.KindOf(err)
		s.hub.deps.Trail.Refuse(ctx, catalog.AuditRecord{Actor: "agent/" + s.peer.Name, Address: s.peer.Address, Action: action,
			Object: "job " + ref.Job.String(), Outcome: kind.Error(), Detail: err.Error()})
	}
}

// beat answers heartbeats and extends leases, apart from the reports: a slow
// journal must not cost an agent that lives its leases.
func (s *session) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case hb := <-s.beats:
			abandon, err := s.hub.deps.Jobs.ExtendLease(ctx, s.peer.Agent, hb.Running)
			if err != nil {
				if ctx.Err() == nil {
					s.log.Warn("leases not extended, will try at the next heartbeat", zap.Error(err))
				}
				continue
			}
			for _, ref := range abandon {
				s.send(&Cancel{Ref: ref, Reason: "the attempt is over for the controller"})
			}
			s.send(&HeartbeatAck{Time: time.Now(), Witness: s.hub.deps.Witness()})
		}
	}
}
