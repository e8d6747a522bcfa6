package s3

import (
	"net/http"
	"sync"
	"time"
)

// clock is the service's, as its answers tell it: the end of a lock is a time of
// the service, and must not depend on a clock of this machine that is wrong by
// months.
type clock struct {
	mu   sync.Mutex
	date time.Time // of the newest answer, by the service
	at   time.Time // the same moment, here; it carries a monotonic reading
}

// heard takes in the time of an answer.
func (c *clock) heard(h http.Header) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.date, c.at = date, time.Now()
}

// now is the service's time; this machine's before the first answer, and of a
// service that tells none.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.date.IsZero() {
		return time.Now()
	}
	return c.date.Add(time.Since(c.at))
}
