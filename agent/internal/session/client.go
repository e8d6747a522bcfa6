package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/version"
)

// Options are what a session needs.
type Options struct {
	// Controller is its address, host:port.
	Controller string
	// Dial has further options of the connection; tests put their own dialer here.
	Dial []grpc.DialOption
	// Identity of the agent, renewed in place; IdentityPath is where it is kept.
	Identity     *pki.Holder
	IdentityPath string
	// State and Journal on disk.
	State   *State
	Journal *journal.Journal
	// Inventor looks at the host.
	Inventor Inventor
	// Executors by the kind of work. A kind without one is refused.
	Executors map[job.Kind]job.Executor
	// Allow is the agent's own list of what it may be told.
	Allow []string
	// Instances the agent looks after, by name.
	Instances []string
	// Workers is how many attempts may run at once; 0 means 2.
	Workers int
	// Orphan is how long an attempt goes on without a controller; 0 means 10 minutes.
	Orphan time.Duration
	// SetLogLevel changes the agent's log level.
	SetLogLevel func(level string) error
	// Build is this program.
	Build version.Build
	Log   *zap.Logger
}

// Times of the client.
const (
	// retryFirst and retryMax bound the back-off between sessions: before try n it
	// is a random time below retryFirst * 2^n, at most retryMax, so that a fleet
	// does not come back all at once.
	retryFirst = time.Second
	retryMax   = time.Minute
	// retryLeast keeps full jitter from giving nearly nothing.
	retryLeast = 100 * time.Millisecond
	// steady is how long a session must have lasted for the back-off to start anew.
	steady = time.Minute
	// stopWork bounds how long executors may take to stop when the agent does;
	// stopReport how long their results may then take to be acknowledged.
	stopWork   = 30 * time.Second
	stopReport = 5 * time.Second
	// defaultOrphan is how long an attempt goes on without a controller.
	defaultOrphan = 10 * time.Minute
	// defaultWorkers lets a restore run beside a backup.
	defaultWorkers = 2
)

// errStopping is why attempts end when the agent does. They may be tried again.
var errStopping = fmt.Errorf("the agent is stopping: %w", errs.Unavailable)

// errRenewed ends a link so that the next one shows the new certificate.
var errRenewed = errors.New("certificate renewed")

// Client is the agent's side of its controller.
type Client struct {
	o      Options
	log    *zap.Logger
	runner *runner
	stock  *stock
	// renewed tells the link that there is a new certificate; one place.
	renewed chan struct{}
	// links counts links. Only the goroutine of sessions touches it.
	links int
}

// New prepares a client. Nothing runs before Run.
func New(o Options) *Client {
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.Orphan <= 0 {
		o.Orphan = defaultOrphan
	}
	c := &Client{o: o, log: o.Log.Named("session"), runner: newRunner(o), renewed: make(chan struct{}, 1)}
	c.stock = newStock(o.Inventor, c.runner.wakeUp, o.Log)
	return c
}

// Run serves the controller until ctx ends. Then it takes no more work, stops
// what runs, and waits a little for the results to be acknowledged; what is not
// stays in the journal. It returns nil after a stop that was asked for.
func (c *Client) Run(ctx context.Context) error {
	if err := c.runner.restore(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	work, endWork := outlive(ctx)
	links, endLinks := outlive(ctx)
	g.Go(func() error { return c.runner.Run(work) })
	g.Go(func() error { return c.stock.Run(links) })
	g.Go(func() error { return c.renewals(links) })
	g.Go(func() error { return c.sessions(links) })
	g.Go(func() error {
		<-ctx.Done()
		endWork(errStopping)
		c.await(links, stopWork, func() bool { running, _ := c.runner.idle(); return running == 0 })
		c.await(links, stopReport, func() bool { _, waiting := c.runner.idle(); return waiting == 0 })
		endLinks(errStopping)
		return nil
	})
	err := g.Wait()
	return errors.Join(err, c.o.State.settle(true))
}

// outlive gives a context that goes on when ctx has ended, until it is ended
// itself: attempts must be stopped with a reason and their results sent before
// the process may go.
func outlive(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(context.WithoutCancel(ctx))
}

// await waits until done says so, for at most limit.
func (c *Client) await(ctx context.Context, limit time.Duration, done func() bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sessions keeps one session open until ctx ends.
func (c *Client) sessions(ctx context.Context) error {
	for failures := 0; ; {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errRenewed) {
			c.log.Info("session closed to show the renewed certificate")
			failures = 0
			continue
		}
		if time.Since(began) >= steady {
			failures = 0
		}
		wait := backoff(failures)
		failures++
		c.explain(err, wait)
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// explain logs why there is no session, with what can be done where something can.
func (c *Client) explain(err error, wait time.Duration) {
	fields := []zap.Field{logging.Address(c.o.Controller), zap.Error(err), zap.Duration("retry_in", wait)}
	switch {
	case errors.Is(err, errs.Conflict):
		c.log.Error("controller refused, or refuses this agent", fields...)
	case errors.Is(err, errs.Denied), errors.Is(err, errs.Unauthenticated):
		c.log.Error("controller does not let this agent in", append(fields,
			zap.String("hint", `if the agent was revoked or its certificate has expired: "tuskctl agent replace NAME", then start with the token it prints`))...)
	default:
		c.log.Warn("no session with the controller", fields...)
	}
}

// backoff gives the wait before the try after n failures.
func backoff(n int) time.Duration {
	limit := retryMax
	if n < 6 {
		limit = min(retryMax, retryFirst<<(n+1))
	}
	return max(retryLeast, rand.N(limit))
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// dial connects with the newest certificate.
func (c *Client) dial() (*grpc.ClientConn, error) {
	config, err := c.o.Identity.ClientTLS()
	if err != nil {
		return nil, err
	}
	return rpc.Dial(c.o.Controller, config, c.o.Dial...)
}

// kinds lists the kinds of work that there are executors for.
func (c *Client) kinds() []job.Kind { return slices.Sorted(maps.Keys(c.o.Executors)) }
