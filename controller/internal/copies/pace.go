package copies

import (
	"context"
	"io"
	"sync"
	"time"
)

// pace spreads bytes over time. It may be used concurrently; nil has no bound.
type pace struct {
	perSecond int64

	mu  sync.Mutex
	due time.Time // when the bytes taken so far are used up
}

// burst is how far ahead of the pace reads may be: small objects need no timer.
const burst = 200 * time.Millisecond

func newPace(bytesPerSecond int64) *pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &pace{perSecond: bytesPerSecond}
}

// wait takes bytes and waits until they were due.
func (p *pace) wait(ctx context.Context, bytes int) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	start := time.Now()
	if p.due.Before(start) {
		p.due = start
	}
	p.due = p.due.Add(time.Duration(float64(bytes) / float64(p.perSecond) * float64(time.Second)))
	left := p.due.Sub(start) - burst
	p.mu.Unlock()
	return sleep(ctx, left)
}

// sleep waits for a time, or for the end with its cause.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pacedReader waits after each read.
type pacedReader struct {
	io.Reader
	ctx  context.Context // of the one call that the reader belongs to
	pace *pace
}

// Read reads what there is, then waits until it was due.
func (p pacedReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		if waited := p.pace.wait(p.ctx, n); waited != nil {
			return n, waited
		}
	}
	return n, err
}
