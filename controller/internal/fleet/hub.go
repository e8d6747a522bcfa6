package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Jobs is what sessions need of the job manager. *job.Manager implements it.
type Jobs interface {
	Lease(ctx context.Context, agent repo.AgentID) (job.Offer, bool, error)
	Accept(ctx context.Context, agent repo.AgentID, ref job.Ref) error
	Reject(ctx context.Context, agent repo.AgentID, ref job.Ref, reason string, retryable bool) error
	Progress(agent repo.AgentID, ref job.Ref, p job.Progress) error
	Log(ctx context.Context, agent repo.AgentID, ref job.Ref, lines ...catalog.LogLine) error
	Result(ctx context.Context, agent repo.AgentID, ref job.Ref, r catalog.Result, drill *catalog.DrillReport) error
	ExtendLease(ctx context.Context, agent repo.AgentID, running []job.Ref) (abandon []job.Ref, err error)
	Reconcile(ctx context.Context, agent repo.AgentID, running []job.Ref) (abandon []job.Ref, err error)
}

// Keys gives derived keys and makes domains.
type Keys interface {
	// NewDomain makes a domain with keys of its own, durably in the store.
	NewDomain(ctx context.Context) (seal.DomainID, error)
	// BackupGrant gives what a backup into the domain may use.
	BackupGrant(ctx context.Context, domain seal.DomainID) (repo.Grant, error)
	// RestoreGrant gives what a restore or a drill of the snapshot may use.
	RestoreGrant(ctx context.Context, snapshot catalog.Snapshot) (repo.Grant, error)
}

// Catalog is where agents and instances are kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
	Refuse(ctx context.Context, r catalog.AuditRecord)
}

// Publisher is told which agents come and go. *event.Log implements it.
type Publisher interface {
	// Publish never blocks.
	Publish(e event.Event)
}

// Options are the rules of time.
type Options struct {
	// Build is the controller program, Epoch its reign.
	Build catalog.Build
	Epoch uint64
	// Heartbeat is how often agents send one; 0 means 10 s.
	Heartbeat time.Duration
	// Lease is how long an attempt lives without one; 0 means a minute. An agent
	// that is silent for as long loses its session.
	Lease time.Duration
	// OfferTimeout is how long an offer may stay unanswered; 0 means 30 s.
	OfferTimeout time.Duration
}

// Times that nobody needs to set.
const (
	helloTimeout = 15 * time.Second // for the first message, which carries the inventory
	flushEvery   = 30 * time.Second // between writes of last-seen times, all agents in one
	drainTimeout = 10 * time.Second // for reports already received, when a session or the program ends
	pollEvery    = 30 * time.Second // between looks for work without being woken
)

// Deps are what a Hub stands on.
type Deps struct {
	Catalog Catalog
	Jobs    Jobs
	Keys    Keys
	Trail   Trail
	Events  Publisher
	// Witness gives the newest state of the repository.
	Witness func() catalog.Witness
	// Base is the newest record of the log when this controller's reign began; zero
	// for the first one.
	Base catalog.Witness
	// Holds tells whether the store's log holds what a witness saw: Conflict when it
	// has something else in its place. It reads one record.
	Holds func(ctx context.Context, w catalog.Witness) error
	Log   *zap.Logger
}

// Hub holds the live sessions. It implements job.Dispatcher. Its methods may be
// called concurrently.
type Hub struct {
	deps Deps
	opts Options
	log  *zap.Logger

	mu       sync.Mutex
	draining bool
	sessions map[repo.AgentID]*session
	seen     map[repo.AgentID]*presence // agents seen since the last flush, or online
	budgets  map[repo.AgentID]*budgets  // what agents may still make the catalog write
	serving  sync.WaitGroup             // calls of Serve
}

var _ job.Dispatcher = (*Hub)(nil)

// NewHub makes a Hub. Sessions are served by Serve; Run keeps time.
func NewHub(deps Deps, opts Options) *Hub {
	if opts.Heartbeat <= 0 {
		opts.Heartbeat = 10 * time.Second
	}
	if opts.Lease <= 0 {
		opts.Lease = time.Minute
	}
	if opts.OfferTimeout <= 0 {
		opts.OfferTimeout = 30 * time.Second
	}
	return &Hub{deps: deps, opts: opts, log: deps.Log.Named("fleet"),
		sessions: make(map[repo.AgentID]*session), seen: make(map[repo.AgentID]*presence), budgets: make(map[repo.AgentID]*budgets)}
}

// Run writes down, every half a minute, when agents were last seen. When ctx
// ends it ends all sessions, waits until the reports that were already received
// are journaled (bounded by drainTimeout), and writes a last time.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if err := h.flushSeen(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("last-seen times not written, will try again", zap.Error(err))
			}
		}
	}
	h.drain()
	// The program is stopping, and these times exist nowhere else.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return h.flushSeen(last)
}

// drain ends all sessions and waits for them. Their handlers bound themselves.
func (h *Hub) drain() {
	h.mu.Lock()
	h.draining = true
	for _, s := range h.sessions {
		s.end(fmt.Errorf("the controller is stopping: %w", errs.Unavailable))
	}
	h.mu.Unlock()
	h.serving.Wait()
}

// Online tells whether the agent has a live session.
func (h *Hub) Online(agent repo.AgentID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[agent] != nil
}

// Presence is what is only known live of an agent.
type Presence struct {
	// Online tells whether it has a session.
	Online bool
	// LastSeen and ClockSkew (its clock minus ours) are from its last heartbeat;
	// zero when it was not seen since the program started.
	LastSeen  time.Time
	ClockSkew time.Duration
}

// Clocks gives what the clocks of the connected agents say now: as their last
// heartbeats said, moved on by the monotonic clock. In no order.
func (h *Hub) Clocks() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []time.Time
	for id, p := range h.seen {
		if h.sessions[id] != nil && !p.measured.IsZero() {
			out = append(out, p.measured.Add(p.skew).Round(0).Add(time.Since(p.measured)))
		}
	}
	return out
}

// Presence tells how an agent stands.
func (h *Hub) Presence(agent repo.AgentID) Presence {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := Presence{Online: h.sessions[agent] != nil}
	if s := h.seen[agent]; s != nil {
		p.LastSeen, p.ClockSkew = s.at, s.skew
	}
	return p
}

// End cuts the agent's session, if it has one; cause is what the agent is told.
func (h *Hub) End(agent repo.AgentID, cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[agent]; s != nil {
		s.end(cause)
	}
}

// Wake implements job.Dispatcher.
func (h *Hub) Wake(agent repo.AgentID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[agent]; s != nil {
		s.wakeUp()
	}
}

// Cancel implements job.Dispatcher.
func (h *Hub) Cancel(agent repo.AgentID, ref job.Ref, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[agent]; s != nil {
		s.send(&Cancel{Ref: ref, Reason: reason})
	}
}

// SetLogLevel sends a log level to the agent; Unavailable when it has no session.
func (h *Hub) SetLogLevel(agent repo.AgentID, level string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[agent]
	if s == nil {
		return fmt.Errorf("set log level: agent is offline: %w", errs.Unavailable)
	}
	s.send(&SetLogLevel{Level: level})
	return nil
}
