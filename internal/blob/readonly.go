package blob

import (
	"context"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// ReadOnly gives a store through which nothing can be changed: Create and Delete
// fail with errs.ReadOnly before the store is asked.
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
