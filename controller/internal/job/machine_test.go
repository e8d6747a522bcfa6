package job_test

import (
	"fmt"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
)

// table has one row for every state and event: what follows when another attempt
// may be made, nobody canceled, nothing was reported and the snapshot, if there
// is one, is complete. "-" is a refusal, "a b" job state and attempt state.
var table = map[catalog.JobState]map[job.Event]string{
	catalog.JobQueued: {
		job.EventLease: "leased offered", job.EventAccept: "-", job.EventBusy: "-", job.EventReject: "-",
		job.EventCommitting: "-", job.EventUncommitted: "-", job.EventCommitted: "-", job.EventOvertaken: "succeeded",
		job.EventSucceeded: "-", job.EventFailed: "-", job.EventFailedForGood: "-", job.EventStopped: "-",
		job.EventExpired: "queued", job.EventCancel: "canceled", job.EventAborted: "-", job.EventRevoked: "failed",
	},
	catalog.JobLeased: {
		job.EventLease: "-", job.EventAccept: "running running", job.EventBusy: "queued rejected", job.EventReject: "failed rejected",
		job.EventCommitting: "committing committing", job.EventUncommitted: "leased", job.EventCommitted: "committed committing", job.EventOvertaken: "succeeded superseded",
		job.EventSucceeded: "succeeded succeeded", job.EventFailed: "queued failed", job.EventFailedForGood: "failed failed", job.EventStopped: "queued canceled",
		job.EventExpired: "queued lost", job.EventCancel: "leased", job.EventAborted: "-", job.EventRevoked: "failed lost",
	},
	catalog.JobRunning: {
		job.EventLease: "-", job.EventAccept: "running", job.EventBusy: "-", job.EventReject: "-",
		job.EventCommitting: "committing committing", job.EventUncommitted: "running", job.EventCommitted: "committed committing", job.EventOvertaken: "succeeded superseded",
		job.EventSucceeded: "succeeded succeeded", job.EventFailed: "queued failed", job.EventFailedForGood: "failed failed", job.EventStopped: "queued canceled",
		job.EventExpired: "queued lost", job.EventCancel: "running", job.EventAborted: "-", job.EventRevoked: "failed lost",
	},
	catalog.JobCommitting: {
		job.EventLease: "-", job.EventAccept: "committing", job.EventBusy: "-", job.EventReject: "-",
		job.EventCommitting: "committing committing", job.EventUncommitted: "running running", job.EventCommitted: "committed committing", job.EventOvertaken: "succeeded superseded",
		job.EventSucceeded: "committing", job.EventFailed: "committing", job.EventFailedForGood: "committing", job.EventStopped: "committing",
		job.EventExpired: "queued lost", job.EventCancel: "-", job.EventAborted: "failed failed", job.EventRevoked: "committing",
	},
	catalog.JobCommitted: {
		job.EventLease: "-", job.EventAccept: "committed", job.EventBusy: "-", job.EventReject: "-",
		job.EventCommitting: "committed", job.EventUncommitted: "-", job.EventCommitted: "committed", job.EventOvertaken: "-",
		job.EventSucceeded: "succeeded succeeded", job.EventFailed: "succeeded succeeded", job.EventFailedForGood: "succeeded succeeded", job.EventStopped: "succeeded succeeded",
		job.EventExpired: "succeeded succeeded", job.EventCancel: "-", job.EventAborted: "-", job.EventRevoked: "succeeded succeeded",
	},
	catalog.JobSucceeded: nothing("-"),
	catalog.JobFailed:    nothing("-"),
	catalog.JobCanceled:  nothing("canceled"),
	catalog.JobLost:      nothing("-"),
}

// nothing is the row of a terminal state: only a repeated cancel is no refusal
// where the job was canceled.
func nothing(cancel string) map[job.Event]string {
	row := make(map[job.Event]string)
	for _, e := range job.Events() {
		row[e] = "-"
	}
	row[job.EventCancel] = cancel
	return row
}

func show(s catalog.JobState, step job.Step) string {
	switch {
	case step.Refused != nil && step.State != s:
		return "refused, and yet " + step.State.String()
	case step.Refused != nil:
		return "-"
	case step.Attempt != 0:
		return step.State.String() + " " + step.Attempt.String()
	}
	return step.State.String()
}

func TestEveryStateAnswersEveryEvent(t *testing.T) {
	for _, s := range catalog.JobStates() {
		for _, e := range job.Events() {
			want, ok := table[s][e]
			if !ok {
				t.Errorf("%s, %s: no row", s, e)
				continue
			}
			if got := show(s, job.Next(s, e, job.Facts{Tries: true})); got != want {
				t.Errorf("%s, %s: %s, want %s", s, e, got, want)
			}
		}
	}
}

func TestFactsDecideWhereAJobGoes(t *testing.T) {
	for _, row := range []struct {
		state catalog.JobState
		event job.Event
		facts job.Facts
		want  string
	}{
		{catalog.JobRunning, job.EventExpired, job.Facts{}, "lost lost"},
		{catalog.JobRunning, job.EventFailed, job.Facts{}, "failed failed"},
		{catalog.JobRunning, job.EventStopped, job.Facts{}, "failed canceled"},
		{catalog.JobRunning, job.EventStopped, job.Facts{Cancel: true, Tries: true}, "canceled canceled"},
		{catalog.JobRunning, job.EventFailed, job.Facts{Cancel: true, Tries: true}, "canceled canceled"},
		{catalog.JobRunning, job.EventExpired, job.Facts{Cancel: true, Tries: true}, "canceled canceled"},
		{catalog.JobRunning, job.EventSucceeded, job.Facts{Cancel: true}, "succeeded succeeded"},
		{catalog.JobRunning, job.EventCommitting, job.Facts{Cancel: true}, "-"},
		{catalog.JobLeased, job.EventBusy, job.Facts{Cancel: true, Tries: true}, "canceled canceled"},
		{catalog.JobLeased, job.EventReject, job.Facts{Cancel: true}, "canceled canceled"},
		{catalog.JobQueued, job.EventOvertaken, job.Facts{Incomplete: true}, "failed"},
		{catalog.JobCommitting, job.EventExpired, job.Facts{}, "lost lost"},
		{catalog.JobCommitting, job.EventExpired, job.Facts{Ending: catalog.JobLost, Tries: true}, "committing"},
		{catalog.JobCommitting, job.EventUncommitted, job.Facts{Reported: true}, "failed failed"},
		{catalog.JobCommitting, job.EventUncommitted, job.Facts{Reported: true, Tries: true}, "queued failed"},
		{catalog.JobCommitting, job.EventUncommitted, job.Facts{Ending: catalog.JobFailed}, "committing"},
		{catalog.JobCommitting, job.EventCommitting, job.Facts{Ending: catalog.JobFailed}, "-"},
		{catalog.JobCommitting, job.EventCommitted, job.Facts{Reported: true}, "succeeded succeeded"},
		{catalog.JobCommitting, job.EventCommitted, job.Facts{Reported: true, Incomplete: true}, "failed failed"},
		{catalog.JobCommitting, job.EventCommitted, job.Facts{Ending: catalog.JobCanceled}, "succeeded succeeded"},
		{catalog.JobCommitting, job.EventAborted, job.Facts{Ending: catalog.JobCanceled}, "canceled"},
		{catalog.JobCommitting, job.EventAborted, job.Facts{Ending: catalog.JobLost}, "lost"},
		{catalog.JobCommitted, job.EventSucceeded, job.Facts{Incomplete: true}, "failed failed"},
		{catalog.JobCommitted, job.EventExpired, job.Facts{Incomplete: true}, "failed failed"},
	} {
		name := fmt.Sprintf("%s, %s, %+v", row.state, row.event, row.facts)
		if got := show(row.state, job.Next(row.state, row.event, row.facts)); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
}

// An attempt never comes back to life, and a job ends only with its attempt
// ended, whatever is known.
func TestNoStepLeavesAnAttemptAliveInAJobThatHasEnded(t *testing.T) {
	endings := append([]catalog.JobState{0}, catalog.JobSucceeded, catalog.JobFailed, catalog.JobCanceled, catalog.JobLost)
	for _, s := range catalog.JobStates() {
		for _, e := range job.Events() {
			for bits := range 16 {
				for _, ending := range endings {
					f := job.Facts{Tries: bits&1 != 0, Cancel: bits&2 != 0, Incomplete: bits&4 != 0, Reported: bits&8 != 0, Ending: ending}
					step := job.Next(s, e, f)
					live := s == catalog.JobLeased || s == catalog.JobRunning || s == catalog.JobCommitting && ending == 0 || s == catalog.JobCommitted
					over := step.State.Terminal() || step.State == catalog.JobQueued
					if step.Refused == nil && live && over && !step.Attempt.Ended() {
						t.Errorf("%s, %s, %+v: job %s, attempt %s", s, e, f, step.State, step.Attempt)
					}
					if s.Terminal() && step.State != s {
						t.Errorf("%s, %s, %+v: left for %s", s, e, f, step.State)
					}
				}
			}
		}
	}
}
