package blobtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestAStoreWithoutPowerKeepsTheContractWhileItHasIt(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		return blobtest.NewPowerLoss(mem.New(), rand.New(rand.NewPCG(1, 1)))
	})
}

func TestAtAPowerLossOnlyWhatWasAnsweredIsCertain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	kept, undone := 0, 0
	for round := range 200 {
		below := mem.New()
		power := blobtest.NewPowerLoss(below, rand.New(rand.NewPCG(seed, uint64(round))))
		rng := rand.New(rand.NewPCG(seed, uint64(round)+1<<32))
		limit := rng.IntN(20)
		power.LoseAfter(limit)
		there := map[string]bool{} // as answered; a key that was not is not in it
		for i := 0; !power.Lost(); i++ {
			key := fmt.Sprintf("a/%d", i)
			remove := len(there) > 0 && rng.IntN(3) == 0
			var err error
			if remove {
				key = fmt.Sprintf("a/%d", rng.IntN(i))
				err = power.Delete(t.Context(), key)
			} else {
				err = power.Create(t.Context(), key, blob.Bytes(key))
			}
			if err == nil {
				there[key] = !remove
				continue
			}
			if !errors.Is(err, errs.Unavailable) || power.Steps() != limit {
				t.Fatalf("%v after %d steps of %d", err, power.Steps(), limit)
			}
			delete(there, key)
			if _, err := below.Stat(t.Context(), key); (err == nil) == remove {
				undone++
			} else {
				kept++
			}
		}
		for key, want := range there {
			if _, err := below.Stat(t.Context(), key); (err == nil) != want {
				t.Errorf("round %d: %s there: %v, want it there: %t", round, key, err, want)
			}
		}
		if err := power.Create(t.Context(), "b/1", blob.Bytes("x")); !errors.Is(err, errs.Unavailable) {
			t.Errorf("after the loss: %v", err)
		}
	}
	if kept < 20 || undone < 20 {
		t.Errorf("of what was under way %d were kept and %d undone", kept, undone)
	}
}

func TestWhatOneIsToldExistsOutlivesThePowerLossOfTheOneWhoMadeIt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range 100 {
		below := mem.New()
		power := blobtest.NewPowerLoss(below, rand.New(rand.NewPCG(seed, uint64(round))))
		told := make(chan bool, 8)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if i == 7 {
					if err := power.Lose(); err != nil {
						t.Error(err)
					}
					return
				}
				err := power.Create(context.Background(), "a/one", blob.Bytes("x"))
				told <- err == nil || errors.Is(err, errs.Exists)
			})
		}
		wg.Wait()
		close(told)
		must := false
		for one := range told {
			must = must || one
		}
		if _, err := below.Stat(t.Context(), "a/one"); must && err != nil {
			t.Fatalf("round %d: somebody was told that it exists: %v", round, err)
		}
	}
}

func TestATornObjectIsLeftOnlyWhereAskedFor(t *testing.T) {
	torn := 0
	for round := range 100 {
		below := mem.New()
		power := blobtest.NewPowerLoss(below, rand.New(rand.NewPCG(1, uint64(round)))).Tear()
		power.LoseAfter(0)
		if err := power.Create(t.Context(), "a/one", blob.Bytes("0123456789")); !errors.Is(err, errs.Unavailable) {
			t.Fatal(err)
		}
		if info, err := below.Stat(t.Context(), "a/one"); err == nil && info.Size < 10 {
			torn++
		}
	}
	if torn == 0 {
		t.Error("none in 100 rounds")
	}
}
