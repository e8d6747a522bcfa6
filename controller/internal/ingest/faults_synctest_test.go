package ingest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest/ingesttest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestAFullStoreFailsTheAttemptInItsOwnWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := a.rows(1, 10, 1000)
		job := repo.NewID()
		w.store.FailCreates("packs/", 1, ingesttest.Refused, fmt.Errorf("quota of bucket tusk is used up: %w", errs.Exhausted))
		_, durable, err := a.backup(job, 1, chunks)
		if !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "quota of bucket tusk") || durable != 0 {
			t.Fatalf("got %v with %d durable", err, durable)
		}
		if left, _ := w.catalog.Intents(t.Context()); len(left) != 0 {
			t.Fatalf("the intent of a pack that was refused is left")
		}
		_, _, err = a.backup(job, 2, chunks)
		must(t, err)
		assertRestored(t, a, job, chunks)
		w.stop()
	})
}

func TestAPutWithoutAnAnswerIsFoundOutByReadingBack(t *testing.T) {
	for name, fault := range map[string]ingesttest.Fault{"stored": ingesttest.Answerless, "lost": ingesttest.Lost} {
		for _, prefix := range []string{"packs/", "index/", "snapshots/"} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.start()
					a := w.agent()
					chunks := a.rows(1, 10, 1000)
					w.store.FailCreates(prefix, 2, fault, nil)
					job := repo.NewID()
					_, _, err := a.backup(job, 1, chunks)
					must(t, err)
					assertRestored(t, a, job, chunks)
					w.stop()
				})
			})
		}
	}
}

func TestAPutThatLandsAfterItsTimeOutHarmsNothing(t *testing.T) {
	for _, prefix := range []string{"packs/", "index/", "snapshots/"} {
		for _, times := range []int{1, 6} { // put again at once, or given up and done again by another attempt
			t.Run(fmt.Sprintf("%s %d times", prefix, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.start()
					a := w.agent()
					chunks := a.rows(1, 10, 1000)
					job := repo.NewID()
					w.store.FailCreates(prefix, times, ingesttest.Late, nil)
					_, _, err := a.backup(job, 1, chunks)
					for counter := uint64(2); errors.Is(err, errs.Unavailable) && counter < 9; counter++ {
						_, _, err = a.backup(job, counter, chunks)
					}
					must(t, err)
					assertRestored(t, a, job, chunks)
					time.Sleep(10 * time.Minute) // everything has landed
					if times > 1 && prefix == "packs/" && w.store.Landed() == 0 {
						t.Error("nothing landed late")
					}
					a.client = nil
					assertRestored(t, a, job, chunks)
					next := repo.NewID()
					_, _, err = a.backup(next, 20, chunks)
					must(t, err)
					assertRestored(t, a, next, chunks)
					if left, _ := w.catalog.Intents(t.Context()); len(left) != 0 {
						t.Errorf("%d intents are left", len(left))
					}
					w.stop()
				})
			})
		}
	}
}

func TestAPackThatTheStoreLostIsFoundOutBeforeTheSnapshotExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := a.rows(1, 10, 1000)
		job := repo.NewID()
		w.store.FailCreates("packs/", 1, ingesttest.Vanishing, nil)
		_, _, err := a.backup(job, 1, chunks)
		if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "does not have it") && !strings.Contains(err.Error(), "not found") {
			t.Fatalf("got %v", err)
		}
		if _, ok := w.catalog.Snapshot(job); ok {
			t.Fatal("a snapshot was recorded whose pack is not there")
		}
		_, _, err = a.backup(job, 2, chunks)
		must(t, err)
		assertRestored(t, a, job, chunks)
		w.stop()
	})
}

func TestASnapshotThatTheStoreLostIsNeverReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := a.rows(1, 10, 1000)
		job := repo.NewID()
		w.store.FailCreates("snapshots/", 100, ingesttest.Vanishing, nil)
		_, _, err := a.backup(job, 1, chunks)
		if !errors.Is(err, errs.Unavailable) {
			t.Fatalf("got %v", err)
		}
		if _, ok := w.catalog.Snapshot(job); ok {
			t.Fatal("recorded")
		}
		// The agent repeats an unavailable commit, and the attempt is still current.
		w.store.FailCreates("snapshots/", 1, ingesttest.Vanishing, nil)
		m := a.manifest(job, chunks)
		for range 2 {
			if err = a.commit(a.lease(job, 1), m); err == nil {
				break
			}
		}
		must(t, err)
		assertRestored(t, a, job, chunks)
		w.stop()
	})
}

func TestAPutWhoseOutcomeStayedUnknownIsSettledLater(t *testing.T) {
	for name, fault := range map[string]ingesttest.Fault{"stored": ingesttest.Answerless, "lost": ingesttest.Lost} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				a := w.agent()
				chunks := a.rows(1, 10, 1000)
				w.store.FailCreates("packs/", 4, fault, nil)
				w.store.FailReads(true)
				_, _, err := a.store(a.lease(repo.NewID(), 1), chunks...)
				if !errors.Is(err, errs.Unavailable) {
					t.Fatalf("got %v", err)
				}
				if left, _ := w.catalog.Intents(t.Context()); len(left) != 1 {
					t.Fatalf("%d intents are left of a pack that may be there", len(left))
				}
				w.store.FailReads(false)
				time.Sleep(5 * time.Minute)
				if left, _ := w.catalog.Intents(t.Context()); len(left) != 0 {
					t.Fatalf("%d intents are left", len(left))
				}
				sent, _, err := a.store(a.lease(repo.NewID(), 2), chunks...)
				must(t, err)
				if stored := fault == ingesttest.Answerless; stored != (sent == 0) {
					t.Fatalf("%d chunks were sent again", sent)
				}
				w.stop()
			})
		})
	}
}

func TestAJobCannotOpenStreamsWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		ref := a.lease(repo.NewID(), 1)
		for n := 0; ; n++ {
			u, err := a.begin(ref)
			if errors.Is(err, errs.Exhausted) && n >= 24 {
				break
			}
			must(t, err)
			defer u.cancel()
			if n > 100 {
				t.Fatal("no end")
			}
		}
		// Others are not affected.
		b := w.agent()
		_, _, err := b.backup(repo.NewID(), 2, b.rows(1, 3, 1000))
		must(t, err)
		w.stop()
	})
}
