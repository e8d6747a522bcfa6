package export_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/controller/internal/export"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is one that can be away.
type store struct {
	blob.Store
	mu   sync.Mutex
	away bool
}

func (s *store) Create(ctx context.Context, key string, body blob.Body) error {
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	if away {
		return fmt.Errorf("store: %w", errs.Unavailable)
	}
	return s.Store.Create(ctx, key, body)
}

func (s *store) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

type world struct {
	t          *testing.T
	path       string
	store      *store
	repository *repo.Repository
	catalog    *catalog.Catalog
	ended      chan error
	cancel     context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "catalog.db"), store: &store{Store: mem.New()}}
	var err error
	w.repository, err = repo.Init(t.Context(), w.store, repo.Options{Unlocker: seal.NewKeyFile(), Name: "test"})
	w.must(err)
	epoch, err := w.repository.ClaimEpoch(t.Context())
	w.must(err)
	w.catalog, err = catalog.Create(t.Context(), w.path, catalog.Meta{Repository: w.repository.ID(), Epoch: epoch}, catalog.Options{})
	w.must(err)
	t.Cleanup(func() { _ = w.catalog.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start runs an exporter over the log where the catalog knows it to be.
func (w *world) start() {
	w.t.Helper()
	head := w.catalog.Head()
	log, err := repo.OpenLogAt(w.t.Context(), w.repository, 1, repo.Witness{Repository: w.repository.ID(), Epoch: head.Epoch, Number: head.Number, Hash: head.Hash})
	w.must(err)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel, w.ended = cancel, make(chan error, 1)
	e := export.New(w.catalog, log, zaptest.NewLogger(w.t))
	go func() { w.ended <- e.Run(ctx) }()
}

func (w *world) stop() error {
	w.cancel()
	return <-w.ended
}

func (w *world) put(class catalog.Class, name string) error {
	return w.catalog.Update(w.t.Context(), class, func(tx *catalog.Tx) error {
		return tx.PutAgent(catalog.Agent{ID: repo.NewID(), Name: name})
	})
}

// inStore gives the names of the agents in the log, in order.
func (w *world) inStore() (names []string) {
	w.t.Helper()
	var last uint64
	_, err := w.repository.ReplayLogAfter(w.t.Context(), repo.Witness{Repository: w.repository.ID()}, func(r *repo.LogRecord) error {
		m := &catalogpb.LogRecord{}
		if err := proto.Unmarshal(r.Payload, m); err != nil {
			return err
		}
		for _, b := range m.GetBatches() {
			if b.GetSequence() != last+1 {
				w.t.Errorf("batch %d after %d", b.GetSequence(), last)
			}
			last = b.GetSequence()
			for _, c := range b.GetChanges() {
				a := &catalogpb.Agent{}
				if err := proto.Unmarshal(c.GetValue(), a); err != nil {
					return err
				}
				names = append(names, a.GetName())
			}
		}
		return nil
	})
	w.must(err)
	return names
}

func (w *world) wants(names ...string) {
	w.t.Helper()
	if got := w.inStore(); fmt.Sprint(got) != fmt.Sprint(names) {
		w.t.Fatalf("in the store: %v, want %v", got, names)
	}
}

func TestAsynchronousChangesAreInTheStoreWithinFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		synctest.Wait()
		w.must(w.put(catalog.Async, "a"))
		w.must(w.put(catalog.Async, "b"))
		time.Sleep(5 * time.Second)
		w.wants("a", "b")
		if head := w.catalog.Head(); head.Number != 1 {
			t.Errorf("%d records, want both changes in one", head.Number)
		}
		w.must(w.stop())
	})
}

func TestASynchronousChangeIsInTheStoreWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.must(w.put(catalog.Async, "before"))
		start := time.Now()
		w.must(w.put(catalog.Sync, "now"))
		w.wants("before", "now")
		if d := time.Since(start); d > 0 {
			t.Errorf("it waited %s though the store was there", d)
		}
		w.must(w.stop())
	})
}

func TestChangesWaitForAStoreThatIsAwayAndComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.setAway(true)
		w.start()
		for i := range 5 {
			w.must(w.put(catalog.Async, fmt.Sprint(i)))
			time.Sleep(time.Minute)
		}
		done := make(chan error, 1)
		go func() { done <- w.put(catalog.Sync, "sync") }()
		synctest.Wait()
		if age, synchronous, err := w.catalog.Waiting(t.Context()); age < 5*time.Minute || !synchronous || err != nil {
			t.Errorf("lag %s, %v, %v", age, synchronous, err)
		}
		w.store.setAway(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.wants("0", "1", "2", "3", "4", "sync")
		w.must(w.stop())
	})
}

// forgetful is a catalog whose process dies between the put and its note.
type forgetful struct{ *catalog.Catalog }

var errDied = errors.New("power cut")

func (forgetful) Shipped(context.Context, catalog.Shipment, catalog.Witness) error { return errDied }

func TestACrashBetweenThePutAndItsNoteShipsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		log, err := repo.OpenLogAt(t.Context(), w.repository, 1, repo.Witness{Repository: w.repository.ID()})
		w.must(err)
		w.must(w.put(catalog.Async, "a"))
		ctx, cancel := context.WithCancel(t.Context())
		e := export.New(forgetful{w.catalog}, log, zaptest.NewLogger(t))
		go func() { time.Sleep(10 * time.Second); cancel() }()
		w.must(e.Run(ctx))
		w.wants("a")
		w.must(w.put(catalog.Async, "b"))
		w.must(w.catalog.Close())
		w.catalog, err = catalog.Open(t.Context(), w.path, catalog.Options{})
		w.must(err)
		w.start()
		time.Sleep(5 * time.Second)
		w.wants("a", "b")
		w.must(w.stop())
	})
}

func TestWhatIsLeftIsShippedWhenTheProgramStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		synctest.Wait()
		w.must(w.put(catalog.Async, "last"))
		w.must(w.stop())
		w.wants("last")
	})
}

func TestAControllerThatWasTakenOverStopsWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.must(w.put(catalog.Sync, "mine"))
		epoch, err := w.repository.ClaimEpoch(t.Context())
		w.must(err)
		theirs, err := repo.OpenLog(t.Context(), w.repository, epoch)
		w.must(err)
		_, err = theirs.Append(t.Context(), repo.LogSynchronous, nil)
		w.must(err)
		if err := w.put(catalog.Sync, "lost"); errs.KindOf(err) != errs.Conflict {
			t.Errorf("who was waiting: %v", err)
		}
		if err := <-w.ended; errs.KindOf(err) != errs.Conflict {
			t.Errorf("the exporter: %v", err)
		}
		if err := w.put(catalog.Local, "late"); errs.KindOf(err) != errs.Conflict {
			t.Errorf("who comes later: %v", err)
		}
		w.cancel()
	})
}
