package ingest_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest/ingesttest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// plug is a store whose machine can lose its power.
type plug interface {
	// begin gives the store, which loses its power after n steps.
	begin(t *testing.T, n int) blob.Store
	// again gives what is left of it.
	again(t *testing.T) blob.Store
}

// objectsPlug loses what was under way at the seam of the store.
type objectsPlug struct {
	below *mem.Store
	power *blobtest.PowerLoss
	rng   *rand.Rand
}

func (p *objectsPlug) begin(_ *testing.T, n int) blob.Store {
	p.power = blobtest.NewPowerLoss(p.below, p.rng)
	p.power.LoseAfter(n)
	return p.power
}

func (p *objectsPlug) again(t *testing.T) blob.Store {
	must(t, p.power.Lose()) // no more than it has, if it has already
	return p.below
}

// diskPlug loses blocks and names of the folder driver's file system.
type diskPlug struct {
	disk *blobtest.Disk
}

func (p *diskPlug) open(t *testing.T) blob.Store {
	s, err := dir.OpenOn(p.disk.Start(), p.disk.Root())
	must(t, err)
	return p.disk.Guard(s)
}

func (p *diskPlug) begin(t *testing.T, n int) blob.Store {
	s := p.open(t)
	p.disk.LoseAfter(4 * n) // an object takes a folder, writes, fsyncs and names
	return s
}

func (p *diskPlug) again(t *testing.T) blob.Store {
	p.disk.Lose()
	p.disk.Restart()
	return p.open(t)
}

// TestWhatWasAcknowledgedOutlivesAPowerLossOfTheStore backs up, loses the power of
// the store's machine at a random moment, stops the controller, and goes on with
// what was left: no acknowledged chunk and no committed snapshot is missing,
// the next attempt succeeds, and a check finds nothing.
func TestWhatWasAcknowledgedOutlivesAPowerLossOfTheStore(t *testing.T) {
	rounds := 12
	if os.Getenv("TUSKVAULT_LONG") != "" {
		rounds = 1000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cut, committed := 0, 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		synctest.Test(t, func(t *testing.T) {
			var p plug = &objectsPlug{below: mem.New(), rng: rng}
			if round%2 == 1 {
				p = &diskPlug{disk: blobtest.NewDisk(t, t.TempDir(), rng)}
			}
			w := newWorldOn(t, p.begin(t, 1<<20))
			c := crashed{acknowledged: map[seal.Name]bool{}}
			w.reopen(p.begin(t, 1+rng.IntN(14)))
			w.start()
			a := w.agent()
			chunks := a.rows(round, 30, 3000)
			job := repo.NewID()
			if _, err := a.backupInSteps(job, 1, chunks, &c); err != nil {
				cut++
			} else {
				committed++
			}
			w.stop()
			w.reopen(p.again(t))
			w.start()
			a.client = nil
			if _, ok := w.catalog.Snapshot(job); ok {
				assertRestored(t, a, job, chunks)
				job = repo.NewID()
			} else if c.committed {
				t.Fatalf("round %d: a snapshot that was reported is gone", round)
			}
			resent, err := a.backupInSteps(job, 2, chunks, &c)
			must(t, err)
			if resent != 0 {
				t.Fatalf("round %d: %d acknowledged chunks were missing afterwards", round, resent)
			}
			assertRestored(t, a, job, chunks)
			w.stop()
			r, err := check.Run(t.Context(), w.store, check.Options{Repository: w.repo, Dir: filepath.Join(w.dir, "check"), ReadData: true, Sample: check.Whole})
			must(t, err)
			for _, f := range r.Findings { // this world has no catalog log and no epochs
				if !f.Harmless && f.Kind != "catalog" && f.Kind != "epochs" {
					t.Fatalf("round %d: %+v", round, f)
				}
			}
			time.Sleep(time.Minute) // connections in the bubble end
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rounds: %d cut off, %d committed before", rounds, cut, committed)
	if cut == 0 {
		t.Error("the power never went while a backup ran")
	}
}

// reopen puts the world on another view of its store.
func (w *world) reopen(s blob.Store) {
	w.t.Helper()
	w.store = ingesttest.NewStore(s, w.power)
	var err error
	w.repo, err = repo.Open(w.t.Context(), w.store, w.key)
	must(w.t, err)
}
