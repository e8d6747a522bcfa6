package blob

import (
	"context"
	"io"
	"time"
)

// The optional calls of a retrying store. All of them may be repeated.

func (r *retrying) LockTime(key string) time.Duration { return lockTime(r.store, key) }

func (r *retrying) Lock(ctx context.Context, key string) (until time.Time, err error) {
	err = r.do(ctx, "lock object", key, func(ctx context.Context) (err error) {
		until, err = lock(ctx, r.store, key)
		return err
	})
	return until, err
}

func (r *retrying) Recover(ctx context.Context, v Version) error {
	return r.do(ctx, "recover object", v.Key, func(ctx context.Context) error { return recoverVersion(ctx, r.store, v) })
}

func (r *retrying) OpenVersion(ctx context.Context, v Version, offset, length int64) (io.ReadCloser, error) {
	return r.open(&resuming{store: r, ctx: ctx, key: v.Key, offset: offset, length: length, begin: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return openVersion(ctx, r.store, v, offset, length)
	}})
}

// Versions begins again, after a break, with the key it broke off in, and leaves
// out what it has given of that: up to the last version, or, when that is gone,
// what is not older.
func (r *retrying) Versions(ctx context.Context, prefix, after string, fn func(Version) error) error {
	var stop error // of fn: not ours to judge
	var last Version
	tries := newTries(r.o)
	for {
		attempt, timer := newAttempt(ctx, r.o.Call)
		skip := newSkip(last)
		err := versions(attempt, r.store, prefix, after, func(v Version) error {
			if skip.given(v) {
				return timer.arm()
			}
			timer.stop() // fn may take its time
			tries = newTries(r.o)
			if v.Key != last.Key && last.Key != "" {
				after = last.Key
			}
			last = v
			if stop = fn(v); stop != nil {
				return stop
			}
			return timer.arm()
		})
		err = timer.judge(err)
		timer.end()
		if err == nil || stop != nil {
			return err
		}
		if err = tries.next(ctx, "list versions", prefix, err); err != nil {
			return err
		}
	}
}

// skip leaves out what was given before a break.
type skip struct {
	last Version // zero when nothing was
	over bool
}

func newSkip(last Version) *skip { return &skip{last: last, over: last.Key == ""} }

func (s *skip) given(v Version) bool {
	switch {
	case s.over:
		return false
	case v.Key == s.last.Key && v.ID == s.last.ID:
		s.over = true
		return true
	case v.Key == s.last.Key && !v.Modified.Before(s.last.Modified):
		return true
	}
	s.over = true
	return false
}
