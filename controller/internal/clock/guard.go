package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// How often what is believed is noted: in the file, for the next start, and in
// the log, for a rebuild.
const (
	noteEvery = 10 * time.Minute
	shipEvery = 24 * time.Hour
	// freshFor is how long a record of the log tells the store's time well.
	freshFor = time.Hour
)

// Catalog is where it is remembered. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
	Head() catalog.Witness
}

// Guard asks the witnesses. Its methods may be called concurrently.
type Guard struct {
	catalog Catalog
	store   blob.Store
	agents  func() []time.Time
	log     *zap.Logger
	// began is the record of the log before those of this process: only of later ones
	// is known, by the monotonic clock, how long ago they were written.
	began uint64

	checking sync.Mutex // one check at a time
	// expected is what the clock said, or should have said, at the monotonic time of since.
	expected, since time.Time
	noted, shipped  time.Time

	mu    sync.Mutex
	doubt string
}

// New makes a Guard. agents gives what the clocks of the connected agents say now.
func New(c Catalog, store blob.Store, agents func() []time.Time, log *zap.Logger) *Guard {
	return &Guard{catalog: c, store: store, agents: agents, log: log.Named("clock"), began: c.Head().Number}
}

// Doubt says why the clock was not believed when it was looked at last; empty
// when it was, or was never looked at.
func (g *Guard) Doubt() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.doubt
}

// Check looks at the clock: errs.Conflict with the reason when it is in doubt.
// Before something is deleted it must be asked closely: then a store with a clock
// of its own is asked for a fresh time, which costs a record of the log an hour.
// After a leap that only a person can judge deletion is paused in the catalog.
func (g *Guard) Check(ctx context.Context, closely bool) error {
	g.checking.Lock()
	defer g.checking.Unlock()
	if err := g.begin(ctx); err != nil {
		return fmt.Errorf("look at the clock: %w", err)
	}
	told, err := g.storeTime(ctx, closely)
	if err != nil {
		return fmt.Errorf("look at the clock: ask the store for its time: %w", err)
	}
	now := time.Now()
	expected := g.expected
	if !expected.IsZero() {
		expected = expected.Add(now.Sub(g.since))
	}
	v := Judge(Evidence{Now: now.Round(0), Expected: expected, Store: told, Agents: g.agents()})
	if v.Leapt {
		settled, err := g.leapt(ctx, now, v.Doubt)
		if err != nil {
			return fmt.Errorf("look at the clock: %w", err)
		}
		if settled {
			v = Verdict{}
		}
	}
	g.tell(v.Doubt)
	if v.Doubt != "" {
		return fmt.Errorf("the clock is in doubt: %s: %w", v.Doubt, errs.Conflict)
	}
	g.expected, g.since = now.Round(0), now
	return g.note(ctx, now)
}

func (g *Guard) tell(doubt string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case doubt != "" && g.doubt == "":
		g.log.Warn("the clock is in doubt, nothing is deleted", zap.String("reason", doubt))
	case doubt == "" && g.doubt != "":
		g.log.Info("the clock is believed again")
	}
	g.doubt = doubt
}

// begin reads once what an earlier process believed. A catalog that has believed
// nothing yet expects the time of its newest log record.
func (g *Guard) begin(ctx context.Context) error {
	if !g.since.IsZero() {
		return nil
	}
	var known catalog.Clock
	err := g.catalog.View(ctx, func(tx *catalog.Tx) (err error) { known, err = tx.Clock(); return err })
	if err != nil {
		return err
	}
	g.expected = known.Believed
	if g.expected.IsZero() {
		g.expected = g.catalog.Head().Seen.Round(0)
	}
	g.since = time.Now()
	return nil
}

// storeTime gives the store's time by the newest record of the log, zero when the
// store has no clock of its own or no record is fresh.
func (g *Guard) storeTime(ctx context.Context, closely bool) (time.Time, error) {
	if !g.store.Features().OwnClock {
		return time.Time{}, nil
	}
	head := g.catalog.Head()
	if closely && (head.Number <= g.began || time.Since(head.Seen) > freshFor) {
		err := g.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
			c, err := tx.Clock()
			if err != nil {
				return err
			}
			c.Looked = time.Now()
			return tx.PutClock(c)
		})
		if err != nil {
			return time.Time{}, err
		}
		head = g.catalog.Head()
	}
	if head.Number <= g.began {
		return time.Time{}, nil
	}
	info, err := g.store.Stat(ctx, repo.LogObject(head.Number))
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && info.Modified.IsZero():
		return time.Time{}, nil // dropped since, or the store does not say
	case err != nil:
		return time.Time{}, err
	}
	return info.Modified.Add(time.Since(head.Seen)), nil
}

// leapt records a leap as a reason for which nothing may be deleted, and tells
// whether a person has decided about it: then the clock is what they saw.
func (g *Guard) leapt(ctx context.Context, now time.Time, doubt string) (settled bool, err error) {
	err = g.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		pauses, err := tx.Pauses()
		if err != nil {
			return err
		}
		for _, p := range pauses {
			if p.Kind != catalog.PauseClock {
				continue
			}
			if p.Resumed.IsZero() {
				return nil
			}
			settled = now.Sub(p.Resumed).Abs() <= Leap
		}
		if settled {
			return nil
		}
		_, err = tx.Pause(catalog.Pause{Kind: catalog.PauseClock, Reason: "the clock is in doubt: " + doubt, Since: now})
		return err
	})
	return settled, err
}

// note remembers that the clock was believed.
func (g *Guard) note(ctx context.Context, now time.Time) error {
	if !g.noted.IsZero() && now.Sub(g.noted) < noteEvery {
		return nil
	}
	class := catalog.Local
	if g.shipped.IsZero() || now.Sub(g.shipped) >= shipEvery {
		class = catalog.Async
	}
	err := g.catalog.Update(ctx, class, func(tx *catalog.Tx) error {
		c, err := tx.Clock()
		if err != nil {
			return err
		}
		c.Believed = now
		return tx.PutClock(c)
	})
	if err != nil {
		return fmt.Errorf("note that the clock is believed: %w", err)
	}
	g.noted = now
	if class == catalog.Async {
		g.shipped = now
	}
	return nil
}
