package blob

import (
	"context"
	"errors"
	"io"
)

// resuming is a reader that opens the object again where it broke off.
type resuming struct {
	store          *retrying
	ctx            context.Context // of the one call that the reader belongs to
	key            string
	begin          func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	offset, length int64 // what is still to be read; length -1 is to the end
	inner          io.ReadCloser
	timer          *attemptTimer
	failed         error
}

// open makes attempts to open what is still to be read.
func (r *resuming) open(tries *tries) error {
	for {
		attempt, timer := newAttempt(r.ctx, r.store.o.Call)
		inner, err := r.begin(attempt, r.offset, r.length)
		if err == nil {
			timer.stop() // between reads no time runs
			r.inner, r.timer = inner, timer
			return nil
		}
		err = timer.judge(err)
		timer.end()
		if err = tries.next(r.ctx, "open object", r.key, err); err != nil {
			return err
		}
	}
}

// Read gives what is next. A break is mended here and not told to the caller,
// as long as the bounds allow; bytes that came are a fresh start.
func (r *resuming) Read(p []byte) (int, error) {
	if r.failed != nil {
		return 0, r.failed
	}
	tries := newTries(r.store.o)
	for {
		if r.inner == nil {
			if err := r.open(&tries); err != nil {
				r.failed = err
				return 0, err
			}
		}
		n, err := r.read(p)
		if !passing(err) {
			r.failed = err // the end, damage, or nothing
			return n, err
		}
		_ = r.drop() // what a broken stream says about its end adds nothing
		if n > 0 {
			return n, nil
		}
		if err = tries.next(r.ctx, "read object", r.key, err); err != nil {
			r.failed = err
			return 0, err
		}
	}
}

func (r *resuming) read(p []byte) (int, error) {
	if err := r.timer.arm(); err != nil {
		return 0, err
	}
	n, err := r.inner.Read(p)
	r.timer.stop()
	err = r.timer.judge(err)
	r.offset += int64(n)
	if r.length > 0 {
		r.length -= int64(n)
	}
	return n, err
}

// Close closes the stream that is open, if any.
func (r *resuming) Close() error {
	if r.failed == nil {
		r.failed = errClosed
	}
	return r.drop()
}

var errClosed = errors.New("read of a closed object")

func (r *resuming) drop() error {
	if r.inner == nil {
		return nil
	}
	err := r.inner.Close()
	r.timer.end()
	r.inner = nil
	return err
}
