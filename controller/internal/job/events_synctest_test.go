package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// said checks what was published since the last time.
func (w *world) said(want ...event.Kind) {
	w.t.Helper()
	if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(w.told.kinds())); d != "" {
		w.t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestTheStatesOfAJobAreToldInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		w.must(w.jobs.Accept(t.Context(), w.agent, ref)) // told twice
		w.commit(ref, true)
		w.must(w.jobs.Committed(t.Context(), w.snapshot(ref, true)))
		w.must(w.result(ref, succeeded))
		w.must(w.result(ref, succeeded))
		w.told.mu.Lock()
		last := w.told.events[len(w.told.events)-1]
		w.told.mu.Unlock()
		if last.Job != id || last.JobKind != catalog.JobBackup || last.Instance != "db1/main" || last.AgentName != "db1" || last.Agent != w.agent || last.Snapshot != id {
			t.Errorf("%+v", last)
		}
		w.said(event.JobQueued, event.JobLeased, event.JobRunning, event.JobCommitting, event.SnapshotCommitted, event.JobSucceeded)
	})
}

func TestAnotherAttemptAndTheEndAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.backup()
		ref := w.running()
		w.must(w.result(ref, flaky))
		time.Sleep(2 * backoff)
		ref = w.running()
		w.must(w.result(ref, failed))
		w.told.mu.Lock()
		end := w.told.events[len(w.told.events)-1]
		w.told.mu.Unlock()
		if end.Message != "wrong password" {
			t.Errorf("%+v", end)
		}
		w.said(event.JobQueued, event.JobLeased, event.JobRunning, event.JobQueued, event.JobLeased, event.JobRunning, event.JobFailed)

		id := w.backup()
		_, err := w.jobs.Cancel(t.Context(), id, "operator/a", "")
		w.must(err)
		w.said(event.JobQueued, event.JobCanceled)
	})
}

func TestWhatAnEarlierProcessLeftIsNoNews(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.backup()
		ref := w.running()
		w.told.kinds()
		w.restart()
		w.said()
		if _, err := w.jobs.Reconcile(t.Context(), w.agent, []job.Ref{ref}); err != nil {
			t.Fatal(err)
		}
		w.commit(ref, true)
		w.must(w.result(ref, succeeded))
		w.said(event.JobCommitting, event.SnapshotCommitted, event.JobSucceeded)
	})
}

func TestRatesAreReckonedWhenProgressComes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.backup()
		ref := w.running()
		for i := range 20 {
			w.must(w.jobs.Progress(w.agent, ref, job.Progress{BytesPerSecond: 1 << 40, SecondsLeft: 1, // what an agent says of itself does not count
				Databases: []job.DatabaseProgress{{Database: "app", Phase: "data", BytesDone: int64(i) * 1000, BytesTotal: 100_000}}}))
			time.Sleep(time.Second)
		}
		running := w.jobs.Running()
		if len(running) != 1 || running[0].Ref != ref || running[0].Instance != "db1/main" || running[0].Agent != w.agent {
			t.Fatalf("%+v", running)
		}
		if p := running[0].Progress; p.BytesPerSecond != 1000 || p.SecondsLeft != 81 {
			t.Errorf("%d bytes a second, %d seconds left", p.BytesPerSecond, p.SecondsLeft)
		}
		w.must(w.result(ref, failed))
		if r := w.jobs.Running(); len(r) != 0 {
			t.Errorf("after its end: %+v", r)
		}
		w.is(id, catalog.JobFailed)
	})
}

func TestARestoreIsOfferedWithWhatPastOnesTook(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.backup()
		made := w.running()
		w.commit(made, true)
		w.must(w.result(made, succeeded))
		restore := func(instance repo.InstanceID) job.Offer {
			t.Helper()
			_, err := w.jobs.Create(t.Context(), job.Spec{ID: repo.NewID(), Instance: instance, Restore: &catalog.RestoreSpec{Snapshot: made.Job}, By: "a"})
			w.must(err)
			o, ok, err := w.jobs.Lease(t.Context(), w.agent)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			w.must(w.jobs.Accept(t.Context(), w.agent, o.Ref))
			return o
		}
		done := func(o job.Offer, mib int64) {
			t.Helper()
			r := succeeded
			r.Stats.PlainBytes, r.Started, r.Ended = mib<<20, time.Now(), time.Now().Add(10*time.Second)
			w.must(w.result(o.Ref, r))
			time.Sleep(time.Second)
		}
		first := restore(w.other)
		if first.Past != (job.Past{}) {
			t.Errorf("before any: %+v", first.Past)
		}
		done(first, 100)
		second := restore(w.main) // of another instance: better than none
		if want := (job.Past{BytesPerSecond: 10 << 20, Restores: 1}); second.Past != want {
			t.Errorf("%+v, want %+v", second.Past, want)
		}
		done(second, 500)
		third := restore(w.main) // its own count alone
		if want := (job.Past{BytesPerSecond: 50 << 20, Restores: 1}); third.Past != want {
			t.Errorf("%+v, want %+v", third.Past, want)
		}
		done(third, 500)
	})
}
