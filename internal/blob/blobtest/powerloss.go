package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// PowerLoss is a store whose machine loses its power, as seen from above: every
// Create and Delete that was answered stays done; those that were under way are
// done or not, each by itself, whatever was to be seen of them before. From then
// on every call fails with errs.Unavailable: the process that used the store is
// dead. Go on with the store below, wrapped anew for the next loss:
//
//	below := mem.New()
//	power := blobtest.NewPowerLoss(below, rng)
//	power.LoseAfter(n)         // or Lose, from another goroutine, at any moment
//	…                          // run what is tested on power until it fails
//	…                          // reopen on below: acknowledged things are there
//
// Deterministic where the calls come one after the other; with several at a time
// the scheduler and rng decide which are under way.
type PowerLoss struct {
	store blob.Store

	mu    sync.Mutex
	rng   *rand.Rand
	steps int
	limit int // durable steps that are answered; -1 for all
	lost  bool
	// underWay holds what was done and not answered, by key.
	underWay map[string]*unanswered
	torn     bool
}

// unanswered is a Create or Delete that others may see and that a loss may undo.
type unanswered struct {
	ctx     context.Context // of the call, without its end: what is lost is lost whoever waits
	remove  bool            // it was a Create: undo by removing
	data    []byte          // it was a Delete: undo by creating
	created []byte          // of a Create, what a torn write is cut from
}

var _ blob.Store = (*PowerLoss)(nil)

// NewPowerLoss wraps a store. Fates are drawn from rng, which nobody else may use.
func NewPowerLoss(s blob.Store, rng *rand.Rand) *PowerLoss {
	return &PowerLoss{store: s, rng: rng, limit: -1, underWay: map[string]*unanswered{}}
}

// Tear makes the loss leave parts of objects as well, which no driver of ours
// does: for what must be noticed, not for what must be survived.
func (p *PowerLoss) Tear() *PowerLoss { p.torn = true; return p }

// LoseAfter lets n more durable steps (Creates and Deletes that are done) be
// answered. The power goes while the next is under way.
func (p *PowerLoss) LoseAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = p.steps + n
}

// Lose cuts the power now.
func (p *PowerLoss) Lose() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lose()
}

// Lost tells whether the power is gone.
func (p *PowerLoss) Lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Steps is the number of durable steps answered so far.
func (p *PowerLoss) Steps() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps
}

var errPowerLost = fmt.Errorf("the store's machine lost its power: %w", errs.Unavailable)

// lose decides what becomes of all that is under way. It is called with the lock
// held.
func (p *PowerLoss) lose() (err error) {
	if p.lost {
		return nil
	}
	p.lost = true
	for _, key := range sortedNames(p.underWay) {
		u := p.underWay[key]
		if p.rng.IntN(2) == 0 {
			continue // it stays as it was done
		}
		if !u.remove {
			err = errors.Join(err, p.store.Create(u.ctx, key, blob.Bytes(u.data)))
			continue
		}
		err = errors.Join(err, p.store.Delete(u.ctx, key))
		if p.torn && len(u.created) > 0 && p.rng.IntN(2) == 0 {
			part := u.created[:p.rng.IntN(len(u.created))]
			err = errors.Join(err, p.store.Create(u.ctx, key, blob.Bytes(part)))
		}
	}
	return err
}

// begin does the change under the lock, so that a loss finds it done or not begun.
func (p *PowerLoss) begin(key string, u *unanswered, do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		return errPowerLost
	}
	if err := do(); err != nil {
		if errors.Is(err, errs.Exists) {
			delete(p.underWay, key) // whoever is told that it exists may rely on it
		}
		return err
	}
	p.underWay[key] = u
	if p.limit >= 0 && p.steps >= p.limit {
		return errors.Join(errPowerLost, p.lose())
	}
	return nil
}

// answer makes the change last, unless the power went first.
func (p *PowerLoss) answer(key string, u *unanswered) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		return errPowerLost
	}
	p.steps++
	if p.underWay[key] == u {
		delete(p.underWay, key)
	}
	return nil
}

// Create is that of the store below, until the power goes.
func (p *PowerLoss) Create(ctx context.Context, key string, body blob.Body) error {
	var buf bytes.Buffer // before the lock is taken: a body may be slow
	if err := blob.CopyBody(&buf, body); err != nil {
		return fmt.Errorf("create object %s: %w", key, err)
	}
	u := &unanswered{ctx: context.WithoutCancel(ctx), remove: true, created: buf.Bytes()}
	if err := p.begin(key, u, func() error { return p.store.Create(ctx, key, blob.Bytes(buf.Bytes())) }); err != nil {
		return err
	}
	return p.answer(key, u)
}

// Delete is that of the store below, until the power goes.
func (p *PowerLoss) Delete(ctx context.Context, key string) error {
	u := &unanswered{ctx: context.WithoutCancel(ctx)}
	err := p.begin(key, u, func() error {
		data, err := blob.ReadAll(ctx, p.store, key, 1<<30)
		if errors.Is(err, errs.NotFound) {
			u.remove = true // nothing to bring back
			err = nil
		}
		if err != nil {
			return err
		}
		u.data = data
		return p.store.Delete(ctx, key)
	})
	if err != nil {
		return err
	}
	return p.answer(key, u)
}

// Open is that of the store below, until the power goes.
func (p *PowerLoss) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if p.Lost() {
		return nil, errPowerLost
	}
	return p.store.Open(ctx, key, offset, length)
}

// Stat is that of the store below, until the power goes.
func (p *PowerLoss) Stat(ctx context.Context, key string) (blob.Info, error) {
	if p.Lost() {
		return blob.Info{}, errPowerLost
	}
	return p.store.Stat(ctx, key)
}

// List is that of the store below, until the power goes.
func (p *PowerLoss) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if p.Lost() {
		return errPowerLost
	}
	return p.store.List(ctx, prefix, after, func(info blob.Info) error {
		if p.Lost() {
			return errPowerLost
		}
		return fn(info)
	})
}

// Features are those of the store below.
func (p *PowerLoss) Features() blob.Features { return p.store.Features() }
