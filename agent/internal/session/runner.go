package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
)

// maxPending bounds results that wait for an acknowledgement. An agent that has
// more takes no work: its controller does not listen.
const maxPending = 100

// maxKept is how long a result waits for an acknowledgement. After it no
// controller can have a use for it: the attempt's lease ended long ago.
const maxKept = 7 * 24 * time.Hour

// stopNotice is how long a canceled executor may take before the log says that
// it does not stop.
const stopNotice = 30 * time.Second

// errAlreadyDone answers an offer of an attempt whose result is waiting.
var errAlreadyDone = fmt.Errorf("attempt has ended: %w", errs.Exists)

// attempt is one attempt that this agent took on and whose end the controller
// has not acknowledged yet.
type attempt struct {
	entry journal.Entry
	// job is dropped, with its keys, when the executor has returned.
	job *job.Job
	// stop ends the executor; nil before it was started and after it has ended.
	stop context.CancelCauseFunc
	// cause is why the attempt must stop, nil while it need not.
	cause error
	// stopping is when it was told to stop; late tells that the log has said that it does not.
	stopping time.Time
	late     bool
	// abandoned: the controller does not want the attempt any more, and no report of it.
	abandoned bool
	reports   reports
	// result is set when the attempt has ended.
	result *job.Result
	// sentIn is the number of the link the result was last sent on.
	sentIn int
}

// runner executes attempts. It knows no stream: links pull from it.
type runner struct {
	journal   *journal.Journal
	executors map[job.Kind]job.Executor
	limit     int
	orphan    time.Duration
	log       *zap.Logger

	// start hands attempts to Run, which owns their goroutines. Each was counted
	// against limit, so limit places are enough.
	start chan *attempt
	// wake tells the link's writer that there is something to send. One place: a
	// second wake before the first was seen says nothing new.
	wake chan struct{}

	mu       sync.Mutex
	attempts map[job.Ref]*attempt
	// heard is when the controller was last heard of.
	heard time.Time
	// closing, once set, refuses all offers.
	closing bool
}

func newRunner(o Options) *runner {
	return &runner{journal: o.Journal, executors: o.Executors, limit: o.Workers, orphan: o.Orphan, log: o.Log.Named("attempt"),
		start: make(chan *attempt, o.Workers), wake: make(chan struct{}, 1), attempts: map[job.Ref]*attempt{}}
}

// restore takes over what the journal has: results that were not acknowledged,
// and attempts that a restart cut off, which have failed and may be tried again.
func (r *runner) restore() error {
	entries, bad, err := r.journal.Load()
	if err != nil {
		return err
	}
	for _, e := range bad {
		r.log.Error("journal entry set aside", zap.Error(e))
	}
	for _, e := range entries {
		if e.Result != nil && time.Since(e.Result.Ended) > maxKept {
			r.log.Warn("result dropped, nobody has taken it", logging.JobID(e.Ref.ID), logging.Attempt(e.Ref.Fence), zap.Time("ended", e.Result.Ended))
			if err := r.journal.Remove(e.Ref); err != nil {
				return err
			}
			continue
		}
		if e.Result == nil {
			result := job.Result{Outcome: job.Failed, Err: "agent restarted while the attempt was running", Retryable: true,
				Started: e.Started, Ended: time.Now()}
			if err := r.journal.End(e, result); err != nil {
				return err
			}
			r.log.Warn("attempt was cut off by a restart", logging.JobID(e.Ref.ID), logging.Attempt(e.Ref.Fence))
			e.Result = &result
		}
		r.attempts[e.Ref] = &attempt{entry: e, result: e.Result}
	}
	return nil
}

// take begins an attempt: in this order, it is journaled, then it is started,
// and then (by the caller) the controller is told. A crash after the first step
// leaves an entry that the next start reports as failed. nil is also the answer
// for an attempt that runs already: an offer may come twice.
func (r *runner) take(j job.Job) error {
	r.mu.Lock()
	err := r.roomLocked(j.Ref())
	a := r.attempts[j.Ref()]
	if err != nil || a != nil {
		r.mu.Unlock()
		return err
	}
	a = &attempt{entry: journal.Entry{Ref: j.Ref(), Kind: j.Kind(), Instance: instanceOf(j), Started: time.Now()}, job: &j}
	r.attempts[j.Ref()] = a
	r.mu.Unlock()

	if err := r.journal.Begin(a.entry); err != nil {
		r.mu.Lock()
		delete(r.attempts, j.Ref())
		r.mu.Unlock()
		return fmt.Errorf("%w: %w", err, errs.Busy)
	}
	r.mu.Lock()
	closing := r.closing
	if !closing {
		r.start <- a // has room: what waits in it is counted against the limit
	}
	r.mu.Unlock()
	if closing {
		r.forgetUnstarted(j.Ref())
		return fmt.Errorf("the agent is stopping: %w", errs.Busy)
	}
	return nil
}

// forgetUnstarted undoes the journaling of an attempt that was never started.
func (r *runner) forgetUnstarted(ref job.Ref) {
	r.mu.Lock()
	delete(r.attempts, ref)
	r.mu.Unlock()
	if err := r.journal.Remove(ref); err != nil {
		r.log.Error("attempt not removed from the journal", logging.JobID(ref.ID), zap.Error(err))
	}
}

// roomLocked says why an attempt cannot be taken now.
func (r *runner) roomLocked(ref job.Ref) error {
	if a := r.attempts[ref]; a != nil {
		if a.result != nil {
			a.sentIn = 0 // the controller has not seen it, or it would not offer it again
			return errAlreadyDone
		}
		return nil
	}
	if r.closing {
		return fmt.Errorf("the agent is stopping: %w", errs.Busy)
	}
	running := 0
	for other, a := range r.attempts {
		if a.result == nil {
			running++
		}
		if other.ID != ref.ID {
			continue
		}
		if ref.Fence.Less(other.Fence) {
			return fmt.Errorf("attempt %s of the job is newer: %w", other.Fence, errs.Conflict)
		}
		if a.result == nil {
			// Two executors must never work on one job at once.
			r.stopLocked(a, fmt.Errorf("a newer attempt of the job was offered: %w", errs.Canceled))
			return fmt.Errorf("attempt %s of the job has not stopped yet: %w", other.Fence, errs.Busy)
		}
	}
	if running >= r.limit {
		return fmt.Errorf("%d attempts are running, the agent's configuration allows no more: %w", running, errs.Busy)
	}
	if len(r.attempts)-running >= maxPending {
		return fmt.Errorf("%d results wait for an acknowledgement: %w", len(r.attempts)-running, errs.Busy)
	}
	return nil
}

// Run executes attempts until ctx ends, and then waits for all of them: each
// executor sees ctx end.
func (r *runner) Run(ctx context.Context) error {
	r.touch()
	var g errgroup.Group
	g.Go(func() error { return r.watch(ctx) })
	for {
		select {
		case <-ctx.Done():
			r.mu.Lock()
			r.closing = true
			r.mu.Unlock()
			r.refuseQueued(ctx)
			return g.Wait()
		case a := <-r.start:
			g.Go(func() error { r.execute(ctx, a); return nil })
		}
	}
}

// refuseQueued ends attempts that were taken and never started.
func (r *runner) refuseQueued(ctx context.Context) {
	for {
		select {
		case a := <-r.start:
			r.end(a, job.FailedResult(ctx, nil))
		default:
			return
		}
	}
}

// execute runs one attempt to its end.
func (r *runner) execute(ctx context.Context, a *attempt) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.mu.Lock()
	if a.stop = stop; a.cause != nil {
		stop(a.cause)
	}
	j := *a.job
	alone := r.runningLocked() == 1
	r.mu.Unlock()
	log := r.log.With(logging.JobID(a.entry.Ref.ID), logging.Attempt(a.entry.Ref.Fence), logging.Instance(a.entry.Instance))
	log.Info("starting attempt", zap.String("kind", string(a.entry.Kind)))
	if alone {
		resetPeak()
	}
	result := complete(r.executors[a.entry.Kind](ctx, j, reporter{r, a}), a.entry.Started)
	r.end(a, result)
	log.Info("attempt ended", zap.String("outcome", string(result.Outcome)), logging.Duration(result.Ended.Sub(result.Started)),
		zap.String("reason", result.Err), zap.Bool("retryable", result.Retryable))
}

// complete fills in what an executor left open.
func complete(result job.Result, started time.Time) job.Result {
	switch result.Outcome {
	case job.Succeeded, job.Failed, job.Canceled:
	default:
		result.Outcome, result.Err = job.Failed, "the work ended without saying how: "+result.Err
	}
	if result.Started.IsZero() {
		result.Started = started
	}
	if result.Ended.IsZero() {
		result.Ended = time.Now()
	}
	if result.Stats.PeakMemoryBytes == 0 {
		result.Stats.PeakMemoryBytes = peakMemory()
	}
	return result
}

// end journals a result and lets links send it. When the journal cannot be
// written the result is still sent; only a crash before the acknowledgement
// would then report it as cut off.
func (r *runner) end(a *attempt, result job.Result) {
	if err := r.journal.End(a.entry, result); err != nil {
		r.log.Error("result not journaled", logging.JobID(a.entry.Ref.ID), zap.Error(err))
	}
	r.mu.Lock()
	a.result, a.stop, a.job = &result, nil, nil
	forget := a.abandoned
	r.mu.Unlock()
	if forget {
		r.forget(a.entry.Ref)
	}
	r.wakeUp()
}

// forget drops an attempt that the controller has acknowledged or does not want.
func (r *runner) forget(ref job.Ref) {
	r.mu.Lock()
	a := r.attempts[ref]
	if a == nil || a.result == nil {
		r.mu.Unlock()
		return
	}
	delete(r.attempts, ref)
	r.mu.Unlock()
	if err := r.journal.Remove(ref); err != nil {
		r.log.Error("attempt not removed from the journal", logging.JobID(ref.ID), zap.Error(err))
	}
}

// cancel stops an attempt within seconds. An unknown one is over already.
func (r *runner) cancel(ref job.Ref, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.attempts[ref]; a != nil {
		r.stopLocked(a, cause)
	}
}

// stopLocked stops an attempt that has not ended. The first cause stands.
func (r *runner) stopLocked(a *attempt, cause error) {
	if a.result != nil || a.cause != nil {
		return
	}
	a.cause, a.stopping = cause, time.Now()
	if a.stop != nil {
		a.stop(cause)
	}
}

// abandon stops attempts that the controller does not want any more, and forgets them.
func (r *runner) abandon(refs []job.Ref) {
	for _, ref := range refs {
		r.mu.Lock()
		a := r.attempts[ref]
		if a != nil {
			a.abandoned = true
			r.stopLocked(a, fmt.Errorf("the controller gave the attempt up: %w", errs.Canceled))
		}
		r.mu.Unlock()
		if a != nil {
			r.log.Warn("attempt abandoned by the controller", logging.JobID(ref.ID), logging.Attempt(ref.Fence))
			r.forget(ref)
		}
	}
}

// runningLocked counts attempts that have not ended.
func (r *runner) runningLocked() int {
	n := 0
	for _, a := range r.attempts {
		if a.result == nil {
			n++
		}
	}
	return n
}

// idle tells whether nothing runs and no result waits.
func (r *runner) idle() (running, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running = r.runningLocked()
	return running, len(r.attempts) - running
}

// touch notes that the controller was heard of.
func (r *runner) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
}

// watch ends attempts that have had no controller for too long: they hold
// transactions open on production for a result that nobody will take.
func (r *runner) watch(ctx context.Context) error {
	tick := time.NewTicker(r.orphan / 20)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r.mu.Lock()
		alone := time.Since(r.heard) >= r.orphan
		for ref, a := range r.attempts {
			if alone {
				r.stopLocked(a, fmt.Errorf("no word from the controller for %s: %w", r.orphan, errs.Timeout))
			}
			if a.cause != nil && a.result == nil && !a.late && time.Since(a.stopping) > stopNotice {
				a.late = true
				r.log.Error("attempt does not stop", logging.JobID(ref.ID), logging.Attempt(ref.Fence), logging.Duration(time.Since(a.stopping)))
			}
		}
		r.mu.Unlock()
	}
}

// wakeUp tells the link's writer to look.
func (r *runner) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
