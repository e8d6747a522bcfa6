package check

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// readOnly is the store as a check sees it: nothing can be written, and what is
// read keeps to the pace.
type readOnly struct {
	blob.Store
	pace *pace
}

var _ blob.Store = readOnly{}

// Create refuses: a check changes nothing.
func (r readOnly) Create(_ context.Context, key string, _ blob.Body) error {
	return fmt.Errorf("create object %s in a check: %w", key, errs.ReadOnly)
}

// Delete refuses: a check changes nothing.
func (r readOnly) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete object %s in a check: %w", key, errs.ReadOnly)
}

// Open reads a range at the pace.
func (r readOnly) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	body, err := r.Store.Open(ctx, key, offset, length)
	if err != nil || r.pace == nil {
		return body, err
	}
	return &pacedReader{ReadCloser: body, ctx: ctx, pace: r.pace}, nil
}

// pacedReader waits after each read until the bytes were due.
type pacedReader struct {
	io.ReadCloser
	ctx  context.Context // of the one call that the reader belongs to
	pace *pace
}

// Read reads what there is, then waits.
func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if n > 0 {
		if waited := p.pace.wait(p.ctx, n); waited != nil {
			return n, waited
		}
	}
	return n, err
}

// pace spreads bytes over time. It may be used concurrently.
type pace struct {
	perSecond int64

	mu  sync.Mutex
	due time.Time // when the bytes given out so far are used up
}

// burst is how far ahead of the pace reads may be: small reads need no timer.
const burst = 200 * time.Millisecond

func newPace(bytesPerSecond int64) *pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &pace{perSecond: bytesPerSecond}
}

func (p *pace) wait(ctx context.Context, bytes int) error {
	p.mu.Lock()
	start := time.Now()
	if p.due.Before(start) {
		p.due = start
	}
	p.due = p.due.Add(time.Duration(float64(bytes) / float64(p.perSecond) * float64(time.Second)))
	left := p.due.Sub(start) - burst
	p.mu.Unlock()
	if left <= 0 {
		return nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
