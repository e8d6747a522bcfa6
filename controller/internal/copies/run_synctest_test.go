package copies_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// moody is a store that can be full, or hang.
type moody struct {
	blob.Store
	mu   sync.Mutex
	mood string
	puts int
}

func (m *moody) set(mood string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mood = mood
}

func (m *moody) tried() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.puts
}

func (m *moody) meet(ctx context.Context, put bool) error {
	m.mu.Lock()
	mood := m.mood
	if put {
		m.puts++
	}
	m.mu.Unlock()
	switch {
	case mood == "full" && put:
		return fmt.Errorf("no space left: %w", errs.Exhausted)
	case mood == "hanging":
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (m *moody) Create(ctx context.Context, key string, body blob.Body) error {
	if err := m.meet(ctx, true); err != nil {
		return err
	}
	return m.Store.Create(ctx, key, body)
}

func (m *moody) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.meet(ctx, false); err != nil {
		return nil, err
	}
	return m.Store.Open(ctx, key, off, n)
}

func (m *moody) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := m.meet(ctx, false); err != nil {
		return blob.Info{}, err
	}
	return m.Store.Stat(ctx, key)
}

func (m *moody) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := m.meet(ctx, false); err != nil {
		return err
	}
	return m.Store.List(ctx, prefix, after, fn)
}

// running runs a Service until stop is called, which waits for it.
func running(t *testing.T, s *copies.Service) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // stop waits for it
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestACopyFollowsWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.backup()
		a, b := mem.New(), mem.New()
		s := w.service(map[string]blob.Store{"a": a, "b": b})
		defer running(t, s)()
		time.Sleep(5 * time.Second)
		w.same(w.store, a)
		w.same(w.store, b)
		w.backup()
		s.Wake()
		time.Sleep(5 * time.Second)
		w.same(w.store, a)
		w.same(w.store, b)
		w.full() // nobody wakes for it
		time.Sleep(20 * time.Minute)
		w.same(w.store, a)
		for _, c := range s.Status() {
			if c.Phase != copies.PhaseComplete || c.Lag != 0 || c.Late {
				t.Errorf("status %+v", c)
			}
		}
	})
}

func TestAFullOrHangingCopyIsLateUntilItHasEverything(t *testing.T) {
	for _, mood := range []string{"full", "hanging"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.backup()
			bad, good := &moody{Store: mem.New()}, mem.New()
			retried := blob.Retry(bad, blob.RetryOptions{}) // as every store of a URL is
			s := w.service(map[string]blob.Store{"a": retried, "b": good})
			stop := running(t, s)
			defer stop()
			time.Sleep(time.Minute)
			bad.set(mood)
			w.backup()
			s.Wake()
			time.Sleep(23 * time.Hour)
			w.same(w.store, good) // the other goes on
			c := w.status(s, "a")
			if c.Late || c.Lag < 22*time.Hour || w.events.count(event.CopyLate) != 0 {
				t.Errorf("%s: before the bound: late %v, lag %s", mood, c.Late, c.Lag)
			}
			time.Sleep(2 * time.Hour)
			if c := w.status(s, "a"); !c.Late || w.events.count(event.CopyLate) != 1 || mood == "full" && (c.Problem == "" || c.Phase != copies.PhaseFailing || c.Objects == 0) {
				t.Errorf("%s: after the bound: %+v, %d events", mood, c, w.events.count(event.CopyLate))
			}
			// Another process knows that it was told.
			stop()
			if bad.tried() > 3000 {
				t.Errorf("%s: %d puts in a day", mood, bad.tried())
			}
			s = w.service(map[string]blob.Store{"a": retried, "b": good})
			defer running(t, s)()
			time.Sleep(time.Hour)
			bad.set("")
			time.Sleep(time.Hour)
			w.same(w.store, bad.Store)
			if c := w.status(s, "a"); c.Late || c.Lag != 0 || w.events.count(event.CopyLate) != 1 || w.events.count(event.CopyCaughtUp) != 1 {
				t.Errorf("%s: at the end: %+v, %d and %d events", mood, c, w.events.count(event.CopyLate), w.events.count(event.CopyCaughtUp))
			}
			if n := w.events.count(event.CopyAlarm); n != 0 {
				t.Errorf("%s: %d alarms", mood, n)
			}
		})
	}
}

func TestTheRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.backup()
		to := mem.New()
		var bytes int64
		for _, key := range keys(t, w.store, "") {
			bytes += int64(len(object(t, w.store, key)))
		}
		s := copies.New(w.deps(), copies.Options{Name: "a", BytesPerSecond: bytes / 100, Open: func(context.Context) (blob.Store, error) { return named{to, "a"}, nil }})
		defer running(t, s)()
		time.Sleep(50 * time.Second)
		if c := w.status(s, "a"); c.Objects == 0 || c.Phase != copies.PhaseCopying {
			t.Errorf("after half of the time: %+v", c)
		}
		time.Sleep(time.Minute)
		w.same(w.store, to)
	})
}

// What is found damaged is healed in the background, also what a process that
// died had marked, and what a read found.
func TestDamageThatWasFoundIsHealedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.backup()
		to := mem.New()
		w.follow(w.service(map[string]blob.Store{"a": to}), "a")
		pack := keys(t, w.store, repo.PacksPrefix)[0]
		whole := object(t, w.store, pack)
		domain, id, err := repo.ParsePackObject(pack)
		must(t, err)
		must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			return tx.PutDamagedPack(catalog.DamagedPack{Domain: domain, Pack: catalog.PackID(id), Whole: true, Found: time.Now()})
		}))
		damage(t, w.store, pack)
		s := w.service(map[string]blob.Store{"a": to})
		defer running(t, s)()
		time.Sleep(time.Minute)
		if got := object(t, w.store, pack); string(got) != string(whole) {
			t.Error("not healed after a restart")
		}
		// A restore reads from the copy what the store does not give.
		damage(t, w.store, pack)
		var read []byte
		name, err := s.Read(t.Context(), pack, func(ctx context.Context, from blob.Store) (err error) {
			read, err = blob.ReadAll(ctx, from, pack, 1<<20)
			return err
		})
		if err != nil || name != "a" || string(read) != string(whole) {
			t.Errorf("read from %q, %v", name, err)
		}
		time.Sleep(time.Minute)
		if got := object(t, w.store, pack); string(got) != string(whole) {
			t.Error("not healed after a read")
		}
		if c := w.status(s, "a"); c.Reads != 1 || c.Healed != 2 {
			t.Errorf("%d reads, %d healed", c.Reads, c.Healed)
		}
		_, err = s.Read(t.Context(), "packs/none", func(ctx context.Context, from blob.Store) error {
			_, err := from.Stat(ctx, "packs/none")
			return err
		})
		wantKind(t, "read of what nobody has", err, errs.NotFound)
	})
}
