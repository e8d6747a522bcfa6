package job_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// bubble runs a test in fake time.
func bubble(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newWorld(t)) })
}

func TestABackupGoesFromQueuedToSucceeded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		w.is(id, catalog.JobQueued)
		ref := w.lease()
		if ref.Fence.Epoch != 7 {
			t.Errorf("fence %s, want epoch 7", ref.Fence)
		}
		w.is(id, catalog.JobLeased)
		w.must(w.jobs.Accept(t.Context(), w.agent, ref))
		w.must(w.jobs.Accept(t.Context(), w.agent, ref)) // delivered twice
		w.is(id, catalog.JobRunning)
		w.commit(ref, true)
		w.is(id, catalog.JobCommitted)
		w.must(w.result(ref, succeeded))
		w.must(w.result(ref, succeeded))
		j := w.is(id, catalog.JobSucceeded)
		if j.SnapshotID != id || j.Result == nil || j.Ended.IsZero() || j.Message != "" {
			t.Errorf("job %+v", j)
		}
		w.attempts(id, catalog.AttemptSucceeded)
	})
}

func TestTheSameRequestGivesTheSameJobAndAnotherIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		spec := job.Spec{ID: repo.NewID(), Instance: w.main, Backup: &catalog.BackupSpec{Databases: []string{"app"}, Exclude: []string{}}, By: "a"}
		first, err := w.jobs.Create(t.Context(), spec)
		w.must(err)
		w.running()
		again, err := w.jobs.Create(t.Context(), spec)
		w.must(err)
		if again.ID != first.ID || again.State != catalog.JobRunning {
			t.Errorf("second answer %+v", again)
		}
		spec.Backup = &catalog.BackupSpec{Databases: []string{"other"}}
		_, err = w.jobs.Create(t.Context(), spec)
		w.refused(err, errs.Conflict)
		spec.Backup, spec.Restore = nil, &catalog.RestoreSpec{Snapshot: repo.NewID()}
		_, err = w.jobs.Create(t.Context(), spec)
		w.refused(err, errs.NotFound)
	})
}

func TestAnInstanceHasOneAttemptAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.backup()
		time.Sleep(time.Second)
		second := w.backup()
		ref := w.running()
		if _, ok, err := w.jobs.Lease(t.Context(), w.agent); ok || err != nil {
			t.Fatalf("a second attempt of a busy instance: %v, %v", ok, err)
		}
		w.commit(ref, true)
		w.must(w.result(ref, succeeded))
		w.is(first, catalog.JobSucceeded)
		if got := w.lease(); got.Job != second {
			t.Errorf("leased %s, want %s", got.Job, second)
		}
	})
}

func TestAForeignAgentGetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.backup()
		foreign := repo.NewID()
		if _, ok, err := w.jobs.Lease(t.Context(), foreign); ok || err != nil {
			t.Fatalf("leased to a foreign agent: %v, %v", ok, err)
		}
		ref := w.running()
		w.refused(w.jobs.Accept(t.Context(), foreign, ref), errs.Denied)
		w.refused(w.jobs.Reject(t.Context(), foreign, ref, "", true), errs.Denied)
		w.refused(w.jobs.Result(t.Context(), foreign, ref, succeeded, nil), errs.Denied)
		w.refused(w.jobs.Log(t.Context(), foreign, ref, catalog.LogLine{Message: "x"}), errs.Denied)
		w.refused(w.jobs.Progress(foreign, ref, job.Progress{}), errs.Denied)
		_, err := w.jobs.Authorize(t.Context(), foreign, ref)
		w.refused(err, errs.Denied)
		abandon, err := w.jobs.ExtendLease(t.Context(), foreign, []job.Ref{ref})
		if err != nil || len(abandon) != 1 {
			t.Errorf("a foreign heartbeat: abandon %v, %v", abandon, err)
		}
		w.refused(w.result(job.Ref{Job: repo.NewID(), Fence: ref.Fence}, succeeded), errs.NotFound)
	})
}

func TestHeartbeatsKeepAnAttemptAndSilenceLosesIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		for range 360 { // an hour of heartbeats
			time.Sleep(lease / 6)
			if abandon, err := w.jobs.ExtendLease(t.Context(), w.agent, []job.Ref{ref}); err != nil || abandon != nil {
				t.Fatalf("abandon %v, %v", abandon, err)
			}
		}
		w.is(id, catalog.JobRunning)
		time.Sleep(lease + time.Second)
		j := w.is(id, catalog.JobQueued)
		if wait := time.Until(j.NextAttempt); wait < backoff/2 || wait > 2*backoff {
			t.Errorf("next attempt in %s", wait)
		}
		w.attempts(id, catalog.AttemptLost)
		w.refused(w.result(ref, succeeded), errs.Conflict)
		w.refused(w.jobs.Committing(t.Context(), ref, [32]byte{1}), errs.Conflict)
		if w.dispatch.canceled() == 0 {
			t.Error("the lost agent was not told to stop")
		}
		abandon, _ := w.jobs.ExtendLease(t.Context(), w.agent, []job.Ref{ref})
		if len(abandon) != 1 {
			t.Error("the lost attempt may go on")
		}
	})
}

func TestAJobIsLostAfterItsLastAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		var last job.Ref
		for range 3 {
			ref := w.running()
			if !last.Fence.Less(ref.Fence) {
				t.Errorf("fence %s after %s", ref.Fence, last.Fence)
			}
			last = ref
			if _, ok, _ := w.jobs.Lease(t.Context(), w.agent); ok {
				t.Fatal("leased twice")
			}
			time.Sleep(lease + 5*backoff)
		}
		w.is(id, catalog.JobLost)
		w.attempts(id, catalog.AttemptLost, catalog.AttemptLost, catalog.AttemptLost)
		if w.store.marked(id) {
			t.Error("an abort marker for a job that never tried to commit")
		}
	})
}

func TestAFailureThatCannotPassIsNotTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		w.must(w.result(w.running(), failed))
		if j := w.is(id, catalog.JobFailed); j.Message != "wrong password" || j.Attempts != 1 {
			t.Errorf("job %+v", j)
		}
		id = w.backup()
		w.must(w.result(w.running(), flaky))
		w.is(id, catalog.JobQueued)
		if _, ok, _ := w.jobs.Lease(t.Context(), w.agent); ok {
			t.Error("leased before its back-off")
		}
		time.Sleep(2 * backoff)
		w.must(w.result(w.running(), flaky))
		time.Sleep(4 * backoff)
		w.must(w.result(w.running(), flaky))
		w.is(id, catalog.JobFailed)
	})
}

func TestABusyAgentCostsNoTry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		for range 50 {
			ref := w.lease()
			w.must(w.jobs.Reject(t.Context(), w.agent, ref, "busy", true))
			w.must(w.jobs.Reject(t.Context(), w.agent, ref, "busy", true))
			time.Sleep(time.Hour)
		}
		if j := w.is(id, catalog.JobQueued); j.Attempts != 0 {
			t.Errorf("%d tries used up", j.Attempts)
		}
		v, err := w.jobs.Get(t.Context(), id)
		w.must(err)
		if len(v.Attempts) != 20 {
			t.Errorf("%d attempts kept, want 20", len(v.Attempts))
		}
		w.must(w.jobs.Reject(t.Context(), w.agent, w.lease(), "not allowed here", false))
		w.is(id, catalog.JobFailed)
	})
}

func TestCancelEndsAQueuedJobAtOnceAndARunningOneWhenItsAgentHasStopped(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		_, err := w.jobs.Cancel(t.Context(), id, "operator/a", "no need")
		w.must(err)
		w.is(id, catalog.JobCanceled)

		id = w.backup()
		ref := w.running()
		_, err = w.jobs.Cancel(t.Context(), id, "operator/a", "no need")
		w.must(err)
		if j := w.is(id, catalog.JobRunning); !j.CancelRequested || w.dispatch.canceled() != 1 {
			t.Errorf("job %+v, agent told %d times", j, w.dispatch.canceled())
		}
		_, err = w.jobs.Authorize(t.Context(), w.agent, ref)
		w.refused(err, errs.Canceled)
		w.refused(w.jobs.Committing(t.Context(), ref, [32]byte{1}), errs.Canceled)
		w.must(w.result(ref, stopped))
		if j := w.is(id, catalog.JobCanceled); j.Message != "canceled by operator/a: no need" {
			t.Errorf("message %q", j.Message)
		}
		w.attempts(id, catalog.AttemptCanceled)
	})
}

func TestAnAgentThatDoesNotStopIsGivenUpThoughItsHeartBeats(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		_, err := w.jobs.Cancel(t.Context(), id, "operator/a", "")
		w.must(err)
		w.restart() // the bound holds over a restart
		for range 20 {
			time.Sleep(lease / 6)
			_, _ = w.jobs.ExtendLease(t.Context(), w.agent, []job.Ref{ref})
		}
		w.is(id, catalog.JobCanceled)
		if w.dispatch.canceled() < 3 {
			t.Errorf("told %d times, want it again with heartbeats", w.dispatch.canceled())
		}
	})
}

func TestAJobThatIsCommittingCannotBeCanceled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Committing(t.Context(), ref, [32]byte{1}))
		_, err := w.jobs.Cancel(t.Context(), id, "operator/a", "")
		w.refused(err, errs.Conflict)
		s := w.snapshot(ref, true)
		w.must(w.jobs.Committed(t.Context(), s))
		_, err = w.jobs.Cancel(t.Context(), id, "operator/a", "")
		w.refused(err, errs.Conflict)
		w.must(w.result(ref, succeeded))
		_, err = w.jobs.Cancel(t.Context(), id, "operator/a", "")
		w.refused(err, errs.Conflict)
	})
}

func TestAnIncompleteSnapshotExistsAndItsJobFails(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.commit(ref, false)
		w.must(w.result(ref, catalog.Result{Outcome: catalog.OutcomeFailed, Error: "database b: permission denied", Retryable: true}))
		if j := w.is(id, catalog.JobFailed); j.Message != "database b: permission denied" || j.SnapshotID != id {
			t.Errorf("job %+v", j)
		}
		w.must(w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			list, _, err := tx.SnapshotsOf(w.main, catalog.Page{})
			if err == nil && (len(list) != 1 || list[0].Complete || list[0].InstanceName != "db1/main" || list[0].Incarnation != 1) {
				t.Errorf("snapshots %+v", list)
			}
			return err
		}))
	})
}

func TestAJobWhoseAgentVanishesAfterTheCommitEndsByItself(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.commit(ref, true)
		for range 12 { // heartbeats do not keep it open
			time.Sleep(5 * time.Second)
			_, _ = w.jobs.ExtendLease(t.Context(), w.agent, []job.Ref{ref})
		}
		w.is(id, catalog.JobSucceeded)
		w.must(w.result(ref, succeeded)) // late, and still welcome for its figures
		if j := w.job(id); j.Result == nil {
			t.Error("the figures were dropped")
		}
	})
}

func TestSuccessWithoutASnapshotOrADatabaseIsNone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		w.must(w.result(w.running(), succeeded))
		w.is(id, catalog.JobFailed)
		id = w.backup()
		ref := w.running()
		w.commit(ref, true)
		w.must(w.result(ref, succeeded))

		restore := repo.NewID()
		_, err := w.jobs.Create(t.Context(), job.Spec{ID: restore, Instance: w.other, Restore: &catalog.RestoreSpec{Snapshot: id}})
		w.must(err)
		w.must(w.result(w.running(), catalog.Result{Outcome: catalog.OutcomeSucceeded}))
		w.is(restore, catalog.JobFailed)
	})
}

func TestAnAgentThatComesBackWithoutAnAttemptLosesItSoon(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		abandon, err := w.jobs.Reconcile(t.Context(), w.agent, []job.Ref{ref})
		if err != nil || abandon != nil {
			t.Fatalf("abandon %v, %v", abandon, err)
		}
		stale := job.Ref{Job: id, Fence: repo.Fence{Epoch: 7, Counter: 1000}}
		abandon, err = w.jobs.Reconcile(t.Context(), w.agent, []job.Ref{stale})
		if err != nil || len(abandon) != 1 || abandon[0] != stale {
			t.Fatalf("abandon %v, %v", abandon, err)
		}
		time.Sleep(5 * time.Second)
		w.is(id, catalog.JobRunning) // its result may be on its way
		time.Sleep(15 * time.Second)
		w.is(id, catalog.JobQueued)
	})
}

func TestRevokingAnAgentEndsItsJobs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.backup()
		time.Sleep(time.Second)
		second := w.backup()
		ref := w.running()
		w.must(w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			a, err := tx.Agent(w.agent)
			if err != nil {
				return err
			}
			a.State = catalog.AgentRevoked
			return tx.PutAgent(a)
		}))
		w.must(w.jobs.Revoke(t.Context(), w.agent, "stolen"))
		w.is(first, catalog.JobFailed)
		w.is(second, catalog.JobFailed)
		w.refused(w.result(ref, succeeded), errs.Conflict)
		_, err := w.jobs.Create(t.Context(), job.Spec{ID: repo.NewID(), Instance: w.main, Backup: &catalog.BackupSpec{}})
		w.refused(err, errs.Conflict)
	})
}

func TestAWatcherSeesTheEndHoweverSlowItIs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		var seen []catalog.JobState
		var phases []string
		done := make(chan error, 1)
		go func() {
			done <- w.jobs.Watch(t.Context(), id, func(v job.View) error {
				seen = append(seen, v.Job.State)
				if v.Progress != nil {
					phases = append(phases, v.Progress.Phase)
				}
				time.Sleep(time.Second)
				return nil
			})
		}()
		ref := w.running()
		synctest.Wait()
		for range 1000 {
			w.must(w.jobs.Progress(w.agent, ref, job.Progress{Phase: "data"}))
		}
		time.Sleep(3 * time.Second)
		w.must(w.result(ref, failed))
		w.must(<-done)
		if last := seen[len(seen)-1]; last != catalog.JobFailed || len(seen) > 10 || len(phases) == 0 {
			t.Errorf("saw %v with phases %v", seen, phases)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.jobs.Watch(ctx, w.backup(), func(job.View) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("watch after cancel: %v", err)
		}
	})
}
