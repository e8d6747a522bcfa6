package session

import (
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// report is something to send about an attempt: exactly one of line, progress
// and result is set.
type report struct {
	ref      job.Ref
	line     *line
	progress *job.Progress
	at       time.Time
	result   *job.Result
}

// next takes the next thing to send on link number n: log lines and results
// before progress, and of one attempt the log before the result. Without any it
// tells how long until progress is due; 0 means nothing is.
func (r *runner) next(n int, now time.Time) (*report, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refs := make([]job.Ref, 0, len(r.attempts))
	for ref, a := range r.attempts {
		if !a.abandoned {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, func(a, b job.Ref) int { return compare(a.Fence, b.Fence) })
	for _, ended := range []bool{true, false} { // a chatty attempt must not hold the results of others up
		for _, ref := range refs {
			a := r.attempts[ref]
			if (a.result != nil) != ended {
				continue
			}
			if l, ok := a.reports.nextLine(); ok {
				return &report{ref: ref, line: &l}, 0
			}
			if a.result != nil && a.sentIn != n {
				a.sentIn = n
				return &report{ref: ref, result: a.result}, 0
			}
		}
	}
	wait := time.Duration(0)
	for _, ref := range refs {
		a := r.attempts[ref]
		if a.result != nil {
			continue
		}
		p, at, w := a.reports.nextProgress(now)
		if p != nil {
			return &report{ref: ref, progress: p, at: at}, 0
		}
		if w > 0 && (wait == 0 || w < wait) {
			wait = w
		}
	}
	return nil, wait
}

// compare orders fences.
func compare(a, b repo.Fence) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// held lists the attempts whose leases must go on: those that run, and those
// whose results the controller has not acknowledged.
func (r *runner) held() []job.Ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []job.Ref
	for ref, a := range r.attempts {
		if !a.abandoned {
			out = append(out, ref)
		}
	}
	slices.SortFunc(out, func(a, b job.Ref) int { return compare(a.Fence, b.Fence) })
	return out
}
