package scrub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func (f *fakeIngest) ids() (ids []pack.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.bad {
		ids = append(ids, id)
	}
	return ids
}

func whole() scrub.Spec {
	return scrub.Spec{ID: repo.NewID(), By: "operator/ann", ReadData: true, Sample: check.Whole}
}

// ended starts a check and waits for its end.
func ended(t *testing.T, c *scrub.Checker, spec scrub.Spec) scrub.State {
	t.Helper()
	_, err := c.Start(t.Context(), spec)
	must(t, err)
	return awaited(t, c)
}

func awaited(t *testing.T, c *scrub.Checker) (last scrub.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, c.Watch(ctx, func(s scrub.State) error { last = s; return nil }))
	return last
}

func TestACheckIsRecordedAndWhatItFoundIsMarked(t *testing.T) {
	w := newWorld(t)
	c := w.checker()
	if _, err := c.Last(t.Context()); !errors.Is(err, errs.NotFound) {
		t.Errorf("before any: %v", err)
	}
	stop := running(t, c.Run)
	defer stop()
	if s := ended(t, c, whole()); s.State != catalog.CheckClean || s.PacksRead != int64(len(w.packs)) || s.Snapshots != 2 || s.Ended.IsZero() {
		t.Fatalf("%+v", s)
	}
	if got := w.told(); !slices.Equal(got, []string{fmt.Sprint(event.CheckStarted, " check"), fmt.Sprint(event.CheckEnded, " clean:")}) {
		t.Errorf("events of a clean check: %q", got)
	}
	w.damage(w.packs[1])
	s := ended(t, c, whole())
	if got := w.told(); !slices.Equal(got, []string{fmt.Sprint(event.CheckStarted, " check"), fmt.Sprint(event.DamageFound, " ", w.packs[1]), fmt.Sprint(event.CheckEnded, " damaged:")}) {
		t.Errorf("events of a check that found damage: %q", got)
	}
	if s.State != catalog.CheckDamaged || s.Harm != 1 || s.Findings[0].Object != w.packs[1] || len(s.Findings[0].Effects) == 0 || s.HurtTotal != 1 {
		t.Fatalf("%+v", s)
	}
	if got := w.marked(); !slices.Equal(got, []string{w.packs[1]}) {
		t.Errorf("marked: %q", got)
	}
	// A check of a part that does not have it leaves the mark; a whole one that finds
	// it mended takes it away.
	w.damage(w.packs[1])
	if s := ended(t, c, scrub.Spec{ID: repo.NewID(), By: "operator/ann"}); s.State != catalog.CheckClean || len(w.marked()) != 1 {
		t.Errorf("%+v", s)
	}
	if s := ended(t, c, whole()); s.State != catalog.CheckClean || len(w.marked()) != 0 {
		t.Errorf("%+v", s)
	}
	if got := w.told(); !slices.Contains(got, fmt.Sprint(event.DamageHealed, " 1")) || slices.Contains(got, fmt.Sprint(event.DamageFound, " ", w.packs[1])) {
		t.Errorf("events of healing: %q", got)
	}
	if n := len(w.trail.records); n != 4 || w.trail.records[1].Outcome != "damaged" {
		t.Errorf("audit: %+v", w.trail.records)
	}
}

func TestOneCheckAtATimeAndTheSameOneTwiceIsOne(t *testing.T) {
	w := newWorld(t)
	c := w.checker()
	stop := running(t, c.Run)
	defer stop()
	w.store.block = make(chan struct{})
	spec := whole()
	_, err := c.Start(t.Context(), spec)
	must(t, err)
	if s, err := c.Start(t.Context(), spec); err != nil || s.ID != spec.ID {
		t.Errorf("the same again: %+v, %v", s, err)
	}
	if _, err := c.Start(t.Context(), whole()); !errors.Is(err, errs.Busy) {
		t.Errorf("another: %v", err)
	}
	// Many that do not read hold up nobody.
	var slow sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 20 {
		slow.Go(func() {
			_ = c.Watch(ctx, func(scrub.State) error { <-ctx.Done(); return nil }) // ends with ctx
		})
	}
	close(w.store.block)
	if s := awaited(t, c); s.State != catalog.CheckClean || s.ID != spec.ID {
		t.Errorf("%+v", s)
	}
	cancel()
	slow.Wait()
}

func TestACanceledCheckSaysSoAndAnotherCanBegin(t *testing.T) {
	w := newWorld(t)
	c := w.checker()
	if _, err := c.Cancel(); !errors.Is(err, errs.Conflict) {
		t.Errorf("none runs: %v", err)
	}
	// Before Run has taken it, and while it reads.
	_, err := c.Start(t.Context(), whole())
	must(t, err)
	_, err = c.Cancel()
	must(t, err)
	stop := running(t, c.Run)
	defer stop()
	if s := awaited(t, c); s.State != catalog.CheckCanceled {
		t.Errorf("%+v", s)
	}
	w.store.block = make(chan struct{})
	_, err = c.Start(t.Context(), whole())
	must(t, err)
	_, err = c.Cancel()
	must(t, err)
	if s := awaited(t, c); s.State != catalog.CheckCanceled || s.Message == "" {
		t.Errorf("%+v", s)
	}
	w.store.mu.Lock()
	w.store.block = nil
	w.store.mu.Unlock()
	if s := ended(t, c, whole()); s.State != catalog.CheckClean {
		t.Errorf("%+v", s)
	}
}

func TestACheckThatARestartCutOffGoesOn(t *testing.T) {
	w := newWorld(t)
	w.damage(w.packs[0])
	c := w.checker()
	stop := running(t, c.Run)
	w.store.block = make(chan struct{})
	spec := whole()
	_, err := c.Start(t.Context(), spec)
	must(t, err)
	stop() // while it waits for frames
	w.store.mu.Lock()
	w.store.block = nil
	w.store.mu.Unlock()
	again := w.checker()
	if s, err := again.Last(t.Context()); err != nil || s.State != catalog.CheckRunning || s.ID != spec.ID {
		t.Fatalf("%+v, %v", s, err)
	}
	stop = running(t, again.Run)
	defer stop()
	if s := awaited(t, again); s.State != catalog.CheckDamaged || s.ID != spec.ID || s.By != spec.By || s.Harm != 1 {
		t.Errorf("%+v", s)
	}
	// And what it found is known to a third process without any check.
	third := w.checker()
	if s, err := third.Last(t.Context()); err != nil || s.State != catalog.CheckDamaged || len(s.Findings) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTheCatalogAndTheStoreAreCompared(t *testing.T) {
	w := newWorld(t)
	c := w.checker()
	stop := running(t, c.Run)
	defer stop()
	gone := catalog.Snapshot{ID: repo.NewID(), Instance: repo.NewID(), Committed: time.Now(), ObjectHash: [32]byte{1}}
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { return tx.PutSnapshot(gone) }))
	s := ended(t, c, scrub.Spec{ID: repo.NewID(), By: "operator/ann"})
	if s.State != catalog.CheckDamaged || len(s.Findings) != 1 || s.Findings[0].Object != repo.SnapshotObject(gone.Instance, gone.ID) || s.Findings[0].Problem != "missing" {
		t.Errorf("%+v", s)
	}
	if len(s.Hurt) != 1 || !s.Hurt[0].Whole || s.Hurt[0].Snapshot != gone.ID {
		t.Errorf("%+v", s.Hurt)
	}
	gone.Purged = time.Now()
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { return tx.PutSnapshot(gone) }))
	if s := ended(t, c, scrub.Spec{ID: repo.NewID(), By: "operator/ann"}); s.State != catalog.CheckClean {
		t.Errorf("being purged: %+v", s)
	}
}
