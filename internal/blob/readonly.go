package blob

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// ReadOnly gives a store through which nothing can be changed: what would change
// something fails with errs.ReadOnly before the store is asked.
func ReadOnly(s Store) Store { return readOnly{s} }

type readOnly struct{ store Store }

func (r readOnly) Create(_ context.Context, key string, _ Body) error {
	return fmt.Errorf("create object %s: the store was opened for reading: %w", key, errs.ReadOnly)
}

func (r readOnly) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return r.store.Open(ctx, key, offset, length)
}

func (r readOnly) Stat(ctx context.Context, key string) (Info, error) { return r.store.Stat(ctx, key) }

func (r readOnly) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	return r.store.List(ctx, prefix, after, fn)
}

func (r readOnly) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete object %s: the store was opened for reading: %w", key, errs.ReadOnly)
}

func (r readOnly) Features() Features { return r.store.Features() }

func (r readOnly) LockTime(key string) time.Duration { return lockTime(r.store, key) }

func (r readOnly) Lock(_ context.Context, key string) (time.Time, error) {
	return time.Time{}, fmt.Errorf("lock object %s: the store was opened for reading: %w", key, errs.ReadOnly)
}

func (r readOnly) Versions(ctx context.Context, prefix, after string, fn func(Version) error) error {
	return versions(ctx, r.store, prefix, after, fn)
}

func (r readOnly) OpenVersion(ctx context.Context, v Version, offset, length int64) (io.ReadCloser, error) {
	return openVersion(ctx, r.store, v, offset, length)
}

func (r readOnly) Recover(_ context.Context, v Version) error {
	return fmt.Errorf("recover object %s: the store was opened for reading: %w", v.Key, errs.ReadOnly)
}
