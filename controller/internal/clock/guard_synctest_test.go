package clock_test

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/clock"
	"github.com/tuskvault/tuskvault/controller/internal/export"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

const day = 24 * time.Hour

// remote is a store with a clock of its own, which is off by a time.
type remote struct {
	blob.Store
	off  time.Duration
	down atomic.Bool
}

func (r *remote) Features() blob.Features {
	f := r.Store.Features()
	f.OwnClock = true
	return f
}

func (r *remote) Stat(ctx context.Context, key string) (blob.Info, error) {
	if r.down.Load() {
		return blob.Info{}, errs.Unavailable
	}
	i, err := r.Store.Stat(ctx, key)
	i.Modified = i.Modified.Add(r.off)
	return i, err
}

// world is a controller's catalog, over restarts of its process.
type world struct {
	t      *testing.T
	store  blob.Store
	path   string
	repo   *repo.Repository
	epoch  uint64
	agents []time.Duration // how far their clocks are from this one
}

func newWorld(t *testing.T, store blob.Store) *world {
	t.Helper()
	w := &world{t: t, store: store, path: filepath.Join(t.TempDir(), "catalog.db")}
	w.repo, _, _ = repotest.New(t, store)
	var err error
	w.epoch, err = w.repo.ClaimEpoch(t.Context())
	must(t, err)
	c, err := catalog.Create(t.Context(), w.path, catalog.Meta{Repository: w.repo.ID(), Epoch: w.epoch, Head: catalog.Witness{Seen: time.Now()}}, catalog.Options{Detached: true})
	must(t, err)
	must(t, c.Close())
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// process runs fn with the guard of a controller that is started for it and
// stopped after it.
func (w *world) process(fn func(g *clock.Guard, c *catalog.Catalog)) {
	w.t.Helper()
	c, err := catalog.Open(w.t.Context(), w.path, catalog.Options{})
	must(w.t, err)
	head := c.Head()
	log, err := repo.OpenLogAt(w.t.Context(), w.repo, w.epoch, repo.Witness{Repository: w.repo.ID(), Epoch: head.Epoch, Number: head.Number, Hash: head.Hash})
	must(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = export.New(c, log, zaptest.NewLogger(w.t)).Run(ctx) })
	fn(clock.New(c, w.store, func() (out []time.Time) {
		for _, off := range w.agents {
			out = append(out, time.Now().Add(off))
		}
		return out
	}, zaptest.NewLogger(w.t)), c)
	cancel()
	running.Wait()
	must(w.t, c.Close())
}

func (w *world) believed(g *clock.Guard, closely bool, why string) {
	w.t.Helper()
	if err := g.Check(w.t.Context(), closely); err != nil || g.Doubt() != "" {
		w.t.Errorf("%s: %v, doubt %q", why, err, g.Doubt())
	}
}

func (w *world) doubted(g *clock.Guard, closely bool, why string) {
	w.t.Helper()
	if err := g.Check(w.t.Context(), closely); errs.KindOf(err) != errs.Conflict || g.Doubt() == "" {
		w.t.Errorf("%s: %v, doubt %q", why, err, g.Doubt())
	}
}

// In a bubble no clock can be set, but a process that was away sees the same as
// one whose clock leapt while it was away: time has passed and nobody saw it.

func TestAClock400DaysAheadIsNeverBelievedHoweverOftenItIsStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mem.New())
		w.agents = []time.Duration{0}
		w.process(func(g *clock.Guard, _ *catalog.Catalog) { w.believed(g, true, "at first") })
		time.Sleep(400 * day)
		w.agents = []time.Duration{-400 * day, -400 * day}
		for range 3 { // each process writes records with the wrong time, which prove nothing to the next
			w.process(func(g *clock.Guard, c *catalog.Catalog) {
				w.doubted(g, true, "agents say otherwise")
				must(t, c.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error { return tx.PutCluster(catalog.Cluster{Name: "c"}) }))
				time.Sleep(2 * time.Hour)
				w.doubted(g, true, "two hours later")
			})
		}
		w.agents = nil
		w.process(func(g *clock.Guard, _ *catalog.Catalog) { w.doubted(g, true, "nobody there") })
	})
}

func TestALeapThatAgentsOfTheSameHostShareWaitsForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mem.New())
		w.agents = []time.Duration{0}
		w.process(func(g *clock.Guard, _ *catalog.Catalog) { w.believed(g, true, "at first") })
		time.Sleep(400 * day)
		w.process(func(g *clock.Guard, c *catalog.Catalog) {
			for range 2 {
				w.doubted(g, false, "it leapt")
				time.Sleep(time.Hour)
			}
			mayDelete(t, c, errs.Conflict)
			must(t, c.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
				decided, err := tx.ResumeDeletion("operator/a")
				if len(decided) != 1 || decided[0].Kind != catalog.PauseClock {
					t.Errorf("decided about %+v", decided)
				}
				return err
			}))
			w.believed(g, false, "a person has decided")
			mayDelete(t, c, nil)
			time.Sleep(time.Hour)
			w.believed(g, false, "an hour later")
		})
		time.Sleep(400 * day)
		w.process(func(g *clock.Guard, c *catalog.Catalog) {
			w.doubted(g, false, "it leapt again: the decision was about the time before")
			mayDelete(t, c, errs.Conflict)
		})
	})
}

func mayDelete(t *testing.T, c *catalog.Catalog, want *errs.Kind) {
	t.Helper()
	if err := c.View(t.Context(), func(tx *catalog.Tx) error { return tx.MayDelete() }); errs.KindOf(err) != want {
		t.Errorf("may delete: %v", err)
	}
}

func TestAClockThatWasSetBackIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mem.New())
		w.process(func(g *clock.Guard, c *catalog.Catalog) {
			must(t, c.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
				return tx.PutClock(catalog.Clock{Believed: time.Now().Add(6 * time.Hour)}) // it was six hours later once
			}))
			w.doubted(g, true, "set back, nobody there")
			w.agents = []time.Duration{6 * time.Hour}
			w.doubted(g, true, "set back, an agent was not")
			time.Sleep(6 * time.Hour)
			w.agents = nil
			w.doubted(g, true, "the monotonic clock has gone on as well")
			w.agents = []time.Duration{0}
			w.believed(g, true, "an agent agrees")
			w.agents = nil
			time.Sleep(10 * time.Hour)
			w.believed(g, true, "alone, but it was watched all the time")
		})
	})
}

func TestAStoreWithAClockOfItsOwnIsAskedThroughAFreshRecordOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &remote{Store: mem.New()}
		w := newWorld(t, store)
		w.process(func(g *clock.Guard, c *catalog.Catalog) {
			time.Sleep(time.Hour + time.Minute) // too long for anybody to vouch but the store
			w.doubted(g, false, "nobody asked closely, and no record was written")
			before := c.Head().Number
			w.believed(g, true, "the store agrees")
			if n := c.Head().Number; n != before+1 {
				t.Errorf("asked by %d records", n-before)
			}
			time.Sleep(30 * time.Minute)
			before = c.Head().Number
			w.believed(g, true, "asked again within the hour")
			if n := c.Head().Number; n != before {
				t.Errorf("%d more records", n-before)
			}
		})
		time.Sleep(400 * day)
		w.process(func(g *clock.Guard, _ *catalog.Catalog) { w.believed(g, true, "away for long, and the store vouches") })
		store.off = -400 * day
		w.agents = []time.Duration{0}
		w.process(func(g *clock.Guard, _ *catalog.Catalog) { w.doubted(g, true, "the store says otherwise") })
		w.process(func(g *clock.Guard, c *catalog.Catalog) {
			must(t, c.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error { return tx.PutCluster(catalog.Cluster{Name: "d"}) }))
			store.down.Store(true)
			if err := g.Check(t.Context(), true); errs.KindOf(err) != errs.Unavailable {
				t.Errorf("the store does not answer: %v", err)
			}
		})
	})
}
