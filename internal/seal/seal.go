// Package seal holds the key hierarchy, the names of chunks and the frames in
// which chunks are stored (docs/FORMAT.md, "Keys", "Names", "Frame"). It does
// no I/O.
package seal

// DomainID names a dedup domain.
type DomainID [16]byte

// Name is the keyed hash of a chunk's kind and plaintext.
type Name [32]byte

// FrameHash is the SHA-256 of a whole frame.
type FrameHash [32]byte

// Kind says what a chunk's plaintext is. It is part of the name, so that user
// data can never be taken for structure.
type Kind byte

// The kinds. The numbers are stored: never reuse one.
const (
	// KindRowsText is whole rows of COPY text.
	KindRowsText Kind = 1
	// KindRowsBinary is whole rows of COPY binary, without header and trailer.
	KindRowsBinary Kind = 2
	// KindRowPart is a piece of one row that is larger than the largest chunk.
	KindRowPart Kind = 3
	// KindArchive is bytes of a pg_dump custom archive.
	KindArchive Kind = 4
	// KindLargeObject is rows of pg_largeobject.
	KindLargeObject Kind = 5
	// KindList is a chunk list.
	KindList Kind = 6
	// KindPage is reserved for pages of relation files.
	KindPage Kind = 7
	// KindWAL is reserved for WAL.
	KindWAL Kind = 8
)

// Key is a secret of 32 bytes. Its String and log forms are redacted.
type Key [32]byte
