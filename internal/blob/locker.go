package blob

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Locker is a Store that can keep its objects from being deleted by anybody until
// a time. Not every store is one; AsLocker tells.
//
// Delete of an object that is locked hides it (no call but those of Versioned
// sees it any more) and fails with errs.Locked. What is left of it goes when
// Delete is called again after the lock has ended.
type Locker interface {
	// LockTime is for how long, from its making on, Create locks an object of this
	// key; 0 is not at all.
	LockTime(key string) time.Duration
	// Lock locks an object that exists for LockTime from now on, by the store's own
	// clock, and gives the end of the lock, which may be later: no lock becomes
	// shorter. Errors: errs.NotFound, errs.Denied.
	Lock(ctx context.Context, key string) (until time.Time, err error)
}

// AsLocker gives the store as a Locker, or errs.Unsupported when its objects are
// not locked.
func AsLocker(s Store) (Locker, error) {
	if l, ok := s.(Locker); ok && s.Features().Lock != "" {
		return l, nil
	}
	return nil, fmt.Errorf("store %s locks no objects: %w", s.Features().Location, errs.Unsupported)
}

// lockTime is LockTime of a store that may not be a Locker.
func lockTime(s Store, key string) time.Duration {
	if l, err := AsLocker(s); err == nil {
		return l.LockTime(key)
	}
	return 0
}

// lock is Lock of a store that may not be a Locker.
func lock(ctx context.Context, s Store, key string) (time.Time, error) {
	l, err := AsLocker(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("lock object %s: %w", key, err)
	}
	return l.Lock(ctx, key)
}
