package ingest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest/ingesttest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// model is what must be true of a world: the snapshots that were reported, and
// what is in them.
type model struct {
	*world
	rng       *rand.Rand
	agents    []*agent
	rows      [][]chunkFrame // of each agent, as of now
	snapshots map[repo.JobID]snapshotOf
	counter   uint64
	did       map[string]int
}

type snapshotOf struct {
	agent  int
	chunks []chunkFrame
}

// TestRandomOperationsAgainstAModel does what comes by chance: backups over stores
// that refuse, lose and lie, retries, restores, restarts, crashes at any durable
// step. At any time every reported snapshot is restored as it was, and at the end
// a check finds nothing.
func TestRandomOperationsAgainstAModel(t *testing.T) {
	worlds, steps := 3, 25
	if os.Getenv("TUSKVAULT_LONG") != "" {
		worlds, steps = 60, 120
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	did := map[string]int{}
	for i := range worlds {
		synctest.Test(t, func(t *testing.T) {
			m := &model{world: newWorldOn(t, mem.New()), rng: rand.New(rand.NewPCG(seed, uint64(i))), snapshots: map[repo.JobID]snapshotOf{}, did: did}
			m.start()
			for n := range 2 {
				m.agents = append(m.agents, m.agent())
				m.rows = append(m.rows, m.agents[n].rows(n, 12, 1500))
			}
			for range steps {
				m.step()
			}
			m.restoreAll()
			m.stop()
			m.check()
			time.Sleep(time.Minute) // connections in the bubble end
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("did %v", did)
}

func (m *model) step() {
	m.t.Helper()
	n := m.rng.IntN(len(m.agents))
	switch m.rng.IntN(8) {
	case 0, 1:
		m.change(n)
		m.backup(n, "backup")
	case 2:
		prefix := []string{"packs/", "index/", "snapshots/"}[m.rng.IntN(3)]
		fault := []ingesttest.Fault{ingesttest.Refused, ingesttest.Answerless, ingesttest.Lost, ingesttest.Vanishing}[m.rng.IntN(4)]
		if fault == ingesttest.Vanishing && prefix == "index/" {
			fault = ingesttest.Lost // an index file that is not there is no damage, and not what is asked here
		}
		m.store.FailCreates(prefix, 1+m.rng.IntN(6), fault, fmt.Errorf("the bucket is full: %w", errs.Exhausted))
		m.change(n)
		m.backup(n, "backup over a fault")
		m.store.FailCreates("", 0, 0, nil)
	case 3:
		m.power.CutAfter(1 + m.rng.IntN(25))
		m.change(n)
		m.backup(n, "backup with a crash")
		m.stop()
		m.power.CutAfter(0)
		m.start()
		m.disconnect()
	case 4:
		m.restart()
		m.disconnect()
		m.did["restart"]++
	case 5:
		if jobs := m.jobs(); len(jobs) > 0 {
			m.restore(jobs[m.rng.IntN(len(jobs))])
		}
	case 6:
		// The cache of the index is deletable at any time.
		m.stop()
		must(m.t, os.RemoveAll(filepath.Join(m.dir, "index")))
		m.start()
		m.disconnect()
		m.did["index removed"]++
	case 7:
		time.Sleep(time.Duration(m.rng.IntN(600)) * time.Second)
		m.disconnect()
		m.did["time"]++
	}
}

func (m *model) disconnect() {
	for _, a := range m.agents {
		a.client = nil
	}
}

// change replaces some rows of an agent's data.
func (m *model) change(n int) {
	m.counter++
	fresh := m.agents[n].rows(1000+int(m.counter), 4, 1500)
	m.rows[n] = slices.Clone(m.rows[n])
	for _, c := range fresh {
		m.rows[n][m.rng.IntN(len(m.rows[n]))] = c
	}
}

// backup makes one, and once more when it fails; only what was reported is expected.
func (m *model) backup(n int, what string) {
	m.t.Helper()
	job := repo.NewID()
	for range 2 {
		m.counter++
		_, _, err := m.agents[n].backup(job, m.counter, m.rows[n])
		if err == nil {
			m.snapshots[job] = snapshotOf{n, m.rows[n]}
			m.did[what]++
			return
		}
		if errs.KindOf(err) == nil || errors.Is(err, errs.Corrupt) {
			m.t.Fatalf("%s: %v", what, err)
		}
		m.did[what+" failed"]++
	}
}

func (m *model) jobs() []repo.JobID {
	var all []repo.JobID
	for job := range m.snapshots {
		all = append(all, job)
	}
	slices.SortFunc(all, func(a, b repo.JobID) int { return slices.Compare(a[:], b[:]) })
	return all
}

func (m *model) restore(job repo.JobID) {
	m.t.Helper()
	s := m.snapshots[job]
	if _, ok := m.catalog.Snapshot(job); !ok {
		m.t.Fatalf("snapshot %s, which was reported, is not recorded", job)
	}
	// A chunk may be there twice by chance: compare as often as it is.
	got, err := m.agents[s.agent].restore(job, m.agents[s.agent].instance)
	must(m.t, err)
	want := []string{"PGDMP schema"}
	for _, c := range s.chunks {
		want = append(want, string(c.plain))
	}
	var have []string
	for _, p := range got {
		have = append(have, string(p))
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		m.t.Fatalf("snapshot %s: %d chunks restored, not the %d that were backed up", job, len(have), len(want))
	}
	m.did["restore"]++
}

func (m *model) restoreAll() {
	m.t.Helper()
	for _, job := range m.jobs() {
		m.restore(job)
	}
}

func (m *model) check() {
	m.t.Helper()
	r, err := check.Run(m.t.Context(), m.store, check.Options{Repository: m.repo, Dir: filepath.Join(m.dir, "check"), ReadData: true, Sample: check.Whole})
	must(m.t, err)
	for _, f := range r.Findings { // this world has no catalog log and no epochs
		if !f.Harmless && f.Kind != "catalog" && f.Kind != "epochs" {
			m.t.Errorf("%+v", f)
		}
	}
}
