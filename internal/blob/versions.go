package blob

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Version is one thing that was written under a key, or a deletion of it.
type Version struct {
	// Key is the whole key.
	Key string
	// ID names the version, together with the key.
	ID string
	// Size is in bytes; 0 of a deletion.
	Size int64
	// Modified is the store's time of it, in whole seconds.
	Modified time.Time
	// Deletion tells a delete marker from bytes.
	Deletion bool
}

// Versioned is a Store that keeps what was deleted or overwritten, for some time
// at least. Not every store is one; AsVersioned tells.
type Versioned interface {
	// Versions calls fn for each version and each deletion whose key starts with
	// prefix and is greater than after: in byte order of the keys, of one key the
	// newest first. It stops at fn's first error and returns it. Memory is bounded by
	// a page of the driver. Of a version and a deletion in the same second the
	// version counts as the newer one: a doubt must not hide bytes.
	Versions(ctx context.Context, prefix, after string, fn func(Version) error) error
	// OpenVersion is Open of one version.
	OpenVersion(ctx context.Context, v Version, offset, length int64) (io.ReadCloser, error)
	// Recover makes a version's bytes the object that all other calls see. It takes
	// deletions that lie over it away, or writes the bytes once more. Repeating it is
	// no error, and a crash leaves the object as it was or as it is to be.
	Recover(ctx context.Context, v Version) error
}

// AsVersioned gives the store as a Versioned, or errs.Unsupported when it keeps
// no versions.
func AsVersioned(s Store) (Versioned, error) {
	if v, ok := s.(Versioned); ok && s.Features().Versions {
		return v, nil
	}
	return nil, fmt.Errorf("store %s keeps no versions of what was deleted: %w", s.Features().Location, errs.Unsupported)
}

// versions, openVersion and recoverVersion are the calls of Versioned on a store
// that may be none.
func versions(ctx context.Context, s Store, prefix, after string, fn func(Version) error) error {
	v, err := AsVersioned(s)
	if err != nil {
		return fmt.Errorf("list versions %s: %w", prefix, err)
	}
	return v.Versions(ctx, prefix, after, fn)
}

func openVersion(ctx context.Context, s Store, v Version, offset, length int64) (io.ReadCloser, error) {
	of, err := AsVersioned(s)
	if err != nil {
		return nil, fmt.Errorf("open version of object %s: %w", v.Key, err)
	}
	return of.OpenVersion(ctx, v, offset, length)
}

func recoverVersion(ctx context.Context, s Store, v Version) error {
	of, err := AsVersioned(s)
	if err != nil {
		return fmt.Errorf("recover object %s: %w", v.Key, err)
	}
	return of.Recover(ctx, v)
}
