package job_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore is a store that holds snapshots and abort markers, and can be away.
type fakeStore struct {
	mu        sync.Mutex
	snapshots map[repo.JobID]catalog.Snapshot
	markers   map[repo.JobID]bool
	away      bool
	harmed    map[seal.DomainID]bool // whose keys are damaged
}

func newStore() *fakeStore {
	return &fakeStore{snapshots: map[repo.JobID]catalog.Snapshot{}, markers: map[repo.JobID]bool{}}
}

func (f *fakeStore) look(id repo.JobID) (job.Presence, catalog.Snapshot, error) {
	s, ok := f.snapshots[id]
	switch {
	case f.away:
		return job.Absent, s, fmt.Errorf("store: %w", errs.Unavailable)
	case ok:
		return job.Present, s, nil
	case f.markers[id]:
		return job.Aborted, s, nil
	}
	return job.Absent, s, nil
}

func (f *fakeStore) Find(_ context.Context, _ repo.InstanceID, a catalog.Attempt) (job.Presence, catalog.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.look(a.Job)
}

func (f *fakeStore) Abort(_ context.Context, _ repo.InstanceID, a catalog.Attempt) (job.Presence, catalog.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.snapshots[a.Job]; !ok && !f.away {
		f.markers[a.Job] = true
	}
	return f.look(a.Job)
}

func (f *fakeStore) SealEpoch(_ context.Context, d seal.DomainID) (uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.harmed[d] {
		return 0, fmt.Errorf("keys of domain %s: %w", d, errs.Corrupt)
	}
	return 3, nil
}

func (f *fakeStore) harm(d seal.DomainID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.harmed = map[seal.DomainID]bool{d: true}
}

func (f *fakeStore) put(s catalog.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots[s.ID] = s
}

func (f *fakeStore) setAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

func (f *fakeStore) marked(id repo.JobID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.markers[id]
}

// fakeDispatcher notes what agents are told.
type fakeDispatcher struct {
	mu      sync.Mutex
	wakes   int
	cancels []job.Ref
}

func (f *fakeDispatcher) Wake(repo.AgentID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakes++
}

func (f *fakeDispatcher) Cancel(_ repo.AgentID, ref job.Ref, _ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels = append(f.cancels, ref)
}

func (f *fakeDispatcher) canceled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.cancels)
}

// told notes what is published.
type told struct {
	mu     sync.Mutex
	events []event.Event
}

func (o *told) Publish(e event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// kinds gives what was published, and forgets it.
func (o *told) kinds() (all []event.Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		all = append(all, e.Kind)
	}
	o.events = nil
	return all
}

// world is a manager over a real catalog file, with one agent and two instances.
type world struct {
	t        *testing.T
	path     string
	catalog  *catalog.Catalog
	store    *fakeStore
	dispatch *fakeDispatcher
	told     *told
	jobs     *job.Manager
	stop     func()
	agent    repo.AgentID
	main     repo.InstanceID
	other    repo.InstanceID
}

const (
	lease   = time.Minute
	backoff = 10 * time.Second
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "catalog.db"), store: newStore(), dispatch: &fakeDispatcher{}, told: &told{},
		agent: repo.NewID(), main: repo.NewID(), other: repo.NewID()}
	var err error
	w.catalog, err = catalog.Create(t.Context(), w.path, catalog.Meta{Epoch: 7, Name: "test"}, catalog.Options{Detached: true})
	w.must(err)
	w.must(w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		if err := tx.PutAgent(catalog.Agent{ID: w.agent, Name: "db1", State: catalog.AgentActive}); err != nil {
			return err
		}
		for name, id := range map[string]repo.InstanceID{"main": w.main, "other": w.other} {
			own := seal.DomainID(repo.NewID())
			if err := tx.PutInstance(catalog.Instance{ID: id, Agent: w.agent, AgentName: "db1", Name: name, Domain: own, OwnDomain: own, Incarnation: 1}); err != nil {
				return err
			}
		}
		return nil
	}))
	w.start()
	t.Cleanup(func() { w.stop(); _ = w.catalog.Close() })
	return w
}

// start begins a process over the catalog as it is.
func (w *world) start() {
	w.t.Helper()
	w.jobs = job.New(w.catalog, w.store, job.Options{Lease: lease, Backoff: backoff, Attempts: 3}, zaptest.NewLogger(w.t))
	w.jobs.Attach(w.dispatch)
	w.jobs.Announce(w.told)
	w.must(w.jobs.Recover(w.t.Context()))
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.jobs.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

// restart ends the process as a crash would, and begins another one.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.must(w.catalog.Close())
	var err error
	w.catalog, err = catalog.Open(w.t.Context(), w.path, catalog.Options{Detached: true})
	w.must(err)
	w.start()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused checks the kind of an error.
func (w *world) refused(err error, kind *errs.Kind) {
	w.t.Helper()
	if errs.KindOf(err) != kind {
		w.t.Fatalf("error %v, want kind %q", err, kind)
	}
}

func (w *world) backup() repo.JobID {
	w.t.Helper()
	id := repo.NewID()
	_, err := w.jobs.Create(w.t.Context(), job.Spec{ID: id, Instance: w.main, Backup: &catalog.BackupSpec{}, By: "operator/test"})
	w.must(err)
	return id
}

// lease takes the agent's next attempt.
func (w *world) lease() job.Ref {
	w.t.Helper()
	o, ok, err := w.jobs.Lease(w.t.Context(), w.agent)
	w.must(err)
	if !ok {
		w.t.Fatal("no attempt to lease")
	}
	return o.Ref
}

// running leases and accepts.
func (w *world) running() job.Ref {
	w.t.Helper()
	ref := w.lease()
	w.must(w.jobs.Accept(w.t.Context(), w.agent, ref))
	return ref
}

func (w *world) snapshot(ref job.Ref, complete bool) catalog.Snapshot {
	return catalog.Snapshot{ID: ref.Job, Instance: w.main, Agent: w.agent, Kind: repo.KindLogical, Fence: ref.Fence, Complete: complete,
		Committed: time.Now().UTC(), ObjectHash: [32]byte{1}, SealEpoch: 3}
}

// commit does what ingest does for a snapshot that the store takes.
func (w *world) commit(ref job.Ref, complete bool) {
	w.t.Helper()
	w.must(w.jobs.Committing(w.t.Context(), ref, [32]byte{1}))
	s := w.snapshot(ref, complete)
	w.store.put(s)
	w.must(w.jobs.Committed(w.t.Context(), s))
}

func (w *world) result(ref job.Ref, r catalog.Result) error {
	return w.jobs.Result(w.t.Context(), w.agent, ref, r, nil)
}

func (w *world) job(id repo.JobID) catalog.Job {
	w.t.Helper()
	v, err := w.jobs.Get(w.t.Context(), id)
	w.must(err)
	return v.Job
}

func (w *world) is(id repo.JobID, want catalog.JobState) catalog.Job {
	w.t.Helper()
	j := w.job(id)
	if j.State != want {
		w.t.Fatalf("job is %s (%s), want %s", j.State, j.Message, want)
	}
	return j
}

func (w *world) attempts(id repo.JobID, want ...catalog.AttemptState) {
	w.t.Helper()
	v, err := w.jobs.Get(w.t.Context(), id)
	w.must(err)
	var got []catalog.AttemptState
	for _, a := range v.Attempts {
		got = append(got, a.State)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Fatalf("attempts %v, want %v", got, want)
	}
}

var (
	succeeded = catalog.Result{Outcome: catalog.OutcomeSucceeded, Databases: []catalog.DatabaseResult{{Database: "app", Complete: true}}}
	failed    = catalog.Result{Outcome: catalog.OutcomeFailed, Error: "wrong password"}
	flaky     = catalog.Result{Outcome: catalog.OutcomeFailed, Error: "connection reset", Retryable: true}
	stopped   = catalog.Result{Outcome: catalog.OutcomeCanceled}
)
