package prune_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

func table(name, seed string, rows int) repotest.Table {
	return repotest.Table{Database: "app", Name: name, Rows: rows, Seed: seed}
}

// day is longer than condemned packs wait.
const day = 25 * time.Hour

func TestWhatNoSnapshotNeedsGoesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		h := w.host()
		h.backup(table("a", "1", 60), table("b", "1", 40))
		h.backup(table("a", "1", 60), table("b", "2", 40))
		h.backup(table("a", "3", 30))
		before := w.packs()

		// Nothing was forgotten: nothing is looked at.
		if run := w.prune(prune.Spec{}); len(run.Outcomes) != 0 || run.State != catalog.PruneDone {
			t.Errorf("%+v", run)
		}
		w.forget(1)
		dry := w.outcome(w.prune(prune.Spec{DryRun: true}))
		if dry.DeadPacks == 0 || dry.FreedPacks != 0 || len(w.packs()) != len(before) {
			t.Errorf("dry run: %+v", dry)
		}
		first := w.outcome(w.prune(prune.Spec{}))
		if first.DeadPacks != dry.DeadPacks || first.DeadBytes != dry.DeadBytes || first.RepackLive != dry.RepackLive || first.WaitingPacks != first.DeadPacks+first.RepackPacks || first.WaitsFor == "" {
			t.Errorf("the dry run said %+v, the run %+v", dry, first)
		}
		w.sound("condemned")
		time.Sleep(time.Hour)
		if o := w.outcome(w.prune(prune.Spec{})); o.FreedPacks != 0 || len(w.packs()) != len(before) {
			t.Errorf("too early: %+v", o)
		}
		time.Sleep(day) // the background goes on with it meanwhile
		synctest.Wait()
		if left := len(w.packs()); left >= len(before) {
			t.Errorf("%d packs were there, %d are", len(before), left)
		}
		w.sound("pruned")
		for len(w.kept) > 0 {
			w.forget(0)
		}
		w.prune(prune.Spec{})
		time.Sleep(day)
		synctest.Wait()
		if left := w.packs(); len(left) != 0 {
			t.Errorf("no snapshot is left, and %d packs are", len(left))
		}
		if run := w.prune(prune.Spec{}); len(run.Outcomes) != 0 {
			t.Errorf("all is pruned, and yet: %+v", run)
		}
		w.sound("all gone")
	})
}

func TestABackupThatWasToldThatSomethingIsStoredKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		h := w.host()
		h.backup(table("a", "1", 60))
		w.forget(0)
		// This one is told that all of it is stored, and commits after it was condemned.
		j, err := h.begin(table("a", "1", 60))
		must(t, err)
		reached, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		j.hold = func() { close(reached); <-goOn }
		go func() { ended <- j.run() }()
		<-reached
		if o := w.outcome(w.prune(prune.Spec{})); o.DeadPacks == 0 || o.WaitingPacks != o.DeadPacks {
			t.Fatalf("%+v", o)
		}
		// A later one is told that nothing of it is, and gets packs of its own.
		other := w.host()
		if later := other.backup(table("a", "1", 60)); later.Sent == 0 {
			t.Error("a condemned chunk was called stored")
		}
		time.Sleep(day)
		if o := w.outcome(w.prune(prune.Spec{})); o.FreedPacks != 0 || o.WaitsFor == "" {
			t.Errorf("the job has not ended: %+v", o)
		}
		close(goOn)
		must(t, <-ended)
		h.keep(j)
		if j.Sent >= 10 {
			t.Errorf("the first job sent %d chunks: it was to be told that they are stored", j.Sent)
		}
		before := w.packs()
		if o := w.outcome(w.prune(prune.Spec{})); o.FreedPacks == 0 || o.CopiedBytes == 0 {
			t.Errorf("%+v", o)
		}
		w.sound("pruned")
		if after := w.packs(); len(after) == 0 || after[0] == before[0] && len(after) == len(before) {
			t.Errorf("%d packs before, %d after", len(before), len(after))
		}
		w.restart()
		w.sound("after a restart")
	})
}
