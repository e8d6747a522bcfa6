package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Times and bounds of a link.
const (
	// welcomeTimeout bounds connecting, handshake and the controller's welcome.
	welcomeTimeout = time.Minute
	// heartbeatLeast and heartbeatMost bound what the controller may ask for.
	heartbeatLeast = time.Second
	heartbeatMost  = 5 * time.Minute
	// silentBeats is how many heartbeats may stay without any word of the
	// controller before the link is given up.
	silentBeats = 4
	// maxAnswers bounds answers to offers that wait to be sent. A controller that
	// offers more without reading the answers is broken.
	maxAnswers = 64
	// skewNotice is the difference of clocks from which the log says so.
	skewNotice = 30 * time.Second
)

// stream is what a link speaks on.
type stream = grpc.BidiStreamingClient[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]

// link is one session's stream.
type link struct {
	c        *Client
	log      *zap.Logger
	number   int
	interval time.Duration
	rules    rules

	mu sync.Mutex
	// answers to offers, oldest first.
	answers []*tuskvaultv1.SessionRequest
	// heard is when the controller was last heard of.
	heard time.Time
	// skewed tells that the log has said that the clocks differ; behind, that the
	// controller's view of the repository is older than what was seen.
	skewed, behind bool
}

// session runs one session from connecting to its end, and tells why it ended.
func (c *Client) session(ctx context.Context) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select {
	case <-c.renewed: // this connection shows the newest certificate anyway
	default:
	}
	greeting := time.AfterFunc(welcomeTimeout, func() {
		cancel(fmt.Errorf("open session: no welcome within %s: %w", welcomeTimeout, errs.Timeout))
	})
	defer greeting.Stop()
	st, l, err := c.greet(ctx, conn)
	if err != nil {
		return because(ctx, err)
	}
	greeting.Stop()

	g, work := errgroup.WithContext(ctx)
	// The stream ends, and with it Send and Recv, as soon as one of the three ends.
	stop := context.AfterFunc(work, func() { cancel(context.Cause(work)) })
	defer stop()
	g.Go(func() error { return l.read(st) })
	g.Go(func() error { return l.write(work, st) })
	g.Go(func() error { return l.watch(work) })
	err = because(ctx, g.Wait())
	if err := c.o.State.settle(true); err != nil {
		l.log.Error("state not saved", zap.Error(err))
	}
	return err
}

// because gives the reason for which a context was ended, else the error itself.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// greet opens the stream and exchanges hello and welcome. In this order: the
// controller's epoch is checked and, if new, saved; only then is anything in the
// welcome obeyed.
func (c *Client) greet(ctx context.Context, conn grpc.ClientConnInterface) (stream, *link, error) {
	hello := &tuskvaultv1.Hello{Build: buildToWire(c.o.Build), Inventory: c.stock.hello(ctx), Allow: c.o.Allow,
		Witness: witnessToWire(c.o.State.Facts().Witness)}
	st, err := tuskvaultv1.NewAgentServiceClient(conn).Session(ctx)
	if err != nil {
		return nil, nil, err
	}
	hello.Running = refsToWire(c.runner.held()) // last, so that it is true when it is sent
	if err := st.Send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	m, err := st.Recv()
	if err != nil {
		return nil, nil, ended(err)
	}
	w := m.GetWelcome()
	if w == nil {
		return nil, nil, fmt.Errorf("open session: the first answer is no welcome: %w", errs.Invalid)
	}
	if err := c.o.State.admit(w.GetEpoch(), w.GetAgentName(), c.o.Controller); err != nil {
		return nil, nil, fmt.Errorf("open session: %w", err)
	}
	c.links++
	l := &link{c: c, number: c.links, heard: time.Now(), log: c.log.With(logging.Epoch(w.GetEpoch())),
		interval: min(max(time.Duration(w.GetHeartbeatIntervalMs())*time.Millisecond, heartbeatLeast), heartbeatMost),
		rules:    rules{allow: c.o.Allow, kinds: c.kinds(), instances: c.o.Instances, epoch: w.GetEpoch()}}
	c.runner.touch()
	l.witness(w.GetWitness())
	c.runner.abandon(l.refs(w.GetAbandon()))
	l.log.Info("session opened", logging.Address(c.o.Controller), zap.String("controller_version", w.GetBuild().GetVersion()),
		logging.Agent(w.GetAgentName()), zap.Duration("heartbeat", l.interval), zap.Int("attempts", len(hello.GetRunning())))
	return st, l, nil
}

// ended gives the end of a stream a kind: the controller closed it.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("session: closed by the controller: %w", errs.Unavailable)
	}
	return err
}

// refs reads attempts, and leaves out what makes no sense.
func (l *link) refs(all []*tuskvaultv1.AttemptRef) []job.Ref {
	var out []job.Ref
	for _, m := range all {
		ref, err := refFromWire(m)
		if err != nil {
			l.log.Warn("message of the controller ignored", zap.Error(err))
			continue
		}
		out = append(out, ref)
	}
	return out
}

// write is the only sender: what is due is pulled, heartbeats first.
func (l *link) write(ctx context.Context, st stream) error {
	beat := time.NewTicker(l.interval)
	defer beat.Stop()
	for due := true; ; {
		m, wait := l.next(due, time.Now())
		due = false
		if m != nil {
			if err := st.Send(m); errors.Is(err, io.EOF) {
				<-ctx.Done() // the reader learns why
				return context.Cause(ctx)
			} else if err != nil {
				return err
			}
		}
		var later <-chan time.Time // nil, which blocks for ever, when nothing is due by time
		switch {
		case m != nil:
			select { // a heartbeat goes before the rest of what is queued
			case <-beat.C:
				due = true
			case <-ctx.Done():
				return context.Cause(ctx)
			default:
			}
			continue
		case wait > 0:
			later = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			due = true
		case <-l.c.runner.wake:
		case <-later:
		}
	}
}

// next gives what is to be sent now, or how long nothing is.
func (l *link) next(beat bool, now time.Time) (*tuskvaultv1.SessionRequest, time.Duration) {
	if beat {
		return &tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Heartbeat{Heartbeat: &tuskvaultv1.Heartbeat{
			Time: timestamppb.New(now), Running: refsToWire(l.c.runner.held())}}}, 0
	}
	if m := l.answer(); m != nil {
		return m, 0
	}
	r, wait := l.c.runner.next(l.number, now)
	switch {
	case r == nil:
		if m := l.c.stock.next(now); m != nil {
			return &tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Inventory{Inventory: m}}, 0
		}
		return nil, wait
	case r.result != nil:
		return &tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Result{Result: resultToWire(r.ref, *r.result)}}, 0
	case r.line != nil:
		return &tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Log{Log: lineToWire(r.ref, *r.line)}}, 0
	}
	return &tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Progress{Progress: progressToWire(r.ref, *r.progress, r.at)}}, 0
}

// answer takes the oldest answer to an offer.
func (l *link) answer() *tuskvaultv1.SessionRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.answers) == 0 {
		return nil
	}
	m := l.answers[0]
	l.answers = l.answers[1:]
	return m
}

// reply queues an answer to an offer.
func (l *link) reply(m *tuskvaultv1.SessionRequest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.answers) >= maxAnswers {
		return fmt.Errorf("session: %d answers wait, the controller does not read: %w", len(l.answers), errs.Exhausted)
	}
	l.answers = append(l.answers, m)
	l.c.runner.wakeUp()
	return nil
}

// watch ends the link when the controller is silent or the certificate is new.
func (l *link) watch(ctx context.Context) error {
	tick := time.NewTicker(l.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.c.renewed:
			return errRenewed
		case <-tick.C:
		}
		l.mu.Lock()
		silent := time.Since(l.heard)
		l.mu.Unlock()
		if silent > silentBeats*l.interval {
			return fmt.Errorf("session: no word from the controller for %s: %w", silent.Round(time.Second), errs.Timeout)
		}
	}
}
