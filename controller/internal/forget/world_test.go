package forget_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const delay = 72 * time.Hour

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a catalog and a store in which nothing but snapshots are. It is both
// for the Purger too, and stops as a killed process would after some steps.
type world struct {
	t        *testing.T
	catalog  *catalog.Catalog
	store    blob.Store
	users    *forget.Users
	events   *event.Log
	instance repo.InstanceID
	domain   seal.DomainID

	mu     sync.Mutex
	steps  int
	limit  int  // steps that are done before it stops; -1 for all
	silent bool // the step at which it stops is done, and its answer lost
	denied error
	doubt  error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), users: &forget.Users{}, events: event.New(time.Now(), 100), instance: repo.NewID(), domain: seal.DomainID{7}, limit: -1}
	var err error
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { must(t, w.catalog.Close()) })
	return w
}

func (w *world) View(ctx context.Context, fn func(*catalog.Tx) error) error {
	return w.catalog.View(ctx, fn)
}

func (w *world) step(do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit >= 0 && w.steps >= w.limit {
		if w.steps == w.limit && w.silent {
			w.steps++
			_ = do()
		}
		return errs.Unavailable
	}
	w.steps++
	return do()
}

func (w *world) Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error {
	if class != catalog.Sync {
		w.t.Errorf("a change of class %d", class)
	}
	return w.step(func() error { return w.catalog.Update(ctx, class, fn) })
}

// deleting is the store as the Purger has it.
type deleting struct {
	blob.Store
	w *world
}

func (d deleting) Delete(ctx context.Context, key string) error {
	if d.w.denied != nil {
		return d.w.denied
	}
	return d.w.step(func() error { return d.Store.Delete(ctx, key) })
}

func (w *world) Check(context.Context, bool) error { return w.doubt }

func (w *world) purger() *forget.Purger {
	return forget.NewPurger(forget.Deps{Catalog: w, Store: deleting{w.store, w}, Clock: w, Trail: audit.New(w.catalog, zaptest.NewLogger(w.t)),
		Events: w.events, Users: w.users, Delay: delay, Log: zaptest.NewLogger(w.t)})
}

// snapshot puts one with some complete databases.
func (w *world) snapshot(databases ...string) catalog.Snapshot {
	w.t.Helper()
	s := catalog.Snapshot{ID: repo.NewID(), Instance: w.instance, InstanceName: "db1/main", Domain: w.domain, Incarnation: 1, Committed: time.Now(), Complete: true,
		StoredBytes: 100, Databases: int32(len(databases))}
	for _, name := range databases {
		s.Contents = append(s.Contents, catalog.SnapshotDatabase{Name: name, Complete: true})
	}
	must(w.t, w.store.Create(w.t.Context(), repo.SnapshotObject(s.Instance, s.ID), blob.Bytes([]byte("snapshot"))))
	w.change(func(tx *catalog.Tx) error { return tx.PutSnapshot(s) })
	return s
}

func (w *world) change(fn func(*catalog.Tx) error) {
	w.t.Helper()
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Sync, fn))
}

func (w *world) wish() forget.Wish {
	return forget.Wish{By: "operator/a", Reason: "old", Now: time.Now(), Delay: delay}
}

func (w *world) forget(s catalog.Snapshot) {
	w.t.Helper()
	w.change(func(tx *catalog.Tx) error { _, _, err := forget.Forget(tx, s.ID, w.wish()); return err })
}

// stands is what is there of a snapshot.
type stands struct{ object, record, purged bool }

func (w *world) stands(s catalog.Snapshot) (out stands) {
	w.t.Helper()
	_, err := w.store.Stat(w.t.Context(), repo.SnapshotObject(s.Instance, s.ID))
	if out.object = err == nil; err != nil && !errors.Is(err, errs.NotFound) {
		w.t.Fatal(err)
	}
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) error {
		r, err := tx.Snapshot(s.ID)
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		out.record, out.purged = err == nil, !r.Purged.IsZero()
		return err
	}))
	return out
}

func (w *world) needs() (out []catalog.PruneNeed) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) (err error) { out, err = tx.PruneNeeds(); return err }))
	return out
}
