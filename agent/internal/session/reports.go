package session

import (
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
)

// Bounds of what an attempt can make the agent hold for it.
const (
	// maxLines is how many log lines of an attempt wait to be sent: some minutes
	// of a chatty one. Beyond it the oldest go.
	maxLines = 1000
	// maxLine bounds one line, in bytes.
	maxLine = 8 << 10
	// progressEvery is the shortest time between two progress messages of an attempt.
	progressEvery = time.Second
)

// line is a log line of an attempt.
type line struct {
	at             time.Time
	level, message string
}

// reports holds what an attempt said and what was not sent yet. The runner's
// mutex guards it.
type reports struct {
	lines   []line
	dropped int
	// progress is the newest, nil when it was sent.
	progress   *job.Progress
	progressAt time.Time
	// progressSent is when one was sent last.
	progressSent time.Time
}

// log adds a line and drops the oldest when there are too many.
func (r *reports) log(l line) {
	if len(l.message) > maxLine {
		l.message = l.message[:maxLine]
	}
	if len(r.lines) >= maxLines {
		r.lines = r.lines[1:]
		r.dropped++
	}
	r.lines = append(r.lines, l)
}

// nextLine takes the oldest line; after a gap, a line that tells of it.
func (r *reports) nextLine() (line, bool) {
	if len(r.lines) == 0 {
		return line{}, false
	}
	if n := r.dropped; n > 0 {
		r.dropped = 0
		return line{r.lines[0].at, "warn", fmt.Sprintf("%d log lines dropped: they came faster than they could be sent", n)}, true
	}
	l := r.lines[0]
	if r.lines = r.lines[1:]; len(r.lines) == 0 {
		r.lines = nil // lets the array go
	}
	return l, true
}

// nextProgress takes the newest progress when it is due, else it tells how long
// until then; 0 means that there is none.
func (r *reports) nextProgress(now time.Time) (p *job.Progress, at time.Time, wait time.Duration) {
	if r.progress == nil {
		return nil, time.Time{}, 0
	}
	if wait := r.progressSent.Add(progressEvery).Sub(now); wait > 0 {
		return nil, time.Time{}, wait
	}
	p, r.progress, r.progressSent = r.progress, nil, now
	return p, r.progressAt, 0
}

// reporter is what an executor is given.
type reporter struct {
	runner  *runner
	attempt *attempt
}

// Progress replaces what was said before.
func (r reporter) Progress(p job.Progress) {
	r.runner.mu.Lock()
	r.attempt.reports.progress, r.attempt.reports.progressAt = &p, time.Now()
	r.runner.mu.Unlock()
	r.runner.wakeUp()
}

// Log adds one line to the attempt's log.
func (r reporter) Log(level, msg string) {
	switch level {
	case "debug", "info", "warn", "error":
	default:
		level = "info"
	}
	r.runner.mu.Lock()
	r.attempt.reports.log(line{time.Now(), level, msg})
	r.runner.mu.Unlock()
	r.runner.wakeUp()
}

var _ job.Reporter = reporter{}
