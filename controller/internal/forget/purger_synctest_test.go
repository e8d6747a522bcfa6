package forget_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func (w *world) round(p *forget.Purger) {
	w.t.Helper()
	must(w.t, p.Round(w.t.Context()))
}

func (w *world) want(s catalog.Snapshot, want stands, when string) {
	w.t.Helper()
	if got := w.stands(s); got != want {
		w.t.Errorf("%s: %+v, want %+v", when, got, want)
	}
}

var (
	whole  = stands{object: true, record: true}
	going  = stands{object: true, record: true, purged: true}
	gone   = stands{}
	theEnd = delay + time.Minute
)

func TestAForgottenSnapshotIsPurgedAfterTheDelayAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, kept := w.snapshot("app"), w.snapshot("app")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.purger().Run(ctx) }() // awaited below
		w.forget(s)
		time.Sleep(delay - time.Minute)
		synctest.Wait()
		w.want(s, whole, "a minute before its time")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.want(s, gone, "after its time")
		w.want(kept, whole, "the other one")
		if n := w.needs(); len(n) != 1 || n[0].Domain != w.domain || n[0].Snapshots != 1 || n[0].Bytes != 100 {
			t.Errorf("prune has %+v", n)
		}
		stop()
		must(t, <-done)
	})
}

func TestWhatKeepsAForgottenSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.snapshot("app")
		job := func(state catalog.JobState, s catalog.Snapshot) catalog.Job {
			return catalog.Job{ID: repo.JobID(s.ID), Kind: catalog.JobRestore, State: state, Instance: w.instance, Created: time.Now(), SnapshotID: s.ID, Restore: &catalog.RestoreSpec{Snapshot: s.ID}}
		}
		var release func()
		for name, c := range map[string]struct{ keep, let func(s catalog.Snapshot) }{
			"a hold": {
				func(s catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error {
						_, _, err := forget.Hold(tx, s.ID, time.Now().Add(100*time.Hour), w.wish())
						return err
					})
				}, func(catalog.Snapshot) { time.Sleep(100 * time.Hour) }},
			"unforgetting": {
				func(s catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error { _, _, err := forget.Unforget(tx, s.ID); return err })
				}, func(s catalog.Snapshot) { w.forget(s); time.Sleep(theEnd) }},
			"a restore that waits": {
				func(s catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error { return tx.PutJob(job(catalog.JobQueued, s)) })
				},
				func(s catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error { return tx.PutJob(job(catalog.JobSucceeded, s)) })
				}},
			"an export": {
				func(s catalog.Snapshot) { release = w.users.Use(s.ID) }, func(catalog.Snapshot) { release() }},
			"a pause": {
				func(catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error {
						_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
						return err
					})
				}, func(catalog.Snapshot) {
					w.change(func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("operator/a"); return err })
				}},
			"a clock in doubt": {
				func(catalog.Snapshot) { w.doubt = fmt.Errorf("the clock is in doubt: %w", errs.Conflict) }, func(catalog.Snapshot) { w.doubt = nil }},
		} {
			s := w.snapshot("app")
			w.forget(s)
			time.Sleep(theEnd)
			p := w.purger()
			c.keep(s)
			w.round(p)
			w.want(s, whole, name)
			c.let(s)
			w.round(p)
			w.want(s, gone, name+" no more")
		}
	})
}

func TestADelayThatBeganInDoubtBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.snapshot("app")
		s, p := w.snapshot("app"), w.purger()
		w.change(func(tx *catalog.Tx) error {
			wish := w.wish()
			wish.Now, wish.Doubtful = time.Now().Add(-400*24*time.Hour), true // the clock was that far behind
			_, _, err := forget.Forget(tx, s.ID, wish)
			return err
		})
		for range 71 {
			w.round(p)
			time.Sleep(time.Hour)
			w.want(s, whole, "within the delay")
		}
		time.Sleep(time.Hour)
		w.round(p)
		w.want(s, gone, "after the delay")
	})
}

func TestALongerDelayOfTodayCountsForWhatWasForgottenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.snapshot("app")
		s, p := w.snapshot("app"), w.purger()
		w.change(func(tx *catalog.Tx) error {
			wish := w.wish()
			wish.Delay = time.Hour
			_, _, err := forget.Forget(tx, s.ID, wish)
			return err
		})
		time.Sleep(2 * time.Hour)
		w.round(p)
		w.want(s, whole, "after the delay of then")
		time.Sleep(delay)
		w.round(p)
		w.want(s, gone, "after the delay of now")
	})
}

func TestWhatTheStoreDoesNotLetGoIsTriedAgainAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.snapshot("app")
		s, p := w.snapshot("app"), w.purger()
		w.forget(s)
		time.Sleep(theEnd)
		w.denied = fmt.Errorf("locked until tomorrow: %w", errs.Denied)
		for range 3 {
			w.round(p)
			w.want(s, going, "locked")
			if n, why := p.Deferred(); n != 1 || why != "locked until tomorrow: denied" {
				t.Errorf("deferred %d, %q", n, why)
			}
		}
		if len(w.needs()) != 0 {
			t.Error("prune was told of what is still there")
		}
		w.denied = nil
		w.round(p)
		w.want(s, gone, "the lock has ended")
		if n, _ := p.Deferred(); n != 0 {
			t.Errorf("deferred %d", n)
		}
	})
}

func TestAPauseBetweenDecidingAndDeletingIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.snapshot("app")
		s := w.snapshot("app")
		w.forget(s)
		time.Sleep(theEnd)
		w.limit, w.silent = 0, true // recorded, and the answer lost
		if err := w.purger().Round(t.Context()); errs.KindOf(err) != errs.Unavailable {
			t.Fatal(err)
		}
		w.want(s, going, "decided")
		w.limit = -1
		w.change(func(tx *catalog.Tx) error {
			_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRolledBack, Reason: "rolled back", Since: time.Now()})
			return err
		})
		w.round(w.purger())
		w.want(s, going, "paused")
		for what, act := range map[string]func(tx *catalog.Tx) error{
			"unforget": func(tx *catalog.Tx) error { _, _, err := forget.Unforget(tx, s.ID); return err },
			"hold": func(tx *catalog.Tx) error {
				_, _, err := forget.Hold(tx, s.ID, time.Now().Add(time.Hour), w.wish())
				return err
			},
			"forget": func(tx *catalog.Tx) error { _, _, err := forget.Forget(tx, s.ID, w.wish()); return err },
		} {
			if err := w.catalog.Update(t.Context(), catalog.Sync, act); errs.KindOf(err) != errs.Conflict {
				t.Errorf("%s while it is purged: %v", what, err)
			}
		}
		w.change(func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("operator/a"); return err })
		w.round(w.purger())
		w.want(s, gone, "resumed")
	})
}

func TestAPurgeThatDiesBetweenAnyTwoStepsIsFinishedByTheNext(t *testing.T) {
	for _, silent := range []bool{false, true} {
		for n := 0; ; n++ {
			if !t.Run(fmt.Sprintf("%d steps, answer lost %t", n, silent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { dieAfter(t, n, silent) })
			}) || n == lastStep+1 {
				break
			}
		}
	}
}

// lastStep is the last of two snapshots' purge: one decision, two objects, two records.
const lastStep = 4

func dieAfter(t *testing.T, n int, silent bool) {
	w := newWorld(t)
	kept := w.snapshot("app")
	all := []catalog.Snapshot{w.snapshot("app"), w.snapshot("app")}
	for _, s := range all {
		w.forget(s)
	}
	time.Sleep(theEnd)
	w.limit, w.silent = n, silent
	if err := w.purger().Round(t.Context()); (err == nil) != (n > lastStep) {
		t.Fatalf("stopped after step %d of %d: %v", n, lastStep, err)
	}
	ended := 0
	for _, s := range all {
		switch got := w.stands(s); {
		case !got.object && got.record && !got.purged:
			t.Error("an object is gone that no record let go")
		case got.object && !got.record:
			t.Error("an object is there that the next start would take for news")
		case !got.record:
			ended++
		}
	}
	told := int64(0)
	for _, need := range w.needs() {
		told += need.Snapshots
	}
	if told != int64(ended) {
		t.Errorf("%d records are gone, prune was told of %d", ended, told)
	}
	w.limit = -1
	p := w.purger()
	w.round(p)
	w.round(p)
	for _, s := range all {
		w.want(s, gone, "after the next start")
	}
	w.want(kept, whole, "the other one")
	if need := w.needs(); len(need) != 1 || need[0].Snapshots != 2 || need[0].Bytes != 200 {
		t.Errorf("prune has %+v", need)
	}
}
