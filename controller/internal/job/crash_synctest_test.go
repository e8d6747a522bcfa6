package job_test

import (
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The process is killed after each step of a backup; the next one must let it
// end with the snapshot, whatever the agent and the store have seen.
func TestABackupSurvivesACrashAfterEachStep(t *testing.T) {
	for crash := range 7 {
		bubble(t, func(t *testing.T, w *world) {
			at := 0
			step := func() {
				if at == crash {
					w.restart()
				}
				at++
			}
			id := w.backup()
			step()
			ref := w.lease()
			step()
			w.must(w.jobs.Accept(t.Context(), w.agent, ref))
			step()
			pack := catalog.Pack{ID: [32]byte{9}, Job: id, Fence: ref.Fence, Size: 10, Frames: 1}
			w.must(w.jobs.PackIntent(t.Context(), pack))
			step()
			w.must(w.jobs.PackStored(t.Context(), id, pack.ID))
			w.must(w.jobs.PacksIndexed(t.Context(), id, []catalog.PackID{pack.ID}))
			w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
			w.store.put(w.snapshot(ref, true))
			step() // the put is done and not journaled
			if w.job(id).State == catalog.JobCommitting {
				w.must(w.jobs.Committed(t.Context(), w.snapshot(ref, true)))
			}
			step()
			w.must(w.result(ref, succeeded))
			step()
			j := w.is(id, catalog.JobSucceeded)
			if j.Result == nil || j.SnapshotID != id {
				t.Errorf("crash after step %d: job %+v", crash, j)
			}
			packs, err := w.jobs.Packs(t.Context(), id, func(catalog.Pack) bool { return true })
			if err != nil || len(packs) != 0 {
				t.Errorf("crash after step %d: packs %v, %v", crash, packs, err)
			}
		})
	}
}

func TestFencesGrowOverRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.backup()
		ref := w.running()
		w.must(w.result(ref, flaky))
		w.restart()
		time.Sleep(2 * backoff)
		again := w.running()
		if !ref.Fence.Less(again.Fence) {
			t.Errorf("fence %s after %s", again.Fence, ref.Fence)
		}
		w.refused(w.result(ref, succeeded), errs.Conflict)
	})
}

func TestARunningJobHasOneLeaseAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		w.running()
		w.restart()
		time.Sleep(lease - time.Second)
		w.is(id, catalog.JobRunning)
		time.Sleep(2 * time.Second)
		w.is(id, catalog.JobQueued)
	})
}

func TestACommitThatTheStoreDoesNotHaveIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
		w.restart()
		w.is(id, catalog.JobCommitting) // its agent may come back and commit
		w.store.setAway(true)
		time.Sleep(2 * time.Hour)
		w.is(id, catalog.JobCommitting) // never failed while nobody knows
		w.store.setAway(false)
		time.Sleep(time.Minute)
		w.is(id, catalog.JobQueued)
		time.Sleep(2 * backoff)
		again := w.running()
		// The put of the first attempt arrives late, and has won.
		w.must(w.jobs.Committed(t.Context(), w.snapshot(ref, true)))
		w.is(id, catalog.JobSucceeded)
		w.attempts(id, catalog.AttemptSucceeded, catalog.AttemptSuperseded)
		if w.dispatch.canceled() == 0 {
			t.Error("the overtaken agent was not told to stop")
		}
		w.refused(w.result(again, failed), errs.Conflict)
	})
}

func TestAJobThatMayHaveASnapshotEndsOnlyBehindAnAbortMarker(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
		w.must(w.jobs.Uncommitted(t.Context(), ref))
		w.is(id, catalog.JobRunning)
		w.store.setAway(true)
		w.must(w.result(ref, failed))
		time.Sleep(time.Minute)
		w.is(id, catalog.JobCommitting)
		w.restart()
		w.is(id, catalog.JobCommitting)
		w.store.setAway(false)
		time.Sleep(time.Minute)
		if j := w.is(id, catalog.JobFailed); j.Message != "wrong password" || !w.store.marked(id) {
			t.Errorf("job %+v, marker %v", j, w.store.marked(id))
		}
	})
}

func TestASnapshotFasterThanTheAbortMarkerWins(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
		w.must(w.jobs.Uncommitted(t.Context(), ref))
		w.store.setAway(true)
		w.must(w.result(ref, failed))
		w.store.put(w.snapshot(ref, true))
		w.store.setAway(false)
		time.Sleep(time.Minute)
		if j := w.is(id, catalog.JobSucceeded); j.SnapshotID != id {
			t.Errorf("job %+v", j)
		}
	})
}

func TestAReportWhileCommittingWaitsForTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
		w.store.setAway(true)
		w.must(w.result(ref, flaky))
		w.is(id, catalog.JobCommitting)
		w.store.put(w.snapshot(ref, true))
		w.store.setAway(false)
		time.Sleep(time.Minute)
		w.is(id, catalog.JobSucceeded)
	})
}

// A job never stays unfinished for ever when its agent and the operator are gone.
func TestNothingStaysRunningForEver(t *testing.T) {
	for _, stage := range []string{"leased", "running", "committing", "uncommitted", "committed", "canceled"} {
		bubble(t, func(t *testing.T, w *world) {
			id := w.backup()
			ref := w.lease()
			if stage != "leased" {
				w.must(w.jobs.Accept(t.Context(), w.agent, ref))
			}
			switch stage {
			case "committing":
				w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
			case "uncommitted":
				w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
				w.must(w.jobs.Uncommitted(t.Context(), ref))
			case "committed":
				w.commit(ref, true)
			case "canceled":
				_, err := w.jobs.Cancel(t.Context(), id, "operator/a", "")
				w.must(err)
			}
			for range 3 {
				time.Sleep(time.Hour)
				if o, ok, err := w.jobs.Lease(t.Context(), w.agent); err != nil {
					t.Fatal(err)
				} else if ok {
					w.must(w.jobs.Accept(t.Context(), w.agent, o.Ref))
				}
				w.restart()
			}
			time.Sleep(time.Hour)
			if j := w.job(id); !j.State.Terminal() {
				t.Errorf("%s: still %s: %s", stage, j.State, j.Message)
			}
			if len(liveRefs(w, id)) != 0 {
				t.Errorf("%s: a live attempt in a job that has ended", stage)
			}
		})
	}
}

func liveRefs(w *world, id [16]byte) (live []job.Ref) {
	v, err := w.jobs.Get(w.t.Context(), id)
	w.must(err)
	for _, a := range v.Attempts {
		if !a.State.Ended() {
			live = append(live, job.Ref{Job: a.Job, Fence: a.Fence})
		}
	}
	return live
}

func TestAPackNeedsTheCurrentAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		p := catalog.Pack{ID: [32]byte{1}, Job: id, Fence: ref.Fence}
		w.must(w.jobs.PackIntent(t.Context(), p))
		w.must(w.jobs.PackIntent(t.Context(), p))
		w.must(w.result(ref, flaky))
		w.refused(w.jobs.PackIntent(t.Context(), catalog.Pack{ID: [32]byte{2}, Job: id, Fence: ref.Fence}), errs.Conflict)
		// The pack is in the store all the same, and the next attempt uses it.
		w.must(w.jobs.PackStored(t.Context(), id, p.ID))
		w.restart()
		open, err := w.jobs.OpenPacks(t.Context(), catalog.PackStored)
		if err != nil || len(open) != 1 {
			t.Errorf("packs %v, %v", open, err)
		}
		w.must(w.jobs.PackDropped(t.Context(), id, p.ID))
		w.must(w.jobs.PackDropped(t.Context(), id, p.ID))
	})
}
