package dump

import (
	"context"
	"slices"
	"sync"
)

// queue holds the items of the open databases. Databases come first in, first
// out; inside one the biggest item is first.
type queue struct {
	mu      sync.Mutex
	order   []*database
	pending map[*database][]*item
	closed  bool
	// changed is closed and replaced at each change: who waits looks again.
	changed chan struct{}
}

func newQueue() *queue {
	return &queue{pending: map[*database][]*item{}, changed: make(chan struct{})}
}

func (q *queue) signalLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// add gives a database's items to the workers.
func (q *queue) add(d *database) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.order = append(q.order, d)
	q.pending[d] = d.items
	q.signalLocked()
}

// close tells that no database will follow.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signalLocked()
}

// poll takes the next item of one database without waiting.
func (q *queue) poll(d *database) (*item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.takeLocked(d)
}

// next takes the next item of any database and waits for one; nil means that
// there will be none.
func (q *queue) next(ctx context.Context) (*item, error) {
	for {
		q.mu.Lock()
		for _, d := range slices.Clone(q.order) { // takeLocked changes it
			if i, ok := q.takeLocked(d); ok {
				q.mu.Unlock()
				return i, nil
			}
		}
		changed, closed := q.changed, q.closed
		q.mu.Unlock()
		if closed {
			return nil, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// takeLocked takes an item of d. The items of a database that failed are dropped.
func (q *queue) takeLocked(d *database) (*item, bool) {
	if d == nil {
		return nil, false
	}
	items := q.pending[d]
	if len(items) > 0 && d.failed() {
		items = nil
	}
	if len(items) == 0 {
		if _, known := q.pending[d]; known {
			delete(q.pending, d)
			q.order = slices.DeleteFunc(q.order, func(o *database) bool { return o == d })
			q.signalLocked()
		}
		return nil, false
	}
	q.pending[d] = items[1:]
	q.signalLocked()
	return items[0], true
}

// wait returns when fewer than n items wait for a worker.
func (q *queue) wait(ctx context.Context, n int) error {
	for {
		q.mu.Lock()
		waiting := 0
		for d, items := range q.pending {
			if !d.failed() {
				waiting += len(items)
			}
		}
		changed := q.changed
		q.mu.Unlock()
		if waiting < n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
