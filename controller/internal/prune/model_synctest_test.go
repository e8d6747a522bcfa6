package prune_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// TestRandomHistoriesLoseNothingAndKeepNothing backs up, forgets, prunes, fails
// and restarts at random: every snapshot that was not forgotten is whole all the
// time, and in the end nothing is there that none of them needs.
func TestRandomHistoriesLoseNothingAndKeepNothing(t *testing.T) {
	rounds := 2
	if os.Getenv("TUSKVAULT_LONG") != "" {
		rounds = 100
	}
	for range rounds {
		seed := rand.Uint64()
		if s, err := strconv.ParseUint(os.Getenv("TUSKVAULT_SEED"), 10, 64); err == nil {
			seed = s
		}
		synctest.Test(t, func(t *testing.T) { history(t, seed) })
	}
}

func history(t *testing.T, seed uint64) {
	t.Logf("seed: TUSKVAULT_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	w.opts.Budget = []int64{0, 4 << 10, 1 << 40}[rng.IntN(3)]
	w.start()
	defer func() { w.stop() }()
	hosts := []*host{w.host(), w.host()}
	for _, h := range hosts {
		h.backups.PackFrames = 2 + rng.IntN(8)
	}
	for step := range 25 {
		h := hosts[rng.IntN(len(hosts))]
		what := rng.IntN(10)
		switch {
		case what < 4 || len(w.kept) == 0:
			h.backup(tables(rng)...)
		case what == 4:
			j, err := h.begin(tables(rng)...)
			must(t, err)
			must(t, j.open())
			h.backups.Sink = giveUp{j} // the agent dies before it commits
			_ = h.backups.BackupAs(j.id, j.tables...)
			_ = j.Close()
			must(t, w.ingest.EndJob(t.Context(), j.id))
			j.lose()
		case what < 7:
			w.forget(rng.IntN(len(w.kept)))
		case what == 7:
			w.restart()
		default:
			w.prune(prune.Spec{Domains: domains(w)})
			w.sound(fmt.Sprintf("step %d", step))
		}
		time.Sleep(time.Duration(rng.Int64N(int64(day))))
	}
	w.opts.Budget = 1 << 40
	w.restart()
	for range 3 {
		w.outcome(w.prune(prune.Spec{Domains: domains(w)}))
		time.Sleep(day)
		synctest.Wait()
	}
	w.sound("in the end")
	w.onlyLive()
}

// tables makes up what is backed up: few names and seeds, so that much is shared.
func tables(rng *rand.Rand) (out []repotest.Table) {
	for i := range 1 + rng.IntN(3) {
		out = append(out, table(string(rune('a'+i)), strconv.Itoa(rng.IntN(3)), 8+4*rng.IntN(8)))
	}
	return out
}

// giveUp is a job that never commits.
type giveUp struct{ *job }

func (giveUp) Commit(_, _ []byte) error { return errCut }
