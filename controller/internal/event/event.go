// Package event keeps the newest events of the fleet in memory and lets
// followers read on from any of them. Nobody who publishes ever waits: followers
// read at their own pace from the one ring, and those that fall behind its
// oldest event are told so and cut off. Nothing is written down: what the events
// are about is in the catalog.
package event

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Kind is what happened.
type Kind int

// The kinds.
const (
	JobQueued Kind = iota + 1
	JobLeased
	JobRunning
	JobCommitting
	JobSucceeded
	JobFailed
	JobCanceled
	JobLost
	SnapshotCommitted
	AgentEnrolled
	AgentOnline
	AgentOffline
	AgentRevoked
	CheckStarted
	CheckEnded
	DamageFound
	DamageHealed
	DeletionChanged
	SnapshotForgotten
	SnapshotUnforgotten
	SnapshotHeld
	SnapshotReleased
	SnapshotPurged
)

// The kinds that tell of copies of the repository.
const (
	CopyLate Kind = iota + 55
	CopyCaughtUp
	CopyAlarm
	ObjectHealed
)

// Kinds lists every kind, for tables that must be complete.
func Kinds() []Kind {
	var all []Kind
	for k := JobQueued; k <= SnapshotPurged; k++ {
		all = append(all, k)
	}
	return append(all, CopyLate, CopyCaughtUp, CopyAlarm, ObjectHealed)
}

// OfState gives the kind that tells of a job's state; false for a state that
// people do not see.
func OfState(s catalog.JobState) (Kind, bool) {
	k, ok := map[catalog.JobState]Kind{
		catalog.JobQueued: JobQueued, catalog.JobLeased: JobLeased, catalog.JobRunning: JobRunning, catalog.JobCommitting: JobCommitting,
		catalog.JobSucceeded: JobSucceeded, catalog.JobFailed: JobFailed, catalog.JobCanceled: JobCanceled, catalog.JobLost: JobLost,
	}[s]
	return k, ok
}

// Event is something that happened.
type Event struct {
	// Sequence and Time are given by Publish.
	Sequence int64
	Time     time.Time
	// Kind says what happened.
	Kind Kind
	// Agent it is about or that works, by id and, where only that is known, by name.
	Agent     repo.AgentID
	AgentName string
	// Instance is the full name of the one that works.
	Instance string
	// Job it is about, zero for none, with its kind.
	Job     repo.JobID
	JobKind catalog.JobKind
	DryRun  bool
	// Snapshot that exists or is restored from, zero for none.
	Snapshot repo.JobID
	// Message is one line for people, at most maxMessage bytes.
	Message string
}

// Bounds of a Log. The ring of 10,000 events of at most about a kilobyte takes
// 10 MB at the most, and at a hundred jobs an hour reaches back a day.
const (
	// Size is how many events are kept.
	Size = 10_000
	// maxMessage bounds the text of one, in bytes.
	maxMessage = 512
	// maxFollowers bounds those that follow at a time.
	maxFollowers = 256
)

// Log keeps events. Its methods may be called concurrently.
type Log struct {
	mu      sync.Mutex
	ring    []Event // of size; the event with sequence s is at s modulo size
	base    int64   // sequence of the first event that was published
	next    int64   // sequence of the next one
	closed  bool
	waiting map[chan struct{}]struct{}
}

// New makes an empty log of a process that started at a time. Sequences begin
// with that time, so that they go on growing over restarts: in microseconds, of
// which no process publishes one event each. They stay below 2^53, where readers
// of JSON lose digits, until the year 2255.
func New(started time.Time, size int) *Log {
	first := started.UnixMicro()
	return &Log{ring: make([]Event, 0, size), base: first, next: first, waiting: make(map[chan struct{}]struct{})}
}

// Publish adds an event and returns at once.
func (l *Log) Publish(e Event) {
	e.Message = clip(e.Message)
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Sequence, e.Time = l.next, time.Now()
	l.next++
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.at(e.Sequence)] = e
	}
	l.wakeLocked()
}

// at is where the event with a sequence is.
func (l *Log) at(sequence int64) int { return int((sequence - l.base) % int64(cap(l.ring))) }

// firstLocked is the sequence of the oldest event that is kept, next if there is none.
func (l *Log) firstLocked() int64 { return l.next - int64(len(l.ring)) }

func (l *Log) wakeLocked() {
	for w := range l.waiting {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Run waits until ctx ends, and then lets every follower end.
func (l *Log) Run(ctx context.Context) error {
	<-ctx.Done()
	l.Close()
	return nil
}

// Close lets every follower end once it has what there is.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wakeLocked()
}

// Gap says that events may be missing before the first one that a follower gets.
type Gap struct {
	// First is the oldest sequence that there is.
	First int64
	// Reason is for people.
	Reason string
}

// Follower reads events in order. It is for one goroutine at a time.
type Follower struct {
	log  *Log
	next int64
	news chan struct{} // of 1: there may be events
}

// Newest given to Follow means from now on.
const Newest = -1

// Follow begins after an event, or with what comes from now on. The gap is nil
// when nothing can be missing. Close must be called. Busy: there are too many.
func (l *Log) Follow(after int64) (*Follower, *Gap, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxFollowers {
		return nil, nil, fmt.Errorf("follow events: %d follow already: %w", maxFollowers, errs.Busy)
	}
	f := &Follower{log: l, news: make(chan struct{}, 1)}
	var gap *Gap
	switch first := l.firstLocked(); {
	case after == Newest:
		f.next = l.next
	case after == 0: // all that there are
		f.next = first
	case after >= l.next:
		f.next = first
		gap = &Gap{first, "no event of this number was yet: it is of another controller, or its clock was set back"}
	case after+1 < l.base:
		f.next = first
		gap = &Gap{first, "the controller was restarted since"}
	case after+1 < first:
		f.next = first
		gap = &Gap{first, fmt.Sprintf("only the newest %d events are kept", cap(l.ring))}
	default:
		f.next = after + 1
	}
	l.waiting[f.news] = struct{}{}
	return f, gap, nil
}

// News gets something when there may be new events.
func (f *Follower) News() <-chan struct{} { return f.news }

// batch bounds what Take gives at a time.
const batch = 256

// Take gives the next events, none when there are none. A follower that read too
// slowly gets Exhausted, with the number from which it can go on; Unavailable
// tells that the controller is stopping and nothing follows.
func (f *Follower) Take() ([]Event, error) {
	l := f.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.firstLocked(); f.next < first {
		return nil, fmt.Errorf("follow events: read too slowly, %d events that came after number %d are gone: %w", first-f.next, f.next-1, errs.Exhausted)
	}
	var out []Event
	for ; f.next < l.next && len(out) < batch; f.next++ {
		out = append(out, l.ring[l.at(f.next)])
	}
	if len(out) == 0 && l.closed {
		return nil, fmt.Errorf("follow events: the controller is stopping: %w", errs.Unavailable)
	}
	return out, nil
}

// Last is the sequence of the event before the next one that Take gives.
func (f *Follower) Last() int64 { return f.next - 1 }

// Close ends following.
func (f *Follower) Close() {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	delete(f.log.waiting, f.news)
}

// clip gives a text of one line and at most maxMessage bytes.
func clip(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > maxMessage {
		s = s[:maxMessage-3] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
