package lockkeeper_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/lockkeeper"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// length is the lock of the tests.
const length = 60 * day

// world is a locking store, what should be locked in it, and a catalog.
type world struct {
	t       *testing.T
	mem     *mem.Store
	meter   blob.Meter
	down    atomic.Bool
	refuses atomic.Pointer[string]
	catalog *catalog.Catalog
	keys    []string
}

// Lock fails as a store does that is away, or refuses one object.
func (w *world) Lock(ctx context.Context, key string) (time.Time, error) {
	if w.down.Load() {
		return time.Time{}, fmt.Errorf("lock %s: %w", key, errs.Unavailable)
	}
	if r := w.refuses.Load(); r != nil && *r == key {
		return time.Time{}, fmt.Errorf("lock %s: %w", key, errs.Denied)
	}
	return w.mem.Lock(ctx, key)
}

// lockStore is the store as the keeper sees it.
type lockStore struct {
	*mem.Store
	w *world
}

func (s lockStore) Lock(ctx context.Context, key string) (time.Time, error) {
	return s.w.Lock(ctx, key)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, mem: mem.NewVersioned(func(key string) time.Duration { return repo.LockTime(key, length) })}
	var err error
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Repository: repo.NewID(), Epoch: 1}, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.catalog.Close() })
	return w
}

func (w *world) create(key string) {
	w.t.Helper()
	if err := w.mem.Create(w.t.Context(), key, blob.Bytes("x")); err != nil {
		w.t.Fatal(err)
	}
	w.keys = append(w.keys, key)
}

// start runs a keeper until stop is called.
func (w *world) start(kept lockkeeper.Kept) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	k := lockkeeper.New(w.meter.Store(lockStore{w.mem, w}), w.catalog, kept, zap.NewNop())
	go func() { done <- k.Run(ctx) }() // stop waits for it
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// check sees that everything is locked for some time yet.
func (w *world) check(when string) {
	w.t.Helper()
	for _, key := range w.keys {
		if left := time.Until(w.mem.LockedUntil(key)); left <= 0 {
			w.t.Fatalf("%s: the lock of %s has ended %v ago", when, key, -left)
		}
	}
}

func TestNoLockEndsWhileItsObjectIsNeeded(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, key := range []string{"repository.json", "keys/a", "domains/a/1", "ca/1", "epochs/1"} {
			w.create(key)
		}
		stop := w.start(nil)
		for n := range 150 { // days
			if n%3 == 0 {
				w.create(fmt.Sprintf("packs/%02x/%d", r.IntN(256), n))
				w.create(fmt.Sprintf("snapshots/a/%d", n))
			}
			time.Sleep(day)
			synctest.Wait()
			w.check(fmt.Sprintf("day %d", n))
			switch r.IntN(20) {
			case 0: // a restart, or a week without a controller
				stop()
				time.Sleep(time.Duration(r.IntN(4)) * day)
				stop = w.start(nil)
			case 1: // a store that is away for some days
				w.down.Store(true)
				time.Sleep(time.Duration(r.IntN(3)) * day)
				w.down.Store(false)
			}
		}
		stop()
		// One request an object in half a length, and some again after a break.
		if n, most := w.meter.Stats(blob.OpLock).Calls-w.meter.Stats(blob.OpLock).Errors, int64(len(w.keys)*(150+70)/30); n > most || n < most/16 {
			t.Errorf("%d locks were extended of %d objects, at most %d wanted", n, len(w.keys), most)
		}
	})
}

func TestWhatCannotBeExtendedIsCountedAndWhatIsNotNeededIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 600 { // some pages
			w.create(fmt.Sprintf("packs/%04d", i))
		}
		w.create("index/a/1")
		refused, dead := "packs/0300", "packs/0301"
		w.refuses.Store(&refused)
		made := w.mem.LockedUntil(dead)
		time.Sleep(time.Hour)
		stop := w.start(func(_ *catalog.Tx, keys []string) ([]string, error) {
			return slices.DeleteFunc(keys, func(k string) bool { return k == dead }), nil
		})
		defer stop()
		time.Sleep(day)
		synctest.Wait()
		if got := w.mem.LockedUntil(dead); !got.Equal(made) {
			t.Errorf("what is not needed was extended to %v", got)
		}
		for _, key := range w.keys[:600] {
			if key != refused && key != dead && !w.mem.LockedUntil(key).After(made) {
				t.Errorf("%s was not extended", key)
			}
		}
		var rounds []catalog.LockRound
		if err := w.catalog.View(t.Context(), func(tx *catalog.Tx) (err error) { rounds, err = tx.LockRounds(); return err }); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(rounds, func(r catalog.LockRound) bool { return r.Prefix == repo.PacksPrefix })
		if i < 0 || rounds[i].CoveredObjects != 598 || rounds[i].CoveredFailed != 1 || rounds[i].Covered.IsZero() || !rounds[i].Started.IsZero() {
			t.Errorf("%+v", rounds)
		}
	})
}

func TestTheCatalogLogIsLockedFromItsOldestNeededRecordOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var needed, old []string
		for i := 1; i <= 20; i++ {
			log, full := fmt.Sprintf("catalog/%020d.log", i), fmt.Sprintf("catalog/%020d.full", i)
			w.create(log)
			if i%4 == 0 { // 4, 8, 12, 16, 20
				w.create(full)
				if i == 12 {
					needed = append(needed, full)
				}
			}
			if i > 12 {
				needed = append(needed, log)
			}
			if i < 12 {
				old = append(old, log)
			}
		}
		stop := w.start(nil)
		defer stop()
		time.Sleep(100 * day)
		synctest.Wait()
		w.keys = needed
		w.check("after 100 days")
		for _, key := range old {
			if w.mem.LockedUntil(key).After(time.Now()) {
				t.Errorf("%s is replaced and still locked", key)
			}
		}
	})
}

func TestAStoreThatLocksNothingIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m blob.Meter
		ctx, cancel := context.WithTimeout(t.Context(), 100*day)
		defer cancel()
		if err := lockkeeper.New(m.Store(mem.New()), nil, nil, zap.NewNop()).Run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if m.Stats(blob.OpList).Calls != 0 {
			t.Error("it was listed")
		}
	})
}
