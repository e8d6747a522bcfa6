package scrub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a repository with two domains, and a catalog that knows it.
type world struct {
	t       testing.TB
	store   *reads
	repo    *repo.Repository
	catalog *catalog.Catalog
	ingest  *fakeIngest
	marks   *scrub.Marks
	events  *event.Log
	trail   *fakeTrail
	dir     string
	packs   []string
	seen    int64 // the last event that told gave
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: &reads{Store: mem.New()}, ingest: &fakeIngest{bad: map[pack.ID]check.BadPack{}}, trail: &fakeTrail{}, events: event.New(time.Now(), 100), dir: t.TempDir()}
	r, d, _ := repotest.New(t, w.store)
	w.repo = r
	id, err := r.CreateDomain(t.Context())
	must(t, err)
	second, err := r.Domain(t.Context(), id)
	must(t, err)
	_, err = r.ClaimEpoch(t.Context())
	must(t, err)
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(w.dir, "catalog.db"), catalog.Meta{Repository: r.ID(), Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { must(t, w.catalog.Close()) })
	for _, d := range []*repo.Domain{d, second} {
		b := repotest.NewBackups(t, r, d)
		job := b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 200, Seed: d.ID().String()})
		raw := w.object(repo.SnapshotObject(b.Instance, job))
		must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			return tx.PutSnapshot(catalog.Snapshot{ID: job, Instance: b.Instance, Domain: d.ID(), Committed: time.Now(), ObjectHash: hash(raw), ObjectBytes: int64(len(raw))})
		}))
	}
	must(t, w.store.List(t.Context(), repo.PacksPrefix, "", func(i blob.Info) error { w.packs = append(w.packs, i.Key); return nil }))
	w.marks = scrub.NewMarks(w.catalog, w.ingest, w.events, zaptest.NewLogger(t))
	return w
}

func (w *world) object(key string) []byte {
	w.t.Helper()
	r, err := w.store.Store.Open(w.t.Context(), key, 0, -1)
	must(w.t, err)
	b, err := io.ReadAll(r)
	must(w.t, err)
	return b
}

// damage flips a byte in the first frame of a pack; again it is mended.
func (w *world) damage(key string) {
	w.t.Helper()
	b := bytes.Clone(w.object(key))
	b[24+60] ^= 1
	must(w.t, w.store.Delete(w.t.Context(), key))
	must(w.t, w.store.Create(w.t.Context(), key, blob.Bytes(b)))
}

func (w *world) scrubber(o scrub.Options) *scrub.Scrubber {
	return scrub.NewScrubber(w.repo, w.catalog, w.marks, nil, o, zaptest.NewLogger(w.t))
}

func (w *world) checker() *scrub.Checker {
	return scrub.NewChecker(scrub.Deps{Repository: w.repo, Catalog: w.catalog, Known: scrub.NewKnown(w.catalog), Marks: w.marks, Trail: w.trail, Events: w.events,
		Dir: filepath.Join(w.dir, "check"), Log: zaptest.NewLogger(w.t)})
}

// told gives the events since the last time, each as its kind and the beginning
// of its message.
func (w *world) told() (out []string) {
	w.t.Helper()
	f, _, err := w.events.Follow(w.seen)
	must(w.t, err)
	defer f.Close()
	all, err := f.Take()
	must(w.t, err)
	w.seen = f.Last()
	for _, e := range all {
		word, _, _ := strings.Cut(e.Message, " ")
		out = append(out, fmt.Sprint(e.Kind, " ", word))
	}
	return out
}

// running runs fn until stop is called, which waits for it.
func running(t testing.TB, fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }() // stop waits for it
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func (w *world) scrubbed() (s catalog.Scrub) {
	w.t.Helper()
	_ = w.catalog.View(w.t.Context(), func(tx *catalog.Tx) (err error) { s, err = tx.Scrub(); return err }) // none yet is the zero one
	return s
}

func (w *world) marked() (keys []string) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) error {
		for p, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			keys = append(keys, repo.PackObject(p.Domain, pack.ID(p.Pack)))
		}
		return nil
	}))
	slices.Sort(keys)
	if told := w.ingest.keys(); !slices.Equal(keys, told) {
		w.t.Errorf("catalog has %q, the ingest was told %q", keys, told)
	}
	return keys
}

// reads is a store that counts the packs whose frames are read.
type reads struct {
	blob.Store
	mu    sync.Mutex
	keys  []string
	block chan struct{} // when set, reads of frames wait for it
}

func (r *reads) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if off == 24 && n > 100 {
		r.mu.Lock()
		r.keys = append(r.keys, key)
		block := r.block
		r.mu.Unlock()
		if block != nil {
			select {
			case <-block:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return r.Store.Open(ctx, key, off, n)
}

func (r *reads) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.keys
	r.keys = nil
	return keys
}

// fakeIngest remembers what it was told.
type fakeIngest struct {
	mu  sync.Mutex
	bad map[pack.ID]check.BadPack
}

func (f *fakeIngest) Distrust(bad ...check.BadPack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bad {
		f.bad[b.Pack] = b
	}
}

func (f *fakeIngest) Trust(_ seal.DomainID, packs ...pack.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range packs {
		delete(f.bad, id)
	}
}

func (f *fakeIngest) keys() (keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.bad {
		keys = append(keys, repo.PackObject(b.Domain, b.Pack))
	}
	slices.Sort(keys)
	return keys
}

// fakeTrail remembers audit records.
type fakeTrail struct {
	mu      sync.Mutex
	records []catalog.AuditRecord
}

func (f *fakeTrail) Append(_ *catalog.Tx, r catalog.AuditRecord) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, r)
	return nil
}
