package chunk

import "github.com/zeebo/xxh3"

// RowHasher hashes one row whose bytes arrive in pieces: its Sum is what
// HashRow gives of their concatenation. The zero value is ready for a row; one
// goroutine at a time may use it; it allocates nothing.
type RowHasher struct{ h xxh3.Hasher }

// Reset starts a new row.
func (r *RowHasher) Reset() { r.h.Reset() }

// Write takes the next piece in. It never fails.
func (r *RowHasher) Write(p []byte) (int, error) { return r.h.Write(p) }

// Sum gives the hash of the bytes since the start of the row. More may be
// written after it.
func (r *RowHasher) Sum() RowHash { return r.h.Sum128() }
