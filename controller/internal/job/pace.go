package job

import "time"

// Bounds of a pace.
const (
	// paceWindow is the time over which the rate is taken: long enough to be calm,
	// short enough to show that something has changed.
	paceWindow = 10 * time.Second
	// paceStep is the least time between two samples that are kept, so that a window
	// never has more than paceWindow/paceStep and a few.
	paceStep = 500 * time.Millisecond
)

// sample is how many plain bytes an attempt had moved at a moment. The time is
// ours and has a monotonic reading: no clock that is set disturbs the rate.
type sample struct {
	at    time.Time
	bytes int64
}

// pace are samples of one attempt, oldest first: those of the last paceWindow and
// the one before them.
type pace []sample

// add takes what was moved by now. What went back (a table is read again) makes
// a new start.
func (p pace) add(now time.Time, bytes int64) pace {
	if n := len(p); n > 0 {
		switch last := p[n-1]; {
		case bytes < last.bytes:
			p = p[:0]
		case now.Sub(last.at) < paceStep:
			return p
		}
	}
	p = append(p, sample{now, bytes})
	for len(p) > 2 && now.Sub(p[1].at) >= paceWindow {
		p = p[1:]
	}
	return p
}

// rate is in bytes per second, 0 when unknown.
func (p pace) rate() int64 {
	if len(p) < 2 {
		return 0
	}
	first, last := p[0], p[len(p)-1]
	return int64(float64(last.bytes-first.bytes) / last.at.Sub(first.at).Seconds())
}

// moved adds up the plain bytes of all databases.
func moved(p *Progress) int64 {
	var n int64
	for i := range p.Databases {
		n += p.Databases[i].BytesDone
	}
	return n
}

// secondsLeft estimates how long rows will still be read or loaded at a rate, 0
// when that cannot be said: nothing moves, nothing is left to move, or a database
// does not know yet how much there is of it.
func secondsLeft(p *Progress, rate int64) int64 {
	var left int64
	for i := range p.Databases {
		d := &p.Databases[i]
		switch {
		case d.Phase == "done" || d.Phase == "failed":
		case d.BytesTotal == 0 && d.BytesDone == 0 && d.Phase != "data":
			return 0
		default:
			left += max(d.BytesTotal-d.BytesDone, 0)
		}
	}
	if left == 0 || rate <= 0 {
		return 0
	}
	return max(left/rate, 1)
}
