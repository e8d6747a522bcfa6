package ingest_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// crashed is what a backup knew when the power went.
type crashed struct {
	acknowledged map[seal.Name]bool
	committed    bool
}

// backupInSteps stores chunks with a flush after each third, then commits. What
// was acknowledged is noted even when it fails.
func (a *agent) backupInSteps(job repo.JobID, counter uint64, chunks []chunkFrame, c *crashed) (resent int, err error) {
	ref := a.lease(job, counter)
	m := a.manifest(job, chunks)
	all := append(append([]chunkFrame{a.archive()}, chunks...), m.lists...)
	u, err := a.begin(ref)
	if err != nil {
		return 0, err
	}
	defer u.cancel()
	for len(all) > 0 {
		part := all[:min(len(all), len(chunks)/3)]
		all = all[len(part):]
		missing, err := u.missing(part...)
		if err != nil {
			return resent, err
		}
		for _, chunk := range missing {
			if c.acknowledged[chunk.name] {
				resent++
			}
		}
		if err := u.put(missing...); err != nil {
			return resent, err
		}
		if err := u.flush(); err != nil {
			return resent, err
		}
		for _, chunk := range part {
			c.acknowledged[chunk.name] = true
		}
	}
	if err := u.end(); err != nil {
		return resent, err
	}
	if err := a.commit(ref, m); err != nil {
		return resent, err
	}
	c.committed = true
	return resent, nil
}

func TestNoAcknowledgedChunkIsLostWhereverThePowerGoes(t *testing.T) {
	for n := 1; ; n++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			a := w.agent()
			chunks := a.rows(n, 30, 3000)
			job := repo.NewID()
			c := crashed{acknowledged: map[seal.Name]bool{}}
			w.power.CutAfter(n)
			if _, err := a.backupInSteps(job, 1, chunks, &c); err == nil {
				done = !w.power.Cut()
			} else if !w.power.Cut() {
				t.Fatalf("step %d: %v", n, err)
			}
			w.stop()
			w.power.CutAfter(0)
			w.start()
			a.client = nil
			if _, ok := w.catalog.Snapshot(job); ok {
				// The commit got far enough: the snapshot is there, and whole.
				assertRestored(t, a, job, chunks)
				job = repo.NewID()
			} else if c.committed {
				t.Fatalf("step %d: a snapshot that was reported is gone", n)
			}
			resent, err := a.backupInSteps(job, 2, chunks, &c)
			must(t, err)
			if resent != 0 {
				t.Fatalf("step %d: %d acknowledged chunks were missing afterwards", n, resent)
			}
			assertRestored(t, a, job, chunks)
			if left, _ := w.catalog.Intents(t.Context()); len(left) != 0 {
				t.Fatalf("step %d: %d intents are left", n, len(left))
			}
			w.stop()
			time.Sleep(time.Minute) // connections in the bubble end
		})
		if t.Failed() || done {
			if n < 15 {
				t.Fatalf("the backup took only %d durable steps", n)
			}
			return
		}
	}
}

func TestAPackIsClosedThirtySecondsAfterItsFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		u, err := a.begin(a.lease(repo.NewID(), 1))
		must(t, err)
		defer u.cancel()
		must(t, u.put(a.rows(1, 1, 1000)...))
		began := time.Now()
		m, err := u.next()
		must(t, err)
		if waited := time.Since(began); m.GetAck().GetDurableFrames() != 1 || waited < 29*time.Second || waited > 31*time.Second {
			t.Fatalf("after %s: %v", waited, m)
		}
		must(t, u.end())
		w.stop()
	})
}

func TestAStreamEndsWhenItsAttemptIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		job := repo.NewID()
		u, err := a.begin(a.lease(job, 1))
		must(t, err)
		defer u.cancel()
		a.lease(job, 2)
		began := time.Now()
		_, err = u.next()
		if !errors.Is(err, errs.Conflict) || time.Since(began) > time.Minute {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		w.stop()
	})
}

func TestQuietJobsAreIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := a.rows(1, 5, 1000)
		_, _, err := a.store(a.lease(repo.NewID(), 1), chunks...)
		must(t, err)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if left, _ := w.catalog.Unindexed(t.Context()); len(left) != 0 || w.store.Creates("index") != 1 {
			t.Fatalf("%d packs are not indexed, %d index files", len(left), w.store.Creates("index"))
		}
		// Another job of the instance finds them.
		sent, _, err := a.store(a.lease(repo.NewID(), 2), chunks...)
		must(t, err)
		if sent != 0 {
			t.Fatalf("%d chunks were sent again", sent)
		}
		w.stop()
	})
}

func TestACutStreamLosesNothingThatWasAcknowledged(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { cutStream(t, seed) })
		})
	}
}

// cutStream cuts a stream somewhere, and the next attempt must not send again
// what the first was told is durable.
func cutStream(t *testing.T, seed int) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(seed, 40, 2000)
	job := repo.NewID()
	u, err := a.begin(a.lease(job, 1))
	must(t, err)
	cut := (seed*7 + 3) % 40
	must(t, u.put(chunks[:cut/2]...))
	if cut > 0 {
		must(t, u.flush())
	}
	must(t, u.put(chunks[cut/2:cut]...))
	u.cancel()
	a.client = nil
	time.Sleep(time.Second)
	again, err := a.begin(a.lease(job, 2))
	must(t, err)
	defer again.cancel()
	missing, err := again.missing(chunks...)
	must(t, err)
	// The open pack died with its stream; everything flushed before is there.
	if want := 40 - int(u.durable); len(missing) > want {
		t.Fatalf("seed %d: %d of 40 missing, %d were acknowledged", seed, len(missing), u.durable)
	}
	must(t, again.put(missing...))
	must(t, again.flush())
	must(t, again.end())
	w.stop()
}
