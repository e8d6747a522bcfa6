// Package blob is the storage seam: a dumb store of immutable objects under
// keys. Everything above it (packs, indexes, snapshots, the catalog log) is
// built from these six calls, and every driver passes blobtest.Run.
package blob

import (
	"context"
	"io"
	"time"
)

// Store keeps immutable objects.
//
// Keys are paths of lower-case segments ([a-z0-9._-]+ joined by "/"); no
// segment starts with a dot, no key is a folder of another. All methods may be
// called concurrently. Each returns when the act is durable or has failed:
//
//   - A Create that returned nil survives power loss of the machine that holds
//     the store, as far as the store can promise that.
//   - Reads after a Create that returned nil see the whole object.
//   - An object is never seen in part.
//
// Errors carry these kinds: NotFound, Exists, Invalid (bad key or range),
// Exhausted (full), ReadOnly, Denied, Corrupt (driver-level damage), Locked
// (of Delete: it is not seen any more, but a lock keeps its bytes; see Locker),
// Unavailable (anything that may pass: the outcome of a Create is then
// unknown and must be found out by reading back). A call whose context ended
// returns the context's cause, and the outcome of a Create is unknown too.
type Store interface {
	// Create writes a new object if, and only if, the key does not exist.
	// Two concurrent calls for one key: exactly one wins, the other gets Exists.
	Create(ctx context.Context, key string, body Body) error
	// Open reads length bytes from offset; length -1 means to the end. A range
	// outside the object is Invalid. The caller closes the reader.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat tells an object's size and time.
	Stat(ctx context.Context, key string) (Info, error)
	// List calls fn for each object whose key starts with prefix and is greater
	// than after, in byte order of the keys. It stops at fn's first error and
	// returns it. Memory is bounded by a page of the driver.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Delete removes an object, with all that a versioned store keeps under its key.
	// A key that does not exist is not an error. Locked is no failure either: the
	// object is gone for every reader, and the same call after the lock's end frees
	// its bytes.
	Delete(ctx context.Context, key string) error
	// Features tells what this store can and cannot promise.
	Features() Features
}

// Body is what Create writes. A driver may read it more than once.
type Body interface {
	// Size is the exact number of bytes.
	Size() int64
	// Open starts reading from the first byte. The driver closes what it opened.
	Open() (io.ReadCloser, error)
}

// Info describes a stored object.
type Info struct {
	// Key is the whole key.
	Key string
	// Size is in bytes.
	Size int64
	// Modified is the store's time of writing; zero when the store has none.
	Modified time.Time
}

// Features are the capabilities in which drivers differ.
type Features struct {
	// AtomicCreate: Create is decided by the store itself.
	AtomicCreate bool
	// Durable: a nil from Create means that the bytes are on stable storage.
	Durable bool
	// OwnClock: Info.Modified is by a clock other than this machine's.
	OwnClock bool
	// Location names the store for people, without credentials.
	Location string
	// Versions: what was deleted or overwritten can be read, see Versioned.
	Versions bool
	// Lock is how new objects are locked: "governance", "compliance", or empty for
	// not at all; see Locker.
	Lock string
	// Encryption is what the store says it encrypts new objects with, in its words.
	Encryption string
	// StorageClass is the class that new objects are put into; empty for the store's own.
	StorageClass string
	// SeparateDeletes: what deletes has other credentials than what writes.
	SeparateDeletes bool
	// Warnings are what a person should know: one sentence each.
	Warnings []string
}
