package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Spec is a run that is asked for.
type Spec struct {
	// ID is chosen by whoever asks: asking again with the same one starts nothing.
	ID repo.ID
	// By is who asks, for people.
	By string
	// DryRun finds out what would be done, and does nothing.
	DryRun bool
	// Domains to prune, whether anything was forgotten in them or not; none means
	// those in which something was.
	Domains []seal.DomainID
	// Budget replaces Options.Budget if it is not 0.
	Budget int64
	// continuing does no more than go on with what was begun.
	continuing bool
}

// State is how the last run stands.
type State struct {
	catalog.PruneRun
	// Progress is set while it runs.
	Progress Progress
}

// Progress is how far a run is.
type Progress struct {
	// Domain being looked at; DomainsDone of Domains are done.
	Domain               seal.DomainID
	DomainsDone, Domains int
}

// The background's times.
const (
	// lookEvery is how often it is looked whether a prune that waits can go on.
	lookEvery = time.Minute
	// firstAfter is how long after its start a controller first looks what was
	// forgotten: one that is started every day must prune too.
	firstAfter = 10 * time.Minute
	// pauseAfter is how long a prune that could not go on is left alone.
	pauseAfter = time.Hour
	// stuckAfter is how long a prune may wait before somebody is told: no job takes so long.
	stuckAfter = 7 * 24 * time.Hour
	retryEvery = 5 * time.Second
)

// background is who asks for runs that nobody asks for.
const background = "controller"

// Runner runs over the domains, one run at a time.
//
// A run does what can be done now: it goes on with prunes that have waited long
// enough, and condemns what is not needed any more. Its record is written when
// it begins and when it ends; a run that a restart cut off is ended by the next
// start, and the prunes that it began are gone on with.
type Runner struct {
	pruner *Pruner
	wanted chan Spec // of 1

	mu       sync.Mutex
	state    State
	loaded   bool
	cancel   context.CancelCauseFunc
	canceled bool
	changed  chan struct{}               // closed and replaced when state changes
	problems map[seal.DomainID]string    // what kept the last run that looked from going on
	pausing  map[seal.DomainID]time.Time // until when the background leaves a domain alone
}

// NewRunner makes a Runner; Run gives it life.
func NewRunner(d Deps, o Options) *Runner {
	d.Log = d.Log.Named("prune")
	return &Runner{pruner: &Pruner{Deps: d, o: o}, wanted: make(chan Spec, 1), changed: make(chan struct{}),
		problems: map[seal.DomainID]string{}, pausing: map[seal.DomainID]time.Time{}}
}

// Load lets nobody be told that what is condemned is stored, see Pruner.Load.
func (r *Runner) Load(ctx context.Context) error { return r.pruner.Load(ctx) }

// Run runs until ctx ends: what is asked for, what can go on, and, each
// Options.Interval, everything in which something was forgotten.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	if err := r.keepBallast(ctx); err != nil {
		r.pruner.Log.Warn("ballast is not there", zap.Error(err))
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	next := time.Now().Add(min(firstAfter, r.pruner.o.Interval))
	for {
		select {
		case spec := <-r.wanted:
			r.run(ctx, spec)
		case <-look.C:
			spec := Spec{ID: repo.NewID(), By: background, continuing: true}
			if r.pruner.o.Interval > 0 && !time.Now().Before(next) {
				next, spec.continuing = time.Now().Add(r.pruner.o.Interval), false
			}
			if err := r.background(ctx, spec); err != nil && ctx.Err() == nil {
				r.pruner.Log.Warn("prune was not begun", zap.Error(err))
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// background begins a run if there is something for it to do and none was asked for.
func (r *Runner) background(ctx context.Context, spec Spec) error {
	var domains []seal.DomainID
	err := r.pruner.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		domains, err = r.ready(tx, spec)
		return err
	})
	if err != nil || len(domains) == 0 {
		return err
	}
	if _, err := r.Start(ctx, spec); errors.Is(err, errs.Busy) {
		return nil
	} else if err != nil {
		return err
	}
	r.run(ctx, <-r.wanted) // Start has put it there, and only Run takes
	return nil
}

// ready gives the domains in which a run in the background has something to do.
func (r *Runner) ready(tx *catalog.Tx, spec Spec) ([]seal.DomainID, error) {
	prunes, err := tx.Prunes()
	if err != nil {
		return nil, err
	}
	var out []seal.DomainID
	add := func(id seal.DomainID) {
		if !slices.Contains(out, id) && !r.pauses(id) {
			out = append(out, id)
		}
	}
	for _, one := range prunes {
		why := ""
		if one.Phase == catalog.PruneCondemned {
			if why, err = waiting(tx, one, r.pruner.o.MinAge, now()); err != nil {
				return nil, err
			}
		}
		if why == "" {
			add(one.Domain)
		}
	}
	if spec.continuing {
		return out, nil
	}
	needs, err := tx.PruneNeeds()
	for _, n := range needs {
		add(n.Domain)
	}
	return out, err
}

func (r *Runner) pauses(id seal.DomainID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.pausing[id])
}

// load reads the last run's record, once. One that was cut off has ended by that.
func (r *Runner) load(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		return nil
	}
	var last catalog.PruneRun
	err := r.pruner.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		last, err = tx.PruneRun()
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	if err == nil && last.State == catalog.PruneRunning {
		last.State, last.Ended, last.Message = catalog.PruneFailed, now(), "the controller stopped; what was begun goes on by itself"
		err = r.put(ctx, last)
	}
	if err != nil {
		return fmt.Errorf("load the last prune: %w", err)
	}
	for _, o := range last.Outcomes {
		if o.Problem != "" && !last.DryRun {
			r.problems[o.Domain] = o.Problem
		}
	}
	r.state.PruneRun, r.loaded = last, true
	return nil
}

func (r *Runner) put(ctx context.Context, run catalog.PruneRun) error {
	if err := r.pruner.Catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error { return tx.PutPruneRun(run) }); err != nil {
		return fmt.Errorf("note the prune: %w", err)
	}
	return nil
}

// errCanceled is the cause of a run that somebody stopped.
var errCanceled = fmt.Errorf("the prune was canceled, what was condemned stays condemned: %w", errs.Canceled)

// Start journals a run and begins it. Another one that runs is errs.Busy.
func (r *Runner) Start(ctx context.Context, spec Spec) (State, error) {
	if err := r.load(ctx); err != nil {
		return State{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state.ID == spec.ID:
		return r.state, nil
	case r.state.State == catalog.PruneRunning:
		return State{}, fmt.Errorf("prune %s by %s runs since %s: %w", r.state.ID.Short(), r.state.By, r.state.Started.Format(time.RFC3339), errs.Busy)
	}
	run := catalog.PruneRun{ID: spec.ID, State: catalog.PruneRunning, By: spec.By, DryRun: spec.DryRun, Domains: spec.Domains, Budget: spec.Budget, Started: now()}
	if err := r.put(ctx, run); err != nil {
		return State{}, err
	}
	r.state, r.canceled = State{PruneRun: run}, false
	r.wakeLocked()
	r.wanted <- spec // has room: none runs, so Run has taken the one before
	return r.state, nil
}

// Cancel stops the run under way. When there is none it is errs.Conflict.
func (r *Runner) Cancel() (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.State != catalog.PruneRunning {
		return r.state, fmt.Errorf("cancel the prune: none runs: %w", errs.Conflict)
	}
	r.canceled = true
	if r.cancel != nil {
		r.cancel(errCanceled)
	}
	return r.state, nil
}

// Last gives the last run, errs.NotFound when there was none.
func (r *Runner) Last(ctx context.Context) (State, error) {
	if err := r.load(ctx); err != nil {
		return State{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.ID.IsZero() {
		return State{}, fmt.Errorf("prune of the repository: there was none: %w", errs.NotFound)
	}
	return r.state, nil
}

// Watch calls fn with the last run now and after changes, until it has ended or
// fn fails. While fn does not return, changes become one.
func (r *Runner) Watch(ctx context.Context, fn func(State) error) error {
	if _, err := r.Last(ctx); err != nil {
		return err
	}
	for {
		r.mu.Lock()
		s, changed := r.state, r.changed
		r.mu.Unlock()
		if err := fn(s); err != nil {
			return err
		}
		if s.State != catalog.PruneRunning {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *Runner) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}
