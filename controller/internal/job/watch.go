package job

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Get shows one job with its last attempts and its live progress.
func (m *Manager) Get(ctx context.Context, id repo.JobID) (View, error) {
	var v View
	err := m.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if v.Job, err = tx.Job(id); err != nil {
			return err
		}
		v.Attempts, err = tx.Attempts(id, keepAttempts)
		return err
	})
	if p, ok := m.Live(id); ok && err == nil && !v.Job.State.Terminal() {
		v.Progress = &p
	}
	return v, err
}

// Live gives the newest progress of a job's live attempt.
func (m *Manager) Live(id repo.JobID) (Progress, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.jobs[id]
	if e == nil || e.progress == nil || !e.live() {
		return Progress{}, false
	}
	return *e.progress, true
}

// Running gives every job that an agent executes and has told of, by id.
func (m *Manager) Running() []Running {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Running
	for _, e := range m.jobs {
		if e.progress != nil && e.live() {
			all = append(all, Running{Ref: e.ref(), Kind: e.kind, DryRun: e.dryRun, Agent: e.agent, Instance: e.name, Progress: *e.progress})
		}
	}
	slices.SortFunc(all, func(a, b Running) int { return bytes.Compare(a.Ref.Job[:], b.Ref.Job[:]) })
	return all
}

// Watch calls fn with the job now and after changes, several of which may become
// one call, and returns nil after fn has seen a terminal state. fn's error ends it.
func (m *Manager) Watch(ctx context.Context, id repo.JobID, fn func(View) error) error {
	// Of 1: whoever is slow sees the newest state and misses those between.
	news := make(chan struct{}, 1)
	if err := m.subscribe(id, news); err != nil {
		return err
	}
	defer m.unsubscribe(id, news)
	for {
		v, err := m.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := fn(v); err != nil {
			return err
		}
		if v.Job.State.Terminal() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (m *Manager) subscribe(id repo.JobID, news chan struct{}) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watching >= maxWatchers {
		return fmt.Errorf("watch job %s: %d watch already: %w", id, m.watching, errs.Busy)
	}
	m.watching++
	if m.watchers[id] == nil {
		m.watchers[id] = make(map[chan struct{}]struct{})
	}
	m.watchers[id][news] = struct{}{}
	return nil
}

func (m *Manager) unsubscribe(id repo.JobID, news chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watching--
	delete(m.watchers[id], news)
	if len(m.watchers[id]) == 0 {
		delete(m.watchers, id)
	}
}
