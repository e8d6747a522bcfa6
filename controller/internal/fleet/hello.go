package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// MinCapability is the lowest capability number of an agent that this
// controller works with.
const MinCapability = 1

// hello waits for the first message and checks it.
func (s *session) hello(ctx context.Context, in <-chan received) (*Hello, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helloTimeout, fmt.Errorf("open session: no hello within %s: %w", helloTimeout, errs.Timeout))
	defer cancel()
	var r received
	select {
	case r = <-in:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if errors.Is(r.err, io.EOF) {
		return nil, fmt.Errorf("open session: closed before hello: %w", errs.Invalid)
	} else if r.err != nil {
		return nil, r.err
	}
	hello, ok := r.message.(*Hello)
	switch {
	case !ok:
		return nil, fmt.Errorf("open session: the first message is not hello: %w", errs.Invalid)
	case hello.Build.Capability < MinCapability:
		return nil, fmt.Errorf("open session: the agent's capability number is %d, this controller needs at least %d; install a newer tuskvault-agent: %w",
			hello.Build.Capability, MinCapability, errs.Unsupported)
	case len(hello.Running) > maxRunning:
		return nil, fmt.Errorf("open session: %d running attempts, at most %d are taken: %w", len(hello.Running), maxRunning, errs.Invalid)
	}
	hello.Build = boundBuild(hello.Build)
	hello.Allow = boundList(hello.Allow, maxAllow, maxWord)
	return hello, nil
}

// open makes the session the agent's live one. In this order:
//
//  1. What the agent said of itself is stored. A crash after it leaves facts
//     that the next hello writes again.
//  2. An older session of the agent is ended, and waited for, so that reports
//     it had received are journaled before the attempts are compared.
//  3. The attempts that the agent runs are compared with the journal. A crash
//     after it leaves attempts lost or going on, as journaled.
//  4. The agent is told (by run).
func (s *session) open(ctx context.Context, hello *Hello) (*Welcome, error) {
	if err := s.storeAgent(ctx, hello); err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	s.storeInventory(ctx, &hello.Inventory)
	s.checkWitness(ctx, hello.Witness)
	if err := s.hub.add(ctx, s); err != nil {
		return nil, err
	}
	s.hub.touch(s.peer.Agent, time.Time{})
	abandon, err := s.hub.deps.Jobs.Reconcile(ctx, s.peer.Agent, hello.Running)
	if err != nil {
		return nil, fmt.Errorf("open session: compare running attempts: %w", err)
	}
	return &Welcome{Build: s.hub.opts.Build, Epoch: s.hub.opts.Epoch, Heartbeat: s.hub.opts.Heartbeat, Lease: s.hub.opts.Lease,
		Abandon: abandon, Witness: s.hub.deps.Witness(), AgentName: s.peer.Name}, nil
}

// add makes s the live session of its agent after ending an older one.
func (h *Hub) add(ctx context.Context, s *session) error {
	h.mu.Lock()
	old := h.sessions[s.peer.Agent]
	if h.draining {
		h.mu.Unlock()
		return fmt.Errorf("open session: the controller is stopping: %w", errs.Unavailable)
	}
	h.sessions[s.peer.Agent] = s
	if old == nil {
		h.announceLocked(s, event.AgentOnline, "from "+s.peer.Address)
	}
	h.mu.Unlock()
	if old == nil {
		return nil
	}
	old.end(fmt.Errorf("session: replaced by a newer one of the same agent: %w", errs.Conflict))
	select {
	case <-old.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// remove takes s away, unless a newer session has taken its place. reason is for people.
func (h *Hub) remove(s *session, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.peer.Agent] != s {
		return
	}
	delete(h.sessions, s.peer.Agent)
	if !h.draining { // then it is the controller that goes
		h.announceLocked(s, event.AgentOffline, reason)
	}
}

// announceLocked tells that an agent came or went; under the lock, so that the
// order is right. A session that replaces another of its agent is neither.
func (h *Hub) announceLocked(s *session, kind event.Kind, message string) {
	h.deps.Events.Publish(event.Event{Kind: kind, Agent: s.peer.Agent, AgentName: s.peer.Name, Message: message})
}

// storeAgent writes what the agent says of its program. It refuses an agent
// that was revoked between authorization and here.
func (s *session) storeAgent(ctx context.Context, hello *Hello) error {
	return s.hub.deps.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		a, err := tx.Agent(s.peer.Agent)
		if err != nil {
			return err
		}
		if a.State != catalog.AgentActive {
			return fmt.Errorf("agent %s is %s: %w", a.Name, a.State, errs.Denied)
		}
		a.Build, a.Address, a.Allow, a.LastSeen = hello.Build, clip(s.peer.Address, maxWord), hello.Allow, time.Now()
		a.Witness = hello.Witness
		return tx.PutAgent(a)
	})
}
