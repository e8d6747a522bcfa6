package catalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Class says whether and how a change reaches the catalog log in the store.
type Class int

// The classes of changes.
const (
	// Local changes stay in the file: what is of the moment, or found again in the store.
	Local Class = iota
	// Async changes are in the store within seconds: job history, inventory, labels, audit.
	Async
	// Sync changes are in the store before Update returns: revocations, roles, used
	// tokens, domain membership.
	Sync
)

// Catalog is the open catalog. Its methods may be called concurrently.
type Catalog struct {
	db       *bbolt.DB
	detached bool
	changed  chan struct{} // of 1: something is in the outbox

	mu       sync.Mutex
	stopped  error         // why nothing may be written any more
	shipped  uint64        // every batch up to this one is in the store
	awaited  uint64        // newest batch that somebody waits for
	progress chan struct{} // closed and replaced when shipped or stopped changes
	head     Witness       // newest record of the log
}

// load reads what is kept in memory.
func (c *Catalog) load(ctx context.Context) error {
	return c.View(ctx, func(tx *Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		c.head = m.Head
		c.shipped = tx.bolt.Bucket([]byte(bucketOutbox)).Sequence()
		if k, _ := tx.cursor(bucketOutbox).First(); k != nil {
			// Whoever waited for it before a restart is not known: ship it at once.
			c.shipped, c.awaited = number(k)-1, number(k)
			c.signal()
		}
		return nil
	})
}

// Close ends the use of the file. It waits for transactions to end.
func (c *Catalog) Close() error {
	c.StopWriting(fmt.Errorf("the catalog is closed: %w", errs.Unavailable))
	return classify(c.db.Close())
}

// View runs fn in a read-only transaction, which sees one state of the whole
// catalog and blocks nobody. fn must not keep the Tx, and must not call Update.
func (c *Catalog) View(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var inner error
	if err := c.db.View(func(b *bbolt.Tx) error { inner = fn(&Tx{bolt: b}); return nil }); err != nil {
		return fmt.Errorf("read catalog: %w", classify(err))
	}
	return inner
}

// Update runs fn in a read-write transaction, one at a time. When fn returns an
// error nothing is changed, and the error is returned as it is. When Update
// returns nil the change is durable in the file and, with class Sync, in the
// store's log.
//
// A Sync change is durable in the file before it is in the store. When the store
// does not answer before ctx ends, Update returns Unavailable: the change is made
// and takes effect, and reaches the store when that answers again.
func (c *Catalog) Update(ctx context.Context, class Class, fn func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.writable(); err != nil {
		return err
	}
	var sequence uint64
	var inner error
	err := c.db.Update(func(b *bbolt.Tx) error {
		tx := &Tx{bolt: b, collect: class != Local}
		if inner = fn(tx); inner != nil {
			return inner
		}
		sequence, inner = tx.flush(class)
		return inner
	})
	switch {
	case inner != nil:
		return inner
	case err != nil:
		return fmt.Errorf("write catalog: %w", classify(err))
	case sequence == 0:
		return nil
	}
	if class == Sync {
		c.mu.Lock()
		c.awaited = max(c.awaited, sequence)
		c.mu.Unlock()
	}
	c.signal()
	if class != Sync || c.detached {
		return nil
	}
	return c.waitShipped(ctx, sequence)
}

func (c *Catalog) writable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// StopWriting makes every later Update, and every Sync one that waits, fail with
// cause: another controller has taken over, or the catalog is closed.
func (c *Catalog) StopWriting(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == nil {
		c.stopped = cause
		c.wakeLocked()
	}
}

func (c *Catalog) wakeLocked() {
	close(c.progress)
	c.progress = make(chan struct{})
}

// signal tells the exporter that there is something in the outbox.
func (c *Catalog) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Catalog) waitShipped(ctx context.Context, sequence uint64) error {
	for {
		c.mu.Lock()
		shipped, stopped, progress := c.shipped, c.stopped, c.progress
		c.mu.Unlock()
		switch {
		case shipped >= sequence:
			return nil
		case stopped != nil:
			return fmt.Errorf("the change is recorded here but not in the store: %w", stopped)
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("the change is recorded here, the store has not answered yet: %w (%w)", errs.Unavailable, context.Cause(ctx))
		}
	}
}

// Head gives the newest record of the catalog log that this catalog has written.
func (c *Catalog) Head() Witness {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// now is the time that records get, in UTC and without the monotonic part, as
// it will be read back.
func now() time.Time { return time.Now().UTC().Round(0) }
