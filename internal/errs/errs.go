// Package errs is the closed list of failure kinds that all of Tuskvault
// branches on. A kind says what a caller may do about a failure; the message
// around it says what was being done, and to what.
//
// Wrap a kind where the fact is known:
//
//	fmt.Errorf("snapshot %s: %w", id, errs.NotFound)
//
// and test for it with errors.Is. Text is never matched. The package imports
// only the standard library; internal/rpc has the one table that maps kinds to
// gRPC codes and back, internal/exit the one that maps them to exit codes.
package errs

import (
	"context"
	"errors"
)

// Kind is a kind of failure. The list is closed: a new kind needs a row in
// every table that maps kinds.
type Kind struct{ text string }

// Error gives the kind in words.
func (k *Kind) Error() string { return k.text }

// The kinds.
var (
	// NotFound: the thing named does not exist.
	NotFound = &Kind{"not found"}
	// Exists: a thing of that name exists already.
	Exists = &Kind{"already exists"}
	// Invalid: what was asked for makes no sense, whatever the state.
	Invalid = &Kind{"invalid"}
	// Denied: the caller is known and may not do this.
	Denied = &Kind{"denied"}
	// Unauthenticated: the caller is not known.
	Unauthenticated = &Kind{"not authenticated"}
	// Conflict: the state forbids it now, or somebody else won.
	Conflict = &Kind{"conflict"}
	// Busy: somebody is at it; later it may work.
	Busy = &Kind{"busy"}
	// Corrupt: stored bytes are not what was written. Never retried, never
	// repaired silently; the message names the object.
	Corrupt = &Kind{"corrupt"}
	// Unavailable: a peer or a store could not be reached or did not answer.
	// The only kind that is retried.
	Unavailable = &Kind{"unavailable"}
	// Unsupported: this version cannot do it.
	Unsupported = &Kind{"not supported"}
	// Exhausted: a disk, a quota or a limit is full.
	Exhausted = &Kind{"out of space or over a limit"}
	// ReadOnly: the place cannot be written.
	ReadOnly = &Kind{"read-only"}
	// Locked: deferred, since the store's lock on an object has not ended. What was to
	// be deleted is asked for again later.
	Locked = &Kind{"locked by the store"}
	// Canceled: somebody asked it to stop.
	Canceled = &Kind{"canceled"}
	// Timeout: its time ran out.
	Timeout = &Kind{"timed out"}
)

// All lists every kind, for tables that must be complete.
func All() []*Kind {
	return []*Kind{NotFound, Exists, Invalid, Denied, Unauthenticated, Conflict, Busy, Corrupt, Unavailable,
		Unsupported, Exhausted, ReadOnly, Locked, Canceled, Timeout}
}

// KindOf returns the first kind in err's chain, with the context's own errors
// taken as Canceled and Timeout, or nil when there is none.
func KindOf(err error) *Kind {
	if k, ok := errors.AsType[*Kind](err); ok {
		return k
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return nil
}
