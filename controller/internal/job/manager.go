package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Options are the rules of time and number; zero values mean the defaults.
type Options struct {
	// Lease is how long an attempt lives without a heartbeat; 2 minutes by default.
	Lease time.Duration
	// Attempts is the largest number of attempts of a job; 3 by default.
	Attempts int
	// Backoff is the pause before the second attempt, which doubles with each; 10 s by default.
	Backoff time.Duration
	// PerAgent is the largest number of live attempts of one agent; 4 by default. One instance
	// never has more than one.
	PerAgent int
}

// Times that nobody needs to set.
const (
	// closingPatience is how long a job whose snapshot exists waits for its agent's last report.
	closingPatience = 30 * time.Second
	// cancelPatience is how long an agent may take to stop before its attempt is given up. It is
	// told again with each heartbeat.
	cancelPatience = time.Minute
	// resultPatience is how long a reconnected agent that no longer runs an attempt has to send
	// the result that it may still hold.
	resultPatience = 15 * time.Second
	// maxBackoff bounds the pause between attempts.
	maxBackoff = 10 * time.Minute
	// settleEvery is the pause before the store is asked again what became of a snapshot, and
	// storeTimeout bounds one question.
	settleEvery  = 30 * time.Second
	storeTimeout = time.Minute
	// retryEvery is the pause after the catalog could not be written.
	retryEvery = 5 * time.Second
)

// Bounds of number.
const (
	// keepAttempts is how many attempts of a job are kept: an agent that is always busy
	// makes one a back-off.
	keepAttempts = 20
	// maxUnfinished bounds the jobs that have not ended; each takes a few hundred bytes
	// of memory.
	maxUnfinished = 100_000
	// maxWatchers bounds the calls of Watch at a time.
	maxWatchers = 1024
)

// Manager runs jobs. Its methods may be called concurrently, after Recover.
type Manager struct {
	catalog  *catalog.Catalog
	store    Store
	opts     Options
	log      *zap.Logger
	dispatch Dispatcher
	events   Publisher
	kick     chan struct{} // of 1: the earliest due time may have changed
	settling chan struct{} // of 1: a job waits for the store

	mu       sync.Mutex
	jobs     map[repo.JobID]*entry
	watchers map[repo.JobID]map[chan struct{}]struct{}
	watching int
}

// entry is what is kept in memory of a job that has not ended.
type entry struct {
	order    int // of the transaction that wrote it
	id       repo.JobID
	kind     catalog.JobKind
	state    catalog.JobState
	agent    repo.AgentID
	instance repo.InstanceID
	name     string // of the instance
	dryRun   bool
	created  time.Time
	current  repo.Fence
	cancel   bool
	reason   string
	ending   bool
	next     time.Time // earliest time of the next attempt

	due      time.Time // when something happens if nothing else does; zero: never
	until    time.Time // due is never moved beyond this; zero: no bound
	heard    int       // grows whenever due is moved by news of the attempt
	settle   bool      // waits for keepSettling
	unknown  bool      // its agent came back without it
	progress *Progress
	pace     pace
	busy     int // rejections in a row
}

func (e *entry) ref() Ref { return Ref{Job: e.id, Fence: e.current} }

// live tells whether an agent holds an attempt.
func (e *entry) live() bool {
	switch e.state {
	case catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted:
		return !e.ending
	}
	return false
}

// New makes a Manager. Attach and Recover come next, then Run gives it life.
func New(c *catalog.Catalog, store Store, opts Options, log *zap.Logger) *Manager {
	opts.Lease = cmp.Or(opts.Lease, 2*time.Minute)
	opts.Attempts = cmp.Or(opts.Attempts, 3)
	opts.Backoff = cmp.Or(opts.Backoff, 10*time.Second)
	opts.PerAgent = cmp.Or(opts.PerAgent, 4)
	return &Manager{catalog: c, store: store, opts: opts, log: log.Named("job"), dispatch: nobody{}, events: nobody{},
		kick: make(chan struct{}, 1), settling: make(chan struct{}, 1),
		jobs: make(map[repo.JobID]*entry), watchers: make(map[repo.JobID]map[chan struct{}]struct{})}
}

// nobody stands in for a dispatcher, and for who is told, until there is one.
type nobody struct{}

func (nobody) Wake(repo.AgentID)                {}
func (nobody) Cancel(repo.AgentID, Ref, string) {}
func (nobody) Publish(event.Event)              {}

// Attach names the dispatcher. It must be called before Recover and Run.
func (m *Manager) Attach(d Dispatcher) { m.dispatch = d }

// Announce names who is told of changes. It must be called before Recover and Run.
func (m *Manager) Announce(p Publisher) { m.events = p }

// Recover takes up what a former process left; it must have returned nil before
// any other method is called. Live attempts get one whole lease for their agents
// to come back; queued jobs wait for their time; the store is asked about each
// job that was committing, and a snapshot that exists is recorded. A store that
// does not answer is asked again by Run.
func (m *Manager) Recover(ctx context.Context) error {
	var committing []repo.JobID
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for j, err := range tx.JobsIn(catalog.JobQueued, catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted) {
			if err != nil {
				return err
			}
			m.remember(j, 0)
			if j.State == catalog.JobCommitting {
				committing = append(committing, j.ID)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recover jobs: %w", err)
	}
	for _, id := range committing {
		if err := m.settle(ctx, id, false); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("recover jobs: %w", err)
			}
			m.log.Warn("snapshot not resolved, will try again", zap.Stringer("job_id", id), zap.Error(err))
		}
	}
	return nil
}

// Run keeps time until ctx ends: leases that run out, attempts that are due, and
// questions to the store about snapshots that may or may not exist.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.keepTime(ctx) })
	g.Go(func() error { return m.keepSettling(ctx) })
	return g.Wait()
}

func (m *Manager) keepTime(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.kick:
		case <-timer.C:
		}
		due, next := m.takeDue(time.Now())
		for _, e := range due {
			m.happen(ctx, e)
		}
		timer.Reset(next)
	}
}

// takeDue gives copies of the entries whose time has come, and how long it is
// until the next one's. An entry comes again after retryEvery, unless what it
// waited for has happened until then.
func (m *Manager) takeDue(now time.Time) (due []entry, next time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next = time.Hour
	for _, e := range m.jobs {
		if e.due.IsZero() {
			continue
		}
		if !e.due.After(now) {
			due = append(due, *e)
			e.due = now.Add(retryEvery)
			if e.state == catalog.JobQueued {
				e.due = time.Time{} // sessions ask by themselves from now on
			}
		}
		if !e.due.IsZero() {
			next = min(next, e.due.Sub(now))
		}
	}
	return due, next
}

// happen does what is due.
func (m *Manager) happen(ctx context.Context, e entry) {
	var err error
	switch e.state {
	case catalog.JobQueued:
		m.dispatch.Wake(e.agent)
	case catalog.JobCommitting:
		m.askStore(e.id)
	default:
		err = m.expire(ctx, e)
	}
	if err != nil && ctx.Err() == nil {
		m.log.Warn("job not moved on, will try again", zap.Stringer("job_id", e.id), zap.Error(err))
	}
}

// expire ends what did not come in time.
func (m *Manager) expire(ctx context.Context, e entry) error {
	why := fmt.Sprintf("the agent was silent for %s", m.opts.Lease)
	switch {
	case e.state == catalog.JobCommitted:
		why = "the agent made the snapshot and did not report its end"
	case e.unknown:
		why = "the agent came back and does not know it any more"
	case e.cancel:
		why = "canceled: " + e.reason
	}
	_, err := m.change(ctx, e.id, func(c *change) error {
		if c.job.Current != e.current || c.job.State != e.state || !m.unheard(e) {
			return errUnchanged // it was heard of meanwhile
		}
		return c.fire(EventExpired, why)
	})
	if errors.Is(err, errs.NotFound) {
		m.forget(e.id)
		return nil
	}
	return err
}

// unheard tells whether nothing was heard of a job since the entry was copied.
func (m *Manager) unheard(e entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.jobs[e.id]
	return now != nil && now.heard == e.heard
}

// askStore lets keepSettling find out what became of a job's snapshot.
func (m *Manager) askStore(id repo.JobID) {
	m.mu.Lock()
	if e := m.jobs[id]; e != nil {
		e.settle, e.due = true, time.Now().Add(settleEvery)
	}
	m.mu.Unlock()
	signal(m.settling)
	signal(m.kick) // due may be earlier than what keepTime waits for
}

func (m *Manager) forget(id repo.JobID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, id)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
