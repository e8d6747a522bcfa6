// Package chunk decides where a stream of rows is cut, and sums up rows.
//
// Rows are cut after a row, by content and under a secret key: of each row
// only its hash and its length matter. The same hash feeds the fingerprint, the
// order-independent sum by which a restored table is compared with its source.
// The package decides; buffers and I/O belong to its callers.
package chunk

import (
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// RowHash is xxh3-128 of the bytes of one COPY row as the server sent them.
type RowHash = xxh3.Uint128

// HashRow hashes one whole row.
func HashRow(row []byte) RowHash { return xxh3.Hash128(row) }

// Fingerprint is the sum of row hashes modulo 2^128: equal for the same rows in
// any order. It is a check against error, not against an adversary; the
// manifest that holds it is sealed. The zero value is that of no rows.
type Fingerprint struct{ hi, lo uint64 }

// Add takes one row in.
func (f *Fingerprint) Add(h RowHash) {
	var c uint64
	f.lo, c = bits.Add64(f.lo, h.Lo, 0)
	f.hi, _ = bits.Add64(f.hi, h.Hi, c)
}

// Merge takes all rows of g in.
func (f *Fingerprint) Merge(g Fingerprint) { f.Add(RowHash{Hi: g.hi, Lo: g.lo}) }

// Bytes gives 16 bytes, big endian.
func (f Fingerprint) Bytes() [16]byte { return xxh3.Uint128{Hi: f.hi, Lo: f.lo}.Bytes() }

// FingerprintFrom reads what Bytes gives.
func FingerprintFrom(b [16]byte) Fingerprint {
	var f Fingerprint
	for i := range 8 {
		f.hi = f.hi<<8 | uint64(b[i])
		f.lo = f.lo<<8 | uint64(b[8+i])
	}
	return f
}

// String gives 32 hex digits.
func (f Fingerprint) String() string { b := f.Bytes(); return hex.EncodeToString(b[:]) }

// MarshalText writes 32 hex digits.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads 32 hex digits.
func (f *Fingerprint) UnmarshalText(t []byte) error {
	var b [16]byte
	if n, err := hex.Decode(b[:], t); err != nil || n != 16 || len(t) != 32 {
		return fmt.Errorf("fingerprint %q: not 32 hex digits", t)
	}
	*f = FingerprintFrom(b)
	return nil
}
