package blobtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Effect is what a planned fault does.
type Effect byte

// The effects.
const (
	// Fail does nothing and returns the fault's error.
	Fail Effect = iota + 1
	// Ambiguous does the Create or Delete and reports errs.Unavailable, as when the
	// answer is lost.
	Ambiguous
	// Vanish does not do the Create and reports success, as a lying store does.
	Vanish
	// Torn gives only half of the bytes of an Open, and then a clean end.
	Torn
	// Flip inverts one bit in the middle of the bytes of an Open.
	Flip
	// Break gives half of the bytes of an Open and then the fault's error.
	Break
)

// Fault is one planned fault: at the Nth call (from 1) of Op whose key starts
// with Prefix, Effect happens, once.
type Fault struct {
	Op     blob.Op
	Prefix string
	Nth    int
	Effect Effect
	// Err is what Fail and Break return; errs.Unavailable when nil.
	Err error
}

// Faulty is a store that fails as planned. The zero plan is a store without
// faults that counts its durable steps. It may be used concurrently; which call
// is the Nth is then up to the scheduler.
type Faulty struct {
	store blob.Store

	mu      sync.Mutex
	steps   int
	limit   int // durable steps that are done; the rest fail; -1 for all
	stopped bool
	faults  []*plannedFault
}

type plannedFault struct {
	Fault
	seen     int
	happened bool
}

var _ blob.Store = (*Faulty)(nil)

// NewFaulty wraps a store.
func NewFaulty(s blob.Store) *Faulty { return &Faulty{store: s, limit: -1} }

// StopAfter lets n more durable steps (Creates and Deletes that are done) pass.
// The next one is not done, and from then on every call fails with
// errs.Unavailable: the process that used the store is as good as dead.
func (f *Faulty) StopAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = f.steps + n
}

// Steps is the number of durable steps done so far.
func (f *Faulty) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Stopped tells whether StopAfter has taken effect.
func (f *Faulty) Stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// Plan adds faults.
func (f *Faulty) Plan(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range faults {
		if x.Err == nil {
			x.Err = errs.Unavailable
		}
		f.faults = append(f.faults, &plannedFault{Fault: x})
	}
}

// Verify fails the test for each planned fault that never happened: a test whose
// fault did not happen has shown nothing.
func (f *Faulty) Verify(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		if !x.happened {
			t.Errorf("planned fault never happened: effect %d at call %d of %s %s…", x.Effect, x.Nth, x.Op, x.Prefix)
		}
	}
}

// errStopped is what a stopped store returns.
var errStopped = fmt.Errorf("store stopped: %w", errs.Unavailable)

// meet counts a call and gives the fault that is planned for it, or nil.
func (f *Faulty) meet(op blob.Op, key string) (*Fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil, errStopped
	}
	var met *Fault
	for _, x := range f.faults {
		if x.Op != op || !strings.HasPrefix(key, x.Prefix) {
			continue
		}
		if x.seen++; x.seen == x.Nth && met == nil {
			x.happened = true
			met = &x.Fault
		}
	}
	if met != nil && met.Effect == Fail {
		return nil, fmt.Errorf("planned fault at %s: %w", key, met.Err)
	}
	return met, nil
}

// step takes one durable step off what is left, before it is done, so that
// concurrent steps never are more than allowed.
func (f *Faulty) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || f.limit >= 0 && f.steps >= f.limit {
		f.stopped = true
		return errStopped
	}
	f.steps++
	return nil
}

// undo gives a step back that changed nothing.
func (f *Faulty) undo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps--
}

// Create is that of the store below, with the planned faults.
func (f *Faulty) Create(ctx context.Context, key string, body blob.Body) error {
	fault, err := f.meet(blob.OpCreate, key)
	if err != nil {
		return err
	}
	if fault != nil && fault.Effect == Vanish {
		return nil
	}
	if err := f.step(); err != nil {
		return err
	}
	if err := f.store.Create(ctx, key, body); err != nil {
		f.undo()
		return err
	}
	return f.ambiguous(fault, key)
}

// Delete is that of the store below, with the planned faults.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	fault, err := f.meet(blob.OpDelete, key)
	if err != nil {
		return err
	}
	if err := f.step(); err != nil {
		return err
	}
	if err := f.store.Delete(ctx, key); err != nil {
		f.undo()
		return err
	}
	return f.ambiguous(fault, key)
}

func (f *Faulty) ambiguous(fault *Fault, key string) error {
	if fault != nil && fault.Effect == Ambiguous {
		return fmt.Errorf("planned: no answer for %s: %w", key, errs.Unavailable)
	}
	return nil
}

// Stat is that of the store below, with the planned faults.
func (f *Faulty) Stat(ctx context.Context, key string) (blob.Info, error) {
	if _, err := f.meet(blob.OpStat, key); err != nil {
		return blob.Info{}, err
	}
	return f.store.Stat(ctx, key)
}

// List is that of the store below, with the planned faults. The call's key is
// its prefix.
func (f *Faulty) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if _, err := f.meet(blob.OpList, prefix); err != nil {
		return err
	}
	return f.store.List(ctx, prefix, after, func(info blob.Info) error {
		if f.Stopped() {
			return errStopped
		}
		return fn(info)
	})
}

// Open is that of the store below, with the planned faults.
func (f *Faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	fault, err := f.meet(blob.OpOpen, key)
	if err != nil {
		return nil, err
	}
	r, err := f.store.Open(ctx, key, offset, length)
	if err != nil || fault == nil {
		return r, err
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return io.NopCloser(spoil(data, fault)), nil
}

func spoil(data []byte, fault *Fault) io.Reader {
	half := len(data) / 2
	switch fault.Effect {
	case Torn:
		return strings.NewReader(string(data[:half]))
	case Break:
		return io.MultiReader(strings.NewReader(string(data[:half])), failing{fault.Err})
	case Flip:
		if len(data) > 0 {
			data[half] ^= 1 << (half % 8)
		}
	}
	return strings.NewReader(string(data))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Features are those of the store below.
func (f *Faulty) Features() blob.Features { return f.store.Features() }
