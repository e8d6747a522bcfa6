package prune_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// power counts the durable steps of store and catalog together and can be cut
// after some: then everything fails, as for a process that has died.
type power struct {
	mu    sync.Mutex
	steps int
	limit int // -1: never cut
}

var errCut = fmt.Errorf("power is cut: %w", errs.Unavailable)

func (p *power) step() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit >= 0 && p.steps >= p.limit {
		return errCut
	}
	p.steps++
	return nil
}

func (p *power) on() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit >= 0 && p.steps >= p.limit {
		return errCut
	}
	return nil
}

// cutAfter begins to count anew; -1 counts only.
func (p *power) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.limit = 0, n
}

func (p *power) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps
}

// store obeys the power switch. before, if set, is called before each step.
type store struct {
	blob.Store
	power  *power
	before func(op blob.Op, key string) error
}

func (s *store) step(op blob.Op, key string) error {
	if s.before != nil {
		if err := s.before(op, key); err != nil {
			return err
		}
	}
	return s.power.step()
}

func (s *store) Create(ctx context.Context, key string, body blob.Body) error {
	if err := s.step(blob.OpCreate, key); err != nil {
		return err
	}
	return s.Store.Create(ctx, key, body)
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := s.step(blob.OpDelete, key); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

func (s *store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.power.on(); err != nil {
		return nil, err
	}
	return s.Store.Open(ctx, key, off, n)
}

// records is the catalog behind the power switch.
// before, if set, is called before each change.
type records struct {
	*catalog.Catalog
	power  *power
	before func()
}

func (r *records) Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error {
	if r.before != nil {
		r.before()
	}
	if err := r.power.step(); err != nil {
		return err
	}
	return r.Catalog.Update(ctx, class, fn)
}

// trail appends without bounds.
type trail struct{}

func (trail) Append(tx *catalog.Tx, r catalog.AuditRecord) error {
	_, err := tx.AppendAudit(r)
	return err
}

// world is a controller's prune with everything around it, and disks that outlive it.
type world struct {
	t       testing.TB
	power   *power
	store   *store
	repo    *repo.Repository
	domain  *repo.Domain
	key     *seal.KeyFile
	catalog *catalog.Catalog
	records *records
	dir     string
	ballast *prune.Ballast

	ingest *ingest.Server
	runner *prune.Runner
	opts   prune.Options
	stop   func()

	counter uint64
	kept    []kept
}

// kept is a snapshot that exists, by what is in it.
type kept struct {
	id       repo.JobID
	instance repo.InstanceID
	tables   []repotest.Table
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, power: &power{limit: -1}, dir: t.TempDir(), opts: prune.Options{MinAge: 24 * time.Hour, Budget: 1 << 40, Interval: 0}}
	w.store = &store{Store: mem.New(), power: w.power}
	w.repo, w.domain, w.key = repotest.New(t, w.store)
	_, err := w.repo.ClaimEpoch(t.Context())
	must(t, err)
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(w.dir, "catalog.db"), catalog.Meta{Repository: w.repo.ID(), Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { _ = w.catalog.Close() })
	w.records = &records{Catalog: w.catalog, power: w.power}
	return w
}

// start makes the processes' parts anew on what is there.
func (w *world) start() {
	w.t.Helper()
	server, err := ingest.New(ingest.Options{Repository: w.repo, Epoch: 1, Attempts: desk{w}, Journal: desk{w},
		SpoolDir: filepath.Join(w.dir, "spool"), IndexDir: filepath.Join(w.dir, "index"), Logger: zap.NewNop()})
	must(w.t, err)
	must(w.t, server.Recover(w.t.Context()))
	w.ingest = server
	w.runner = prune.NewRunner(prune.Deps{Repository: w.repo, Catalog: w.records, Chunks: server, Trail: trail{}, Adopt: func(context.Context) error { return nil },
		Clear: func(context.Context, seal.DomainID, ...pack.ID) error { return nil }, Ballast: w.ballast, Dir: filepath.Join(w.dir, "prune"), Epoch: 1, Log: zap.NewNop()}, w.opts)
	must(w.t, w.runner.Load(w.t.Context()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })   // fails only as its indexes close
	running.Go(func() { _ = w.runner.Run(ctx) }) // fails when the power is off at once
	stopped := false
	w.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			running.Wait()
		}
	}
	w.t.Cleanup(w.stop)
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) update(fn func(tx *catalog.Tx) error) {
	w.t.Helper()
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Local, fn))
}

// forget does what the purge of forgotten snapshots does: the object goes, then
// the record, and it is noted that there is something to prune.
func (w *world) forget(n int) {
	w.t.Helper()
	k := w.kept[n]
	w.kept = append(w.kept[:n:n], w.kept[n+1:]...)
	must(w.t, w.store.Store.Delete(w.t.Context(), repo.SnapshotObject(k.instance, k.id)))
	w.update(func(tx *catalog.Tx) error {
		return errors.Join(tx.DeleteSnapshot(k.id), tx.PutPruneNeed(w.domain.ID(), catalog.PruneNeed{Since: time.Now().UTC(), Snapshots: 1, Bytes: 1}))
	})
}

// prune runs once and gives the record of the run.
func (w *world) prune(spec prune.Spec) catalog.PruneRun {
	w.t.Helper()
	run, err := w.tryPrune(spec)
	must(w.t, err)
	return run
}

func (w *world) tryPrune(spec prune.Spec) (run catalog.PruneRun, err error) {
	spec.ID, spec.By = repo.NewID(), "operator/ann"
	if _, err := w.runner.Start(w.t.Context(), spec); err != nil {
		return run, err
	}
	// In a bubble an hour is nothing, and a process whose power is off tells nobody.
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), time.Hour, errCut)
	defer cancel()
	err = w.runner.Watch(ctx, func(s prune.State) error {
		run = s.PruneRun
		return w.power.on() // a process that is dead ends no run
	})
	return run, err
}

// outcome is that of the only domain.
func (w *world) outcome(run catalog.PruneRun) catalog.PruneOutcome {
	w.t.Helper()
	if len(run.Outcomes) != 1 || run.Outcomes[0].Problem != "" || run.State != catalog.PruneDone {
		w.t.Fatalf("run: %+v", run)
	}
	return run.Outcomes[0]
}

// packs gives the packs in the store.
func (w *world) packs() (out []pack.ID) {
	w.t.Helper()
	must(w.t, w.store.List(w.t.Context(), repo.PackPrefix(w.domain.ID()), "", func(i blob.Info) error {
		_, id, err := repo.ParsePackObject(i.Key)
		out = append(out, id)
		return err
	}))
	return out
}

// sound fails the test unless a check of everything finds nothing and every
// snapshot is what it was made of.
func (w *world) sound(about string) {
	w.t.Helper()
	r, err := check.Run(w.t.Context(), w.store, check.Options{Repository: w.repo, Dir: filepath.Join(w.dir, "check"), ReadData: true, Sample: check.Whole})
	must(w.t, err)
	for _, f := range r.Findings {
		if !f.Harmless {
			w.t.Fatalf("%s: %+v", about, f)
		}
	}
	for _, k := range w.kept {
		if err := w.restored(k); err != nil {
			w.t.Fatalf("%s: snapshot %s: %v", about, k.id.Short(), err)
		}
	}
}

// restored reads all of a snapshot as a restore does and compares the rows.
func (w *world) restored(k kept) error {
	ctx := w.t.Context()
	s, err := w.repo.ReadSnapshot(ctx, k.instance, k.id)
	if err != nil {
		return err
	}
	refs, err := s.OpenReferences(w.domain.Keys().Refs())
	if err != nil {
		return err
	}
	content, err := s.OpenContent(w.domain.Keys().Seal(s.Header.SealEpoch), refs)
	if err != nil {
		return err
	}
	r, err := w.ingest.OpenPlain(ctx, ingest.SnapshotRef{ID: k.id, Instance: k.instance, Domain: w.domain.ID()})
	if err != nil {
		return err
	}
	n := 0
	for _, db := range content.Logical.Databases {
		for _, table := range db.Tables {
			want := k.tables[n]
			n++
			var rows string
			for _, run := range table.Runs {
				if err := r.Read(ctx, run.Stream.Spans, func(_ repo.ListEntry, plain []byte) error { rows += string(plain); return nil }); err != nil {
					return err
				}
			}
			if rows != text(want) {
				return fmt.Errorf("table %s: %d bytes of rows, want %d", want.Name, len(rows), len(text(want)))
			}
		}
	}
	if n != len(k.tables) {
		return fmt.Errorf("%d tables, want %d", n, len(k.tables))
	}
	return nil
}

// text is what the rows of a table are.
func text(t repotest.Table) (out string) {
	for i := range t.Rows {
		out += fmt.Sprintf("%d\trow %s of %s.%s\n", i, t.Seed, t.Database, t.Name)
	}
	return out
}
