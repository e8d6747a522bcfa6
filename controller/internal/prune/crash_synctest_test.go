package prune_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// ride prunes while backups commit and a restore reads, and stops everything
// after n durable steps of store and catalog (-1: never). Then another process
// goes on. It gives the steps that were done before anything else happened.
func ride(t *testing.T, n int) (steps int) {
	w := newWorld(t)
	w.start()
	defer func() { w.stop() }()
	h, other := w.host(), w.host()
	h.backup(table("a", "1", 40), table("b", "1", 24))
	h.backup(table("a", "1", 40), table("b", "2", 24))
	h.backup(table("a", "3", 24))
	w.forget(0)
	w.forget(1) // what was the third
	w.power.cutAfter(n)

	// One backup is told that a condemned table is stored, and commits in between;
	// another goes on all the time.
	var jobs []*job
	var riding sync.WaitGroup
	goOn := make(chan struct{})
	if held, err := h.begin(table("b", "1", 24)); err == nil {
		reached := make(chan struct{})
		var once sync.Once
		held.hold = func() { once.Do(func() { close(reached) }); <-goOn }
		jobs = append(jobs, held)
		riding.Go(func() { _ = held.run(); once.Do(func() { close(reached) }) })
		<-reached
	}
	if beside, err := other.begin(table("a", "3", 24), table("c", "1", 16)); err == nil {
		jobs = append(jobs, beside)
		riding.Go(func() { _ = beside.run() })
	}
	_, _ = w.tryPrune(prune.Spec{})
	close(goOn)
	riding.Go(func() {
		if err := w.restored(w.kept[0]); err != nil && w.power.on() == nil {
			t.Errorf("restore beside a prune: %v", err)
		}
	})
	riding.Wait()
	time.Sleep(day)
	if reader, err := other.begin(table("a", "1", 40)); err == nil {
		jobs = append(jobs, reader)
		riding.Go(func() { _ = reader.run() })
	}
	_, _ = w.tryPrune(prune.Spec{})
	riding.Wait()
	steps = w.power.count()

	w.stop()
	w.power.cutAfter(-1)
	w.start()
	for _, j := range jobs {
		j.lose()
		must(t, w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			_, err := tx.Snapshot(j.id)
			if err == nil {
				j.h.keep(j)
			}
			if errors.Is(err, errs.NotFound) {
				return nil
			}
			return err
		}))
	}
	w.sound("after the crash")
	h.backup(table("b", "1", 24)) // the retry
	// Two rounds: what a crash left unknown is old enough after the first.
	for range 3 {
		time.Sleep(8 * day)
		w.outcome(w.prune(prune.Spec{Domains: domains(w)}))
		time.Sleep(day)
		synctest.Wait()
	}
	w.sound("in the end")
	w.onlyLive()
	return steps
}

// domains names the only one.
func domains(w *world) []seal.DomainID { return []seal.DomainID{w.domain.ID()} }

// onlyLive fails the test when there are packs that should be gone.
func (w *world) onlyLive() {
	w.t.Helper()
	o := w.outcome(w.prune(prune.Spec{Domains: domains(w), DryRun: true}))
	if o.DeadPacks > 0 || o.RepackPacks > 0 || o.WaitingPacks > 0 || int(o.Packs) != len(w.packs()) {
		w.t.Errorf("there is something left to prune: %+v, %d packs are there", o, len(w.packs()))
	}
}

// TestNothingIsLostWhereverTheProcessStops is a loop over every durable step; in
// the short run over a part that a seed chooses.
func TestNothingIsLostWhereverTheProcessStops(t *testing.T) {
	var all int
	synctest.Test(t, func(t *testing.T) { all = ride(t, -1) })
	steps := make([]int, all+10) // beside each other things take a few more or less
	for i := range steps {
		steps[i] = i
	}
	if os.Getenv("TUSKVAULT_LONG") == "" {
		seed := rand.Uint64()
		t.Logf("seed %d, %d steps", seed, all)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		steps = steps[:3]
		slices.Sort(steps)
	}
	for _, n := range steps {
		synctest.Test(t, func(t *testing.T) { ride(t, n) })
		if t.Failed() {
			t.Fatalf("after %d steps", n)
		}
	}
}
