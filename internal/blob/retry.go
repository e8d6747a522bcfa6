package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// RetryOptions bound a retrying store. A zero field means its default.
type RetryOptions struct {
	// Attempts is the greatest number of attempts of one call; 5 by default.
	Attempts int
	// Elapsed is the time after whose end no further attempt begins; 5 minutes by
	// default.
	Elapsed time.Duration
	// Call bounds one attempt; of List, the wait for each object; of a reader, each
	// read. 1 minute by default: the time of a pack at 1 MiB/s.
	Call time.Duration
	// Wait is the wait before the second attempt; it doubles up to WaitMax, and is
	// spread between half and all of itself so that callers part. 100 ms and 5 s by
	// default.
	Wait, WaitMax time.Duration
}

func (o RetryOptions) withDefaults() RetryOptions {
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	for _, f := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.Elapsed, 5 * time.Minute}, {&o.Call, time.Minute}, {&o.Wait, 100 * time.Millisecond}, {&o.WaitMax, 5 * time.Second}} {
		if *f.value <= 0 {
			*f.value = f.standard
		}
	}
	return o
}

// Retry gives a store that repeats what ended in errs.Unavailable, or took
// longer than a call may, and nothing else.
//
// A Create whose answer did not come may have been done. If a later attempt then
// finds that the object exists, it is read back: the same bytes are success,
// others are errs.Exists. As long as that is open, every error is errs.Unavailable
// besides what it is, unless its context ended. A List goes on after the last object it gave, a reader
// where it broke off: objects never change.
func Retry(s Store, o RetryOptions) Store { return &retrying{store: s, o: o.withDefaults()} }

type retrying struct {
	store Store
	o     RetryOptions
}

func (r *retrying) Features() Features { return r.store.Features() }

func (r *retrying) Create(ctx context.Context, key string, body Body) error {
	doubtful := false
	err := r.do(ctx, "create object", key, func(ctx context.Context) error {
		err := r.store.Create(ctx, key, body)
		switch {
		case err == nil || !doubtful && errors.Is(err, errs.Exists):
			return err
		case errors.Is(err, errs.Exists):
			return r.settle(ctx, key, body, err)
		}
		doubtful = doubtful || passing(err)
		return err
	})
	if err != nil && doubtful && !errors.Is(err, errs.Exists) && !passing(err) && ctx.Err() == nil {
		// "Full" after an attempt without an answer does not mean that nothing is there.
		return fmt.Errorf("an attempt before may have been done: %w: %w", errs.Unavailable, err)
	}
	return err
}

// settle decides whether the object that exists is the one we may have made.
func (r *retrying) settle(ctx context.Context, key string, body Body, exists error) error {
	equal, err := Equal(ctx, r.store, key, body)
	switch {
	case errors.Is(err, errs.NotFound):
		return fmt.Errorf("it exists, and does not when read: %w", errs.Unavailable)
	case err != nil:
		return err
	case equal:
		return nil
	}
	return exists
}

func (r *retrying) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.do(ctx, "stat object", key, func(ctx context.Context) (err error) {
		info, err = r.store.Stat(ctx, key)
		return err
	})
	return info, err
}

func (r *retrying) Delete(ctx context.Context, key string) error {
	return r.do(ctx, "delete object", key, func(ctx context.Context) error { return r.store.Delete(ctx, key) })
}

func (r *retrying) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	var stop error // of fn: not ours to judge
	tries := newTries(r.o)
	for {
		attempt, timer := newAttempt(ctx, r.o.Call)
		err := r.store.List(attempt, prefix, after, func(info Info) error {
			timer.stop() // fn may take its time
			tries = newTries(r.o)
			after = info.Key
			if stop = fn(info); stop != nil {
				return stop
			}
			return timer.arm()
		})
		err = timer.judge(err)
		timer.end()
		if err == nil || stop != nil {
			return err
		}
		if err = tries.next(ctx, "list objects", prefix, err); err != nil {
			return err
		}
	}
}

func (r *retrying) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return r.open(&resuming{store: r, ctx: ctx, key: key, offset: offset, length: length, begin: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return r.store.Open(ctx, key, offset, length)
	}})
}

func (r *retrying) open(rd *resuming) (io.ReadCloser, error) {
	tries := newTries(r.o)
	if err := rd.open(&tries); err != nil {
		return nil, err
	}
	return rd, nil
}

// do makes attempts until one succeeds, fails for good, or the bounds are met.
func (r *retrying) do(ctx context.Context, act, key string, call func(context.Context) error) error {
	tries := newTries(r.o)
	for {
		attempt, timer := newAttempt(ctx, r.o.Call)
		err := timer.judge(call(attempt))
		timer.end()
		if err == nil {
			return nil
		}
		if err = tries.next(ctx, act, key, err); err != nil {
			return err
		}
	}
}

// errSlow is the cause of an attempt that took too long: like any answer that
// did not come, it may pass.
var errSlow = fmt.Errorf("no answer in time: %w", errs.Unavailable)

// passing tells whether another attempt may go better. A Create that ended so
// may have been done.
func passing(err error) bool { return errors.Is(err, errs.Unavailable) }

// tries counts the attempts of one call.
type tries struct {
	o     RetryOptions
	made  int
	wait  time.Duration
	since time.Time
}

func newTries(o RetryOptions) tries { return tries{o: o, wait: o.Wait, since: time.Now()} }

// next waits for the next attempt. It returns an error when there is none.
func (t *tries) next(ctx context.Context, act, key string, err error) error {
	t.made++
	if ctxErr := Canceled(ctx); ctxErr != nil {
		return fmt.Errorf("%s %s: %w (last: %s)", act, key, ctxErr, err.Error())
	}
	if !passing(err) {
		return err
	}
	if t.made >= t.o.Attempts || time.Since(t.since) >= t.o.Elapsed {
		return fmt.Errorf("%s %s: gave up after %d attempts in %s: %w", act, key, t.made, time.Since(t.since).Round(time.Millisecond), err)
	}
	timer := time.NewTimer(t.wait/2 + rand.N(t.wait/2+1))
	defer timer.Stop()
	t.wait = min(2*t.wait, t.o.WaitMax)
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w (last: %s)", act, key, Canceled(ctx), err.Error())
	case <-timer.C:
		return nil
	}
}

// attemptTimer ends an attempt that is too slow.
type attemptTimer struct {
	ctx    context.Context // of the one attempt that the timer belongs to
	cancel context.CancelCauseFunc
	timer  *time.Timer
	call   time.Duration
}

func newAttempt(ctx context.Context, call time.Duration) (context.Context, *attemptTimer) {
	attempt, cancel := context.WithCancelCause(ctx)
	t := &attemptTimer{ctx: attempt, cancel: cancel, call: call}
	t.timer = time.AfterFunc(call, func() { cancel(errSlow) })
	return attempt, t
}

// arm starts the time of the next step; it tells whether it had run out before.
func (t *attemptTimer) arm() error {
	t.timer.Reset(t.call)
	return Canceled(t.ctx)
}

func (t *attemptTimer) stop() { t.timer.Stop() }

// judge tells an attempt that was too slow from one that its caller ended: a
// driver may report both as a canceled context.
func (t *attemptTimer) judge(err error) error {
	if errors.Is(err, context.Canceled) && !passing(err) && errors.Is(context.Cause(t.ctx), errSlow) {
		return fmt.Errorf("%w (%s)", errSlow, err.Error())
	}
	return err
}

// end frees what the attempt holds.
func (t *attemptTimer) end() {
	t.timer.Stop()
	t.cancel(nil)
}
