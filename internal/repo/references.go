package repo

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of the references part (docs/FORMAT.md, "References").
const (
	// MaxReferencesBytes is the greatest plain length of a references part: 1.5
	// million lists, or 100 million chunks where every list is as short as a list
	// may be, and 12 thousand million where they are full.
	MaxReferencesBytes = 64 << 20

	referencesMagic      = "TVR1"
	referencesVersion    = 1
	referencesHeaderSize = 12
	referencesTailSize   = 16
	listRefSize          = 44
)

// ListRef names one list chunk.
type ListRef struct {
	Name seal.Name
	// Entries is the number of chunks in the list.
	Entries uint32
	// Bytes is the plain length of all those chunks.
	Bytes int64
}

// References is the references part of a snapshot: the list chunks by position,
// from which every other chunk of it is found. Whoever has K_refs can tell what
// a snapshot needs without being able to read any of it.
type References struct {
	Lists []ListRef
	// Chunks and Bytes are the sums over Lists.
	Chunks int64
	Bytes  int64
}

// check tells why references cannot be; the caller gives the error its kind.
func (r *References) check() error {
	if n := len(r.Lists); n > (MaxReferencesBytes-referencesHeaderSize-referencesTailSize)/listRefSize {
		return fmt.Errorf("%d lists", n)
	}
	var chunks, bytes int64
	for i, l := range r.Lists {
		// No chunk has more than 2^32-1 bytes, so the sums below cannot overflow.
		if l.Entries == 0 || l.Entries > MaxListEntries || l.Bytes < int64(l.Entries) || l.Bytes > int64(l.Entries)*math.MaxUint32 {
			return fmt.Errorf("list %d: %d entries of %d bytes", i, l.Entries, l.Bytes)
		}
		if bytes > math.MaxInt64-l.Bytes {
			return fmt.Errorf("list %d: more bytes than can be counted", i)
		}
		chunks, bytes = chunks+int64(l.Entries), bytes+l.Bytes
	}
	if chunks != r.Chunks || bytes != r.Bytes {
		return fmt.Errorf("totals %d chunks, %d bytes: the lists have %d, %d", r.Chunks, r.Bytes, chunks, bytes)
	}
	return nil
}

// EncodeReferences gives the plain references part. What DecodeReferences would
// refuse is errs.Invalid.
func EncodeReferences(r *References) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode references: %w: %w", err, errs.Invalid)
	}
	b := make([]byte, 0, referencesHeaderSize+len(r.Lists)*listRefSize+referencesTailSize)
	b = append(b, referencesMagic...)
	b = binary.BigEndian.AppendUint32(b, referencesVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Lists)))
	for _, l := range r.Lists {
		b = append(b, l.Name[:]...)
		b = binary.BigEndian.AppendUint32(b, l.Entries)
		b = binary.BigEndian.AppendUint64(b, uint64(l.Bytes))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.Chunks))
	return binary.BigEndian.AppendUint64(b, uint64(r.Bytes)), nil
}

// DecodeReferences reads a plain references part. Whatever is not exactly what
// EncodeReferences gives is errs.Corrupt, a newer version errs.Unsupported.
func DecodeReferences(plain []byte) (*References, error) {
	d := decoder{rest: plain}
	if !d.magic(referencesMagic) || len(plain) > MaxReferencesBytes {
		return nil, fmt.Errorf("decode references: not a references part: %w", errs.Corrupt)
	}
	if v := d.u32(); v != referencesVersion {
		return nil, fmt.Errorf("decode references: version %d: %w", v, errs.Unsupported)
	}
	n := d.u32()
	if int64(len(d.rest)) != int64(n)*listRefSize+referencesTailSize {
		return nil, fmt.Errorf("decode references: %d lists in %d bytes: %w", n, len(plain), errs.Corrupt)
	}
	r := &References{Lists: make([]ListRef, n)}
	for i := range r.Lists {
		l := &r.Lists[i]
		d.fill(l.Name[:])
		// A value beyond int64 becomes negative and is refused by check.
		l.Entries, l.Bytes = d.u32(), int64(d.u64())
	}
	r.Chunks, r.Bytes = int64(d.u64()), int64(d.u64())
	if err := d.finish(); err != nil {
		return nil, fmt.Errorf("decode references: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("decode references: %w: %w", err, errs.Corrupt)
	}
	return r, nil
}

func decodeFingerprint(d *decoder) Fingerprint {
	var b [16]byte
	d.fill(b[:])
	return fingerprintFrom(b)
}
