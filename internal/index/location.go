package index

import (
	"encoding/hex"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
)

// Location is where a frame is.
type Location struct {
	// Pack that holds it.
	Pack pack.ID
	// Offset of the frame in the pack, in bytes; less than 4 GiB.
	Offset int64
	// Length of the frame in bytes.
	Length uint32
}

// FileID names an index file: the SHA-256 of all of it but its last 32 bytes,
// which are the id. Files of the same entries have the same id.
type FileID [32]byte

// String gives 64 hex digits.
func (i FileID) String() string { return hex.EncodeToString(i[:]) }

// Short gives the first 16 hex digits, for messages.
func (i FileID) Short() string { return hex.EncodeToString(i[:8]) }

// ParseFileID reads 64 hex digits.
func ParseFileID(s string) (FileID, error) {
	var id FileID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("index file id %q: not 64 hex digits: %w", s, errs.Invalid)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return FileID{}, fmt.Errorf("index file id %q: not 64 hex digits: %w", s, errs.Invalid)
	}
	return id, nil
}

// FileInfo describes an index file of a Set.
type FileInfo struct {
	// ID of the file.
	ID FileID
	// Path of the file. A Merge may remove it.
	Path string
	// Size in bytes.
	Size int64
	// Entries and Packs are the number of locations and of packs in it.
	Entries, Packs int
}

// FileError is an error about one index file. The file may be deleted when the
// error is errs.Corrupt.
type FileError struct {
	// Path of the file.
	Path string
	// Err is what is wrong with it.
	Err error
}

// Error gives "index file PATH: reason".
func (e *FileError) Error() string { return "index file " + e.Path + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *FileError) Unwrap() error { return e.Err }
