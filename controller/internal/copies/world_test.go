package copies_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
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

// named is a store with a place of its own.
type named struct {
	blob.Store
	name string
}

func (n named) Features() blob.Features {
	f := n.Store.Features()
	f.Location = n.name
	return f
}

// world is a repository in a store of its own, with a catalog.
type world struct {
	t       testing.TB
	store   *mem.Store
	repo    *repo.Repository
	key     *seal.KeyFile
	domain  *repo.Domain
	log     *repo.Log
	backups *repotest.Backups
	catalog *catalog.Catalog
	marks   *fakeMarks
	trail   *fakeTrail
	events  *fakeEvents
	jobs    []repo.JobID
	rows    int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), marks: &fakeMarks{bad: map[pack.ID]bool{}}, trail: &fakeTrail{}, events: &fakeEvents{}}
	w.repo, w.domain, w.key = repotest.New(t, named{w.store, "own"})
	_, err := w.repo.ClaimEpoch(t.Context()) // of an earlier controller
	must(t, err)
	epoch, err := w.repo.ClaimEpoch(t.Context())
	must(t, err)
	must(t, w.repo.PutCA(t.Context(), "aa01", []byte("root")))
	w.log, err = repo.OpenLog(t.Context(), w.repo, epoch)
	must(t, err)
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Repository: w.repo.ID(), Epoch: epoch}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { must(t, w.catalog.Close()) })
	w.backups = repotest.NewBackups(t, w.repo, w.domain)
	w.backups.Epoch = epoch
	w.append()
	return w
}

// append puts a record into the catalog log.
func (w *world) append() {
	w.t.Helper()
	head, err := w.log.Append(w.t.Context(), repo.LogAsynchronous, fmt.Appendf(nil, "after %d snapshots", len(w.jobs)))
	must(w.t, err)
	w.backups.LogNumber = head.Number
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		m, err := tx.Meta()
		m.Head = catalog.Witness{Repository: head.Repository, Epoch: head.Epoch, Number: head.Number, Hash: head.Hash}
		if err == nil {
			err = tx.PutMeta(m)
		}
		return err
	}))
}

// full puts a full record at the head of the log.
func (w *world) full() {
	w.t.Helper()
	head, err := w.log.Head(w.t.Context())
	must(w.t, err)
	must(w.t, w.log.PutFull(w.t.Context(), head, fmt.Appendf(nil, "after %d snapshots", len(w.jobs))))
}

// backup makes a snapshot of rows that were there and some new ones, and a log
// record that speaks of it.
func (w *world) backup() repo.JobID {
	w.t.Helper()
	w.rows += 20
	job := w.backups.Backup(repotest.Table{Database: "app", Name: "t", Rows: 60, Seed: "same"}, repotest.Table{Database: "app", Name: "u", Rows: w.rows, Seed: fmt.Sprint(w.rows)})
	w.jobs = append(w.jobs, job)
	w.append()
	return job
}

// service makes a Service with copies named by their stores.
func (w *world) service(stores map[string]blob.Store) *copies.Service {
	w.t.Helper()
	var all []copies.Options
	for _, name := range []string{"a", "b"} {
		if s := stores[name]; s != nil {
			all = append(all, copies.Options{Name: name, MaxLag: 24 * time.Hour, Open: func(context.Context) (blob.Store, error) { return named{s, name}, nil }})
		}
	}
	return copies.New(w.deps(), all...)
}

func (w *world) deps() copies.Deps {
	return copies.Deps{Repository: w.repo, Epoch: 2, Unlockers: []seal.Unlocker{w.key}, Catalog: w.catalog, Trail: w.trail, Events: w.events, Marks: w.marks,
		Dir: w.t.TempDir(), Log: zaptest.NewLogger(w.t)}
}

// follow makes rounds until the copy has everything.
func (w *world) follow(s *copies.Service, name string) {
	w.t.Helper()
	for range 20 {
		again, err := s.Round(w.t.Context(), name)
		must(w.t, err)
		if !again {
			return
		}
	}
	w.t.Fatal("20 rounds, and there is still something to copy")
}

// verify checks a store whole and gives what is wrong with it, and the snapshots
// that are listed in it.
func (w *world) verify(s blob.Store) (findings []check.Finding, snapshots int) {
	w.t.Helper()
	s = named{s, "to be checked"}
	r, err := repo.Open(w.t.Context(), s, w.key)
	must(w.t, err)
	report, err := check.Run(w.t.Context(), s, check.Options{Repository: r, Unlockers: []seal.Unlocker{w.key}, Dir: w.t.TempDir(), ReadData: true, Sample: check.Whole})
	must(w.t, err)
	for _, f := range report.Findings {
		if !f.Harmless {
			findings = append(findings, f)
		}
	}
	return findings, int(report.SnapshotsChecked)
}

func (w *world) clean(what string, s blob.Store, snapshots int) {
	w.t.Helper()
	findings, n := w.verify(s)
	if len(findings) > 0 || n != snapshots {
		w.t.Errorf("%s: %d snapshots, want %d; %+v", what, n, snapshots, findings)
	}
}

// keys lists a store.
func keys(t testing.TB, s blob.Store, prefix string) (out []string) {
	t.Helper()
	must(t, s.List(t.Context(), prefix, "", func(i blob.Info) error { out = append(out, i.Key); return nil }))
	return out
}

// same fails unless both stores hold the same objects, but for records of the log
// from before the place where that of the copy begins.
func (w *world) same(a, b blob.Store) {
	w.t.Helper()
	left, right := keys(w.t, a, ""), keys(w.t, b, "")
	if log := keys(w.t, b, repo.CatalogPrefix); len(log) > 0 && strings.HasSuffix(log[0], ".full") {
		left = slices.DeleteFunc(left, func(key string) bool { return strings.HasPrefix(key, repo.CatalogPrefix) && key < log[0] })
	}
	if strings.Join(left, "\n") != strings.Join(right, "\n") {
		w.t.Errorf("other objects:\n%s\n\nwant\n%s", strings.Join(right, "\n"), strings.Join(left, "\n"))
		return
	}
	for _, key := range left {
		if !bytes.Equal(object(w.t, a, key), object(w.t, b, key)) {
			w.t.Errorf("%s differs", key)
		}
	}
}

func object(t testing.TB, s blob.Store, key string) []byte {
	t.Helper()
	b, err := blob.ReadAll(t.Context(), s, key, 1<<30)
	must(t, err)
	return b
}

// damage flips a bit in the middle of an object.
func damage(t testing.TB, s blob.Store, key string) {
	t.Helper()
	b := bytes.Clone(object(t, s, key))
	b[len(b)/2] ^= 1
	must(t, s.Delete(t.Context(), key))
	must(t, s.Create(t.Context(), key, blob.Bytes(b)))
}

func (w *world) status(s *copies.Service, name string) copies.Status {
	w.t.Helper()
	for _, c := range s.Status() {
		if c.Name == name {
			return c
		}
	}
	w.t.Fatalf("no copy %q", name)
	return copies.Status{}
}

// pauses are the reasons for which deletion is paused.
func (w *world) pauses() (open []catalog.Pause) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) (err error) { open, err = tx.OpenPauses(); return err }))
	return open
}

// fakeMarks remembers which packs are marked.
type fakeMarks struct {
	mu  sync.Mutex
	bad map[pack.ID]bool
}

func (f *fakeMarks) Mark(_ context.Context, bad ...check.BadPack) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bad {
		f.bad[b.Pack] = true
	}
	return nil
}

func (f *fakeMarks) Clear(_ context.Context, _ seal.DomainID, packs ...pack.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range packs {
		delete(f.bad, p)
	}
	return nil
}

func (f *fakeMarks) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bad)
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

func (f *fakeTrail) count(action string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		if r.Action == action {
			n++
		}
	}
	return n
}

// fakeEvents remembers events.
type fakeEvents struct {
	mu  sync.Mutex
	all []event.Event
}

func (f *fakeEvents) Publish(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, e)
}

func (f *fakeEvents) count(k event.Kind) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.all {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func wantKind(t testing.TB, what string, err error, k *errs.Kind) {
	t.Helper()
	if errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %s", what, err, k)
	}
}

// deleteCopy forgets a copy in a transaction.
func deleteCopy(name string) func(*catalog.Tx) error {
	return func(tx *catalog.Tx) error { return tx.DeleteCopy(name) }
}

// ownAsCopy makes a Service whose copy is the repository's own store.
func (w *world) ownAsCopy() *copies.Service {
	return copies.New(w.deps(), copies.Options{Name: "a", Open: func(context.Context) (blob.Store, error) { return w.repo.Store(), nil }})
}
