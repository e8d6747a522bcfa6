package scrub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Copies are other stores with the same repository. *copies.Service implements it.
type Copies interface {
	// Repository opens the repository in a copy: errs.NotFound when there is none of
	// the name.
	Repository(ctx context.Context, name string) (*repo.Repository, error)
	// Heal replaces a damaged or missing object, in the repository's own store for an
	// empty name, by a good one from another store, and tells from which; an object
	// that is whole is left alone.
	Heal(ctx context.Context, store, key string) (from string, err error)
	// HealLater is Heal in the background.
	HealLater(store string, keys ...string)
	// Names are those of all copies.
	Names() []string
}

// Spec is a check that is asked for.
type Spec struct {
	// ID is chosen by whoever asks: asking again with the same one starts nothing.
	ID repo.ID
	// By is who asks, for people.
	By string
	// Copy names the copy to check, empty for the repository's own store.
	Copy string
	// ReadData, Sample (in millionths), Seed and Resume are those of check.Options.
	ReadData bool
	Sample   int
	Seed     uint64
	Resume   bool
	// BytesPerSecond bounds what is read; 0 means no bound.
	BytesPerSecond int64
}

// State is how the last check stands.
type State struct {
	catalog.Check
	// Progress is set while it runs.
	Progress check.Progress
}

// Checker runs checks, one at a time.
//
// The durable steps of a check:
//
//  1. Its record is written as running. After a crash here, or while it runs, the
//     next start goes on with it, from the note in Dir.
//  2. It ends; packs found damaged are marked, each in the catalog and then in
//     the ingest. After a crash in between, the next start finds them again.
//  3. Its record is written with the outcome.
//
// A program that stops interrupts it and leaves it running in the record.
type Checker struct {
	repo      *repo.Repository
	unlockers []seal.Unlocker
	catalog   Catalog
	known     check.Known
	marks     *Marks
	trail     Trail
	events    *event.Log
	copies    Copies // nil without
	dir       string
	log       *zap.Logger
	wanted    chan Spec // of 1: the check that Run is to begin

	mu       sync.Mutex
	state    State
	loaded   bool
	cancel   context.CancelCauseFunc // of the check that runs
	canceled bool                    // it was canceled before it ran
	changed  chan struct{}           // closed and replaced when state changes
}

// Deps are what a Checker stands on.
type Deps struct {
	Repository *repo.Repository
	// Unlockers are tried on the repository's keys.
	Unlockers []seal.Unlocker
	Catalog   Catalog
	// Known is what the catalog knows of the repository.
	Known check.Known
	Marks *Marks
	Trail Trail
	// Events is told when a check begins and ends.
	Events *event.Log
	// Dir is a folder for sorted files and the note of how far a check is.
	Dir string
	Log *zap.Logger
	// Copies heal what is found, and can be checked; nil without.
	Copies Copies
}

// NewChecker makes a Checker; Run gives it life.
func NewChecker(d Deps) *Checker {
	return &Checker{repo: d.Repository, unlockers: d.Unlockers, catalog: d.Catalog, known: d.Known, marks: d.Marks, trail: d.Trail, events: d.Events, copies: d.Copies,
		dir: d.Dir, log: d.Log.Named("check"), wanted: make(chan Spec, 1), changed: make(chan struct{})}
}

// Run runs checks until ctx ends. It goes on with one that was interrupted.
func (c *Checker) Run(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	for {
		select {
		case spec := <-c.wanted:
			c.run(ctx, spec)
		case <-ctx.Done():
			return nil
		}
	}
}

// load reads the last check's record, once. One that the process before has left
// running is what Run does first.
func (c *Checker) load(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded {
		return nil
	}
	var last catalog.Check
	err := c.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		last, err = tx.Check()
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("load the last check: %w", err)
	}
	c.state.Check, c.loaded = last, true
	if last.State == catalog.CheckRunning {
		c.wanted <- Spec{ID: last.ID, By: last.By, Copy: last.Copy, ReadData: last.ReadData, Sample: last.Sample, Seed: last.Seed, Resume: true} // has room
	}
	return nil
}

// errCanceled is the cause of a check that somebody stopped.
var errCanceled = fmt.Errorf("the check was canceled: %w", errs.Canceled)

// Start journals a check and begins it. Another one that runs is errs.Busy.
func (c *Checker) Start(ctx context.Context, spec Spec) (State, error) {
	if err := c.load(ctx); err != nil {
		return State{}, err
	}
	if spec.Copy != "" {
		if _, err := c.copyRepository(ctx, spec.Copy); err != nil {
			return State{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.ID == spec.ID:
		return c.state, nil
	case c.state.State == catalog.CheckRunning:
		return State{}, fmt.Errorf("check %s by %s runs since %s: %w", c.state.ID.Short(), c.state.By, c.state.Started.Format(time.RFC3339), errs.Busy)
	}
	record := catalog.Check{ID: spec.ID, State: catalog.CheckRunning, By: spec.By, Copy: spec.Copy, ReadData: spec.ReadData, Sample: spec.Sample, Seed: spec.Seed, Started: now()}
	if err := c.put(ctx, record); err != nil {
		return State{}, err
	}
	c.state, c.canceled = State{Check: record}, false
	c.wakeLocked()
	c.events.Publish(event.Event{Kind: event.CheckStarted, Message: fmt.Sprintf("check %s by %s", spec.ID.Short(), spec.By)})
	c.wanted <- spec // has room: no check runs, so Run has taken the one before
	return c.state, nil
}

func (c *Checker) put(ctx context.Context, r catalog.Check) error {
	if err := c.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error { return tx.PutCheck(r) }); err != nil {
		return fmt.Errorf("note the check: %w", err)
	}
	return nil
}

// Cancel stops the check that runs. When none does it is errs.Conflict.
func (c *Checker) Cancel() (State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.State != catalog.CheckRunning {
		return c.state, fmt.Errorf("cancel the check: none runs: %w", errs.Conflict)
	}
	c.canceled = true
	if c.cancel != nil {
		c.cancel(errCanceled)
	}
	return c.state, nil
}

// Last gives the last check, errs.NotFound when there was none.
func (c *Checker) Last(ctx context.Context) (State, error) {
	if err := c.load(ctx); err != nil {
		return State{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.ID.IsZero() {
		return State{}, fmt.Errorf("check of the repository: there was none: %w", errs.NotFound)
	}
	return c.state, nil
}

// Watch calls fn with the last check now and after changes, until it has ended
// or fn fails. While fn does not return, changes become one: a slow watcher
// holds up nobody.
func (c *Checker) Watch(ctx context.Context, fn func(State) error) error {
	if _, err := c.Last(ctx); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		s, changed := c.state, c.changed
		c.mu.Unlock()
		if err := fn(s); err != nil {
			return err
		}
		if s.State != catalog.CheckRunning {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *Checker) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// run runs one check to its end, and notes that unless the program stops.
func (c *Checker) run(ctx context.Context, spec Spec) {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	if c.cancel = cancel; c.canceled {
		cancel(errCanceled)
	}
	c.mu.Unlock()
	c.log.Info("checking the repository", zap.Stringer("check", spec.ID), zap.Bool("read_data", spec.ReadData), zap.Int("sample_millionths", spec.Sample), zap.Bool("resume", spec.Resume))
	report, err := c.check(own, spec)
	if err == nil && spec.Copy == "" {
		err = c.mark(own, report)
	}
	healed := ""
	if err == nil {
		healed = c.heal(own, spec.Copy, report)
	}
	if ctx.Err() != nil {
		return // the record says running: the next start goes on
	}
	record := c.outcome(report, err)
	record.Message += healed
	for c.end(ctx, record) != nil && ctx.Err() == nil {
		wait(ctx, retryEvery)
	}
}

// check runs it. A copy is compared with nothing that the catalog knows: it may be
// behind. It has a folder of its own, so that neither takes up the other's note.
func (c *Checker) check(ctx context.Context, spec Spec) (*check.Report, error) {
	r, known, dir := c.repo, c.known, c.dir
	if spec.Copy != "" {
		var err error
		if r, err = c.copyRepository(ctx, spec.Copy); err != nil {
			return nil, err
		}
		known, dir = nil, filepath.Join(c.dir, "copy-"+spec.Copy)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the check: %w", err)
	}
	return check.Run(ctx, r.Store(), check.Options{Repository: r, Unlockers: c.unlockers, Known: known, Dir: dir, Resume: spec.Resume,
		ReadData: spec.ReadData, Sample: spec.Sample, Seed: spec.Seed, BytesPerSecond: spec.BytesPerSecond, Progress: c.progress})
}

func (c *Checker) progress(p check.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Progress = p
	c.wakeLocked()
}

// mark notes what was found damaged. A report on every frame replaces what was
// known; one on a sample adds to it.
func (c *Checker) mark(ctx context.Context, r *check.Report) error {
	if r.Sample == check.Whole && r.ReadData && len(r.BadPacks) < check.MaxBadPacks {
		return c.marks.Replace(ctx, r.BadPacks)
	}
	return c.marks.Mark(ctx, r.BadPacks...)
}

// outcome makes the record of a check that has ended.
func (c *Checker) outcome(r *check.Report, err error) catalog.Check {
	c.mu.Lock()
	record := c.state.Check
	c.mu.Unlock()
	record.Ended = now()
	switch {
	case errors.Is(err, errs.Canceled):
		record.State, record.Message = catalog.CheckCanceled, err.Error()
	case err != nil:
		record.State, record.Message = catalog.CheckFailed, err.Error()
	case r.Damaged():
		record.State = catalog.CheckDamaged
	default:
		record.State = catalog.CheckClean
	}
	if err == nil {
		fillIn(&record, r)
	}
	return record
}

// end writes the record of a check that has ended, with its audit record.
func (c *Checker) end(ctx context.Context, record catalog.Check) error {
	audit := catalog.AuditRecord{Actor: record.By, Action: "repository.check-end", Object: "check " + record.ID.String(),
		Outcome: record.State.String(), Detail: record.Message}
	err := c.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return errors.Join(tx.PutCheck(record), c.trail.Append(tx, audit)) })
	if err != nil {
		c.log.Warn("check has ended and could not be noted, will try again", zap.Error(err))
		return err
	}
	c.events.Publish(event.Event{Kind: event.CheckEnded, Message: fmt.Sprintf("%s: check %s: %s", record.State, record.ID.Short(), record.Message)})
	c.mu.Lock()
	c.state, c.cancel = State{Check: record}, nil
	c.wakeLocked()
	c.mu.Unlock()
	level := c.log.Info
	if record.State != catalog.CheckClean {
		level = c.log.Error
	}
	level("check ended", zap.Stringer("check", record.ID), zap.Stringer("state", record.State), zap.Int64("damaged_objects", record.Harm),
		zap.Int64("snapshots_hurt", record.HurtTotal), logging.Duration(record.Ended.Sub(record.Started)), logging.Detail(record.Message))
	return nil
}
