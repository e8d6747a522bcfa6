package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Bounds of one session's queues.
const (
	// outQueue holds messages to the agent: a few offers, cancels and
	// acknowledgements. An agent that lets it fill does not read.
	outQueue = 64
	// reportQueue holds reports that wait to be journaled. Log lines beyond it
	// are dropped and counted; any other report beyond it ends the session, and
	// the agent sends it again in the next one.
	reportQueue = 256
	// maxRunning bounds the attempts an agent may claim to be executing; ten
	// times what one agent is ever given at once.
	maxRunning = 256
)

// session is the live stream of one agent.
type session struct {
	hub  *Hub
	peer Peer
	// capability of the agent's program; set before anything is offered.
	capability uint32
	log        *zap.Logger
	cancel     context.CancelCauseFunc
	done       chan struct{} // closed when nothing of the session runs any more

	out     chan Outbound
	reports chan Inbound
	beats   chan *Heartbeat // holds the newest only
	wake    chan struct{}
	dropped atomic.Int64 // log lines dropped since the last that was kept

	mu      sync.Mutex
	offers  map[job.Ref]time.Time // unanswered offers, and until when they stand
	pending *Inventory            // not stored yet: that failed, or others were written too lately
}

// Serve runs one session until the agent, the agent's revocation, a newer
// session of the same agent, or ctx ends it. It returns nil when the agent
// closed the stream, else the reason that the agent is to be told.
//
// Reports received before the end are still journaled, for at most
// drainTimeout. After Serve has returned the caller must end the stream, since
// goroutines may still wait in conn's Send and Receive.
func (h *Hub) Serve(ctx context.Context, peer Peer, conn Conn) (err error) {
	if err := h.enter(); err != nil {
		return err
	}
	defer h.serving.Done()
	if err := h.admit(peer.Agent); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{hub: h, peer: peer, cancel: cancel, done: make(chan struct{}),
		log:     h.log.With(zap.Stringer("agent_id", peer.Agent), zap.String("agent", peer.Name), zap.String("address", peer.Address)),
		out:     make(chan Outbound, outQueue),
		reports: make(chan Inbound, reportQueue),
		beats:   make(chan *Heartbeat, 1),
		wake:    make(chan struct{}, 1),
		offers:  make(map[job.Ref]time.Time)}
	defer close(s.done)

	in := s.receive(ctx, conn)
	hello, err := s.hello(ctx, in)
	if err != nil {
		return err
	}
	s.capability = hello.Build.Capability
	welcome, err := s.open(ctx, hello)
	if err != nil {
		h.remove(s, err.Error())
		return err
	}
	defer func() {
		reason := "it closed its session"
		if err != nil {
			reason = err.Error()
		}
		h.remove(s, reason)
	}()
	s.log.Info("session opened", zap.String("version", hello.Build.Version), zap.Int("running", len(hello.Running)), zap.Int("abandoned", len(welcome.Abandon)))
	err = s.run(ctx, conn, in, welcome)
	s.log.Info("session closed", zap.NamedError("reason", err))
	return err
}

// enter counts a call of Serve, unless the hub is draining.
func (h *Hub) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return fmt.Errorf("open session: the controller is stopping: %w", errs.Unavailable)
	}
	h.serving.Add(1)
	return nil
}

// received is what the reading goroutine hands over.
type received struct {
	message Inbound
	err     error
}

// receive reads conn in a goroutine of its own, since a read cannot be given a
// deadline. The goroutine ends with the stream; nobody waits for it, because
// the stream ends only after Serve has returned.
func (s *session) receive(ctx context.Context, conn Conn) <-chan received {
	in := make(chan received) // unbuffered: what is not taken stays with the agent
	go func() {
		for {
			m, err := conn.Receive()
			select {
			case in <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return in
}

// run starts the session's goroutines, routes messages until something ends
// it, and waits for the goroutines.
func (s *session) run(ctx context.Context, conn Conn, in <-chan received, welcome *Welcome) error {
	// The writer may be stuck in Send until the stream has ended, so nobody
	// waits for it here; it touches nothing but the stream and its queue.
	go s.write(ctx, conn, welcome)
	var workers sync.WaitGroup
	work, stop := outlive(ctx, drainTimeout)
	defer stop()
	workers.Go(func() { s.report(work) })
	workers.Go(func() { s.beat(ctx) })
	workers.Go(func() { s.dispatch(ctx) })
	s.wakeUp()
	err := s.route(ctx, in)
	s.cancel(err)
	close(s.reports) // route, its only writer, has returned
	workers.Wait()
	return err
}

// route hands each message to where it is dealt with, and never blocks on what
// is done with it: a heartbeat behind a slow report is still seen.
func (s *session) route(ctx context.Context, in <-chan received) error {
	silence := time.NewTimer(s.hub.opts.Lease)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			return fmt.Errorf("session: no message for %s: %w", s.hub.opts.Lease, errs.Timeout)
		case r := <-in:
			if errors.Is(r.err, io.EOF) {
				return nil
			} else if r.err != nil {
				return r.err
			}
			silence.Reset(s.hub.opts.Lease)
			if err := s.take(r.message); err != nil {
				return err
			}
		}
	}
}

// take deals with one message, in memory only.
func (s *session) take(m Inbound) error {
	switch m := m.(type) {
	case *Hello:
		return fmt.Errorf("session: a second hello: %w", errs.Invalid)
	case *Heartbeat:
		if len(m.Running) > maxRunning {
			return fmt.Errorf("heartbeat: %d running attempts, at most %d are taken: %w", len(m.Running), maxRunning, errs.Invalid)
		}
		s.hub.touch(s.peer.Agent, m.Time)
		select {
		case <-s.beats: // an older one that nobody has answered yet
		default:
		}
		s.beats <- m
		return nil
	case *Progress:
		s.hub.touch(s.peer.Agent, time.Time{})
		if err := s.hub.deps.Jobs.Progress(s.peer.Agent, m.Ref, boundProgress(m.Progress)); err != nil {
			s.log.Debug("progress refused", zap.Stringer("job_id", m.Ref.Job), zap.Error(err))
		}
		return nil
	}
	select {
	case s.reports <- m:
		return nil
	default:
	}
	if _, ok := m.(*LogLine); ok {
		s.dropped.Add(1)
		return nil
	}
	return fmt.Errorf("session: more than %d reports wait to be journaled: %w", reportQueue, errs.Exhausted)
}

// write sends the welcome and then what is queued.
func (s *session) write(ctx context.Context, conn Conn, welcome *Welcome) {
	var m Outbound = welcome
	for {
		if err := conn.Send(m); err != nil {
			// The reader learns the reason; this only makes sure that the session ends.
			s.cancel(fmt.Errorf("send to agent: %w", err))
			return
		}
		select {
		case m = <-s.out:
		case <-ctx.Done():
			return
		}
	}
}

// send queues a message. An agent that has let the queue fill does not read,
// and loses its session; only acknowledged heartbeats may be dropped.
func (s *session) send(m Outbound) {
	select {
	case s.out <- m:
		return
	default:
	}
	if _, ok := m.(*HeartbeatAck); !ok {
		s.cancel(fmt.Errorf("session: the agent does not read, %d messages wait: %w", outQueue, errs.Exhausted))
	}
}

// end ends the session for a reason that the agent is told.
func (s *session) end(cause error) { s.cancel(cause) }

// wakeUp makes dispatch look for work.
func (s *session) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// outlive gives a context that lives until grace after ctx has ended, for work
// that was taken on before the end: a report that was received must be
// journaled although the stream it came on is gone.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var mu sync.Mutex
	var timer *time.Timer
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(grace, func() { cancel(fmt.Errorf("%s after the session ended: %w", grace, errs.Timeout)) })
	})
	return work, func() {
		stop()
		cancel(context.Canceled)
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}
