package pack

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of packs.
const (
	// MaxSize is the size in bytes at which a pack is closed: 64 MiB keeps the
	// number of objects low (15,000 a TB) and a pack cheap to rewrite and retry.
	MaxSize = 64 << 20
	// MaxAge is the time after its first byte at which a pack is closed: it
	// bounds how long a slow stream waits for its acknowledgement.
	MaxAge = 30 * time.Second
	// MaxCount is the greatest number of frames: with it, a directory is at most
	// 4.25 MiB, which is what a reader may be made to hold.
	MaxCount = 1 << 16
)

// ID names a pack: the SHA-256 of its header, directory and trailer.
type ID [32]byte

// String gives 64 hex digits.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// Short gives the first 16 hex digits, for messages.
func (i ID) Short() string { return hex.EncodeToString(i[:8]) }

// IsZero tells whether the id was never set.
func (i ID) IsZero() bool { return i == ID{} }

// ParseID reads 64 hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("pack id %q: not 64 hex digits: %w", s, errs.Invalid)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("pack id %q: not 64 hex digits: %w", s, errs.Invalid)
	}
	return id, nil
}

// Meta says where a pack comes from.
type Meta struct {
	// Domain of all its chunks.
	Domain seal.DomainID
	// Epoch of the controller that wrote it.
	Epoch uint64
	// Job for which it was written, and the fencing number of the attempt.
	Job                          [16]byte
	AttemptEpoch, AttemptCounter uint64
	// Uploader is the id of the instance whose agent sent the chunks.
	Uploader [16]byte
	// Created is when the pack was begun; it is kept in whole microseconds, UTC.
	Created time.Time
}

// Entry is one frame of a pack.
type Entry struct {
	// Name of the chunk.
	Name seal.Name
	// Hash of the whole frame.
	Hash seal.FrameHash
	// Offset of the frame in the pack, in bytes.
	Offset int64
	// Length of the frame in bytes.
	Length uint32
}

// Directory is what a pack says about itself.
type Directory struct {
	// ID of the pack, as computed from what was read.
	ID ID
	// Meta is where it comes from; true only after VerifyMAC.
	Meta
	// Size of the whole pack in bytes.
	Size int64
	// Entries in the order of their frames, which are contiguous.
	Entries []Entry

	// mac is the stored authentication; see VerifyMAC.
	mac [32]byte
}

// Find gives the first entry with that name.
func (d *Directory) Find(name seal.Name) (Entry, bool) {
	for _, e := range d.Entries {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

// Overhead is what so many packs with so many frames in all take beside their
// frames, in bytes.
func Overhead(packs, frames int64) int64 {
	return packs*(headerSize+trailerSize) + frames*entrySize
}
