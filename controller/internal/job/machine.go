package job

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Event is something that happened to a job or to its current attempt.
type Event int

// The events.
const (
	// EventLease: the job is given to its agent.
	EventLease Event = iota + 1
	// EventAccept: the agent takes it.
	EventAccept
	// EventBusy: the agent does not take it now.
	EventBusy
	// EventReject: the agent never takes it.
	EventReject
	// EventCommitting: the attempt is about to put its snapshot.
	EventCommitting
	// EventUncommitted: the store is known not to have it.
	EventUncommitted
	// EventCommitted: the store has the current attempt's snapshot.
	EventCommitted
	// EventOvertaken: the store has another attempt's snapshot.
	EventOvertaken
	// EventSucceeded: the agent reports that everything was done.
	EventSucceeded
	// EventFailed: the agent reports a failure that may pass.
	EventFailed
	// EventFailedForGood: the agent reports a failure that cannot pass.
	EventFailedForGood
	// EventStopped: the agent reports that it was stopped.
	EventStopped
	// EventExpired: the lease ran out, or what was waited for in a state did not come.
	EventExpired
	// EventCancel: an operator asks the job to stop.
	EventCancel
	// EventAborted: the store holds an abort marker in the snapshot's place.
	EventAborted
	// EventRevoked: the agent has lost its rights.
	EventRevoked
)

// Events lists every event, for tables that must be complete.
func Events() []Event {
	var all []Event
	for e := EventLease; e <= EventRevoked; e++ {
		all = append(all, e)
	}
	return all
}

// String gives the event in words.
func (e Event) String() string {
	if e < EventLease || e > EventRevoked {
		return "unknown"
	}
	return [...]string{"lease", "accept", "busy", "reject", "committing", "uncommitted", "committed", "overtaken", "succeeded", "failed",
		"failed for good", "stopped", "expired", "cancel", "aborted", "revoked"}[e-1]
}

// Facts are what a decision depends on beside state and event.
type Facts struct {
	// Tries tells that another attempt may be made.
	Tries bool
	// Cancel tells that an operator asked the job to stop.
	Cancel bool
	// Incomplete tells that the snapshot that exists lacks something.
	Incomplete bool
	// Reported tells that the current attempt has sent its closing report already.
	Reported bool
	// Ending is the state that the job takes once it is known to have no snapshot, or 0.
	Ending catalog.JobState
}

// Step is what follows from an event.
type Step struct {
	// State is the job's next state.
	State catalog.JobState
	// Attempt is the current attempt's next state, 0 when it stays as it is.
	Attempt catalog.AttemptState
	// Refused says why the event does not count; nothing changes then.
	Refused *errs.Kind
}

// Next is the state machine: what follows from an event in a state. It is pure.
//
//	queued ─lease▶ leased ─accept▶ running ─committing▶ committing ─committed▶ committed ─report▶ succeeded, failed
//	   ▲              │                │  ◀─uncommitted─    │
//	   └── busy, lost or failed with tries left ────────────┘       a restore goes from running to its end
//
// Terminal states never change. A job in committing ends only by what the store
// says.
func Next(s catalog.JobState, e Event, f Facts) Step {
	switch s {
	case catalog.JobQueued:
		return fromQueued(e, f)
	case catalog.JobLeased:
		return fromLeased(e, f)
	case catalog.JobRunning:
		return fromRunning(e, f)
	case catalog.JobCommitting:
		return fromCommitting(e, f)
	case catalog.JobCommitted:
		return fromCommitted(e, f)
	}
	if e == EventCancel && s == catalog.JobCanceled {
		return stay(s)
	}
	return refuse(s, errs.Conflict)
}

func stay(s catalog.JobState) Step { return Step{State: s} }

func refuse(s catalog.JobState, why *errs.Kind) Step { return Step{State: s, Refused: why} }

func end(s catalog.JobState, a catalog.AttemptState) Step { return Step{State: s, Attempt: a} }

// ended is where a job goes whose snapshot exists.
func ended(f Facts, a catalog.AttemptState) Step {
	if f.Incomplete {
		if a == catalog.AttemptSucceeded {
			a = catalog.AttemptFailed
		}
		return end(catalog.JobFailed, a)
	}
	return end(catalog.JobSucceeded, a)
}

// again is where a job goes whose attempt ended without what was asked for:
// another try, or its end.
func again(f Facts, a catalog.AttemptState, last catalog.JobState) Step {
	switch {
	case f.Cancel:
		return end(catalog.JobCanceled, catalog.AttemptCanceled)
	case f.Tries:
		return end(catalog.JobQueued, a)
	}
	return end(last, a)
}

func fromQueued(e Event, f Facts) Step {
	switch e {
	case EventLease:
		return end(catalog.JobLeased, catalog.AttemptOffered)
	case EventCancel:
		return end(catalog.JobCanceled, 0)
	case EventRevoked:
		return end(catalog.JobFailed, 0)
	case EventOvertaken:
		// A put of an attempt that was given up arrived after all.
		return ended(f, 0)
	case EventExpired:
		return stay(catalog.JobQueued)
	}
	return refuse(catalog.JobQueued, errs.Conflict)
}

func fromLeased(e Event, f Facts) Step {
	switch e {
	case EventAccept:
		return end(catalog.JobRunning, catalog.AttemptRunning)
	case EventBusy:
		if f.Cancel {
			return end(catalog.JobCanceled, catalog.AttemptCanceled)
		}
		return end(catalog.JobQueued, catalog.AttemptRejected)
	case EventReject:
		if f.Cancel {
			return end(catalog.JobCanceled, catalog.AttemptCanceled)
		}
		return end(catalog.JobFailed, catalog.AttemptRejected)
	case EventCancel:
		return stay(catalog.JobLeased)
	}
	// The data path and the session are two streams: what a running attempt does
	// may be seen before its acceptance is.
	step := fromRunning(e, f)
	if step.State == catalog.JobRunning {
		step.State = catalog.JobLeased
	}
	return step
}

func fromRunning(e Event, f Facts) Step {
	switch e {
	case EventAccept, EventCancel:
		return stay(catalog.JobRunning)
	case EventCommitting:
		if f.Cancel {
			return refuse(catalog.JobRunning, errs.Canceled)
		}
		return end(catalog.JobCommitting, catalog.AttemptCommitting)
	case EventUncommitted:
		return stay(catalog.JobRunning)
	case EventCommitted:
		return end(catalog.JobCommitted, catalog.AttemptCommitted)
	case EventOvertaken:
		return ended(f, catalog.AttemptSuperseded)
	case EventSucceeded:
		return end(catalog.JobSucceeded, catalog.AttemptSucceeded)
	case EventFailed:
		return again(f, catalog.AttemptFailed, catalog.JobFailed)
	case EventFailedForGood:
		f.Tries = false
		return again(f, catalog.AttemptFailed, catalog.JobFailed)
	case EventStopped:
		// An agent that stops by itself (it is shutting down) did not do the work.
		return again(f, catalog.AttemptCanceled, catalog.JobFailed)
	case EventExpired:
		return again(f, catalog.AttemptLost, catalog.JobLost)
	case EventRevoked:
		return end(catalog.JobFailed, catalog.AttemptLost)
	}
	return refuse(catalog.JobRunning, errs.Conflict)
}

func fromCommitting(e Event, f Facts) Step {
	switch e {
	case EventCommitting:
		if f.Ending != 0 {
			return refuse(catalog.JobCommitting, errs.Conflict)
		}
		return end(catalog.JobCommitting, catalog.AttemptCommitting)
	case EventCommitted:
		if f.Reported || f.Ending != 0 {
			return ended(f, catalog.AttemptSucceeded)
		}
		return end(catalog.JobCommitted, catalog.AttemptCommitted)
	case EventOvertaken:
		return ended(f, catalog.AttemptSuperseded)
	case EventUncommitted:
		switch {
		case f.Ending != 0:
			return stay(catalog.JobCommitting) // only the marker ends it
		case f.Reported:
			return again(f, catalog.AttemptFailed, catalog.JobFailed)
		}
		return end(catalog.JobRunning, catalog.AttemptRunning)
	case EventAborted:
		if f.Ending != 0 {
			return end(f.Ending, 0)
		}
		return end(catalog.JobFailed, catalog.AttemptFailed)
	case EventExpired:
		if f.Ending != 0 {
			return stay(catalog.JobCommitting)
		}
		// The agent is gone and the store has no snapshot of it now.
		return again(f, catalog.AttemptLost, catalog.JobLost)
	case EventAccept, EventSucceeded, EventFailed, EventFailedForGood, EventStopped, EventRevoked:
		return stay(catalog.JobCommitting) // the store decides, not the agent
	}
	return refuse(catalog.JobCommitting, errs.Conflict) // cancel waits for the store too
}

func fromCommitted(e Event, f Facts) Step {
	switch e {
	case EventAccept, EventCommitting, EventCommitted:
		return stay(catalog.JobCommitted)
	case EventSucceeded, EventFailed, EventFailedForGood, EventStopped, EventExpired, EventRevoked:
		// The snapshot exists, whatever the agent thinks: it may not have got the answer.
		return ended(f, catalog.AttemptSucceeded)
	}
	return refuse(catalog.JobCommitted, errs.Conflict)
}
