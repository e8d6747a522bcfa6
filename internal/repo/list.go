package repo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of chunk lists (docs/FORMAT.md, "Chunk list").
const (
	// MinListEntries is the least number of entries after which the content may
	// end a list. A run with fewer shares a list with others: a list costs a chunk
	// of its own, which a small table is not worth.
	MinListEntries = 64
	// MaxListEntries is the greatest number of entries of a list. At 253 KiB a
	// chunk it stands for 2 GiB of rows; its own 475 KiB stay within a chunk.
	MaxListEntries = 8192
	// MaxListBytes is the greatest plain length of a list chunk.
	MaxListBytes = listHeaderSize + MaxListEntries*listEntrySize

	listMagic      = "TVL1"
	listHeaderSize = 8
	listEntrySize  = 58
)

// The flags of an entry.
const (
	entryFirst = 1 << 0
	entryLast  = 1 << 1
)

// ListEntry is one chunk of a stream.
type ListEntry struct {
	// Kind and Name are what the chunk is stored under.
	Kind seal.Kind
	Name seal.Name
	// First and Last are set on chunks of kind KindRowPart alone: the chunk holds
	// the first, the last part of its row.
	First, Last bool
	// Length is the plain length in bytes.
	Length uint32
	// Rows is the number of rows that end in the chunk, and Fingerprint the sum
	// over them: a row that is split counts in its last part.
	Rows        uint32
	Fingerprint Fingerprint
}

// endsList tells whether a list of n entries, e being the last, ends there by
// content: the rule depends on the names alone, so equal runs have equal lists.
func (e ListEntry) endsList(n int) bool {
	return n >= MaxListEntries || n >= MinListEntries && binary.BigEndian.Uint16(e.Name[:2])&0x1ff == 0
}

// check tells why an entry cannot be; the caller gives the error its kind.
func (e ListEntry) check() error {
	switch {
	case e.Kind < seal.KindRowsText || e.Kind > seal.KindWAL || e.Kind == seal.KindList:
		return fmt.Errorf("kind %d", e.Kind)
	case (e.First || e.Last) && e.Kind != seal.KindRowPart:
		return fmt.Errorf("part of a row in a chunk of kind %d", e.Kind)
	case e.Length == 0:
		return errors.New("no bytes")
	case e.Kind == seal.KindRowPart && !e.Last && e.Rows != 0, e.Kind == seal.KindRowPart && e.Last && e.Rows != 1:
		return fmt.Errorf("part of a row with %d rows", e.Rows)
	case e.Rows > e.Length:
		return fmt.Errorf("%d rows in %d bytes", e.Rows, e.Length)
	case e.Rows == 0 && e.Fingerprint != Fingerprint{}:
		return errors.New("fingerprint of no rows")
	}
	return nil
}

// EncodeList gives the plaintext of a list chunk. It refuses, with errs.Invalid,
// no entries, too many, and entries that DecodeList would refuse.
func EncodeList(entries []ListEntry) ([]byte, error) {
	if len(entries) == 0 || len(entries) > MaxListEntries {
		return nil, fmt.Errorf("encode chunk list: %d entries, must be 1 to %d: %w", len(entries), MaxListEntries, errs.Invalid)
	}
	b := make([]byte, 0, listHeaderSize+len(entries)*listEntrySize)
	b = append(b, listMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("encode chunk list: entry %d: %w: %w", i, err, errs.Invalid)
		}
		var flags byte
		if e.First {
			flags |= entryFirst
		}
		if e.Last {
			flags |= entryLast
		}
		f := e.Fingerprint.Bytes()
		b = append(b, byte(e.Kind), flags)
		b = append(b, e.Name[:]...)
		b = binary.BigEndian.AppendUint32(b, e.Length)
		b = binary.BigEndian.AppendUint32(b, e.Rows)
		b = append(b, f[:]...)
	}
	return b, nil
}

// DecodeList reads the plaintext of a list chunk. Whatever is not exactly what
// EncodeList gives is errs.Corrupt. Memory is proportional to len(plain), not to
// what it claims.
func DecodeList(plain []byte) ([]ListEntry, error) {
	d := decoder{rest: plain}
	if !d.magic(listMagic) {
		return nil, fmt.Errorf("decode chunk list: not a chunk list: %w", errs.Corrupt)
	}
	n := d.u32()
	if n == 0 || n > MaxListEntries || len(d.rest) != int(n)*listEntrySize {
		return nil, fmt.Errorf("decode chunk list: %d entries in %d bytes: %w", n, len(plain), errs.Corrupt)
	}
	entries := make([]ListEntry, n)
	for i := range entries {
		e, flags := &entries[i], byte(0)
		e.Kind, flags = seal.Kind(d.u8()), d.u8()
		d.fill(e.Name[:])
		e.Length, e.Rows = d.u32(), d.u32()
		e.Fingerprint = decodeFingerprint(&d)
		e.First, e.Last = flags&entryFirst != 0, flags&entryLast != 0
		if flags > entryFirst|entryLast {
			return nil, fmt.Errorf("decode chunk list: entry %d: flags %#x: %w", i, flags, errs.Corrupt)
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("decode chunk list: entry %d: %w: %w", i, err, errs.Corrupt)
		}
	}
	if err := d.finish(); err != nil {
		return nil, fmt.Errorf("decode chunk list: %w", err)
	}
	return entries, nil
}

// sumLengths adds plain lengths; 8,192 of 32 bits cannot overflow.
func sumLengths(entries []ListEntry) int64 {
	var n int64
	for _, e := range entries {
		n += int64(e.Length)
	}
	return n
}
