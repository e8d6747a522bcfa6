package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// The layout of a frame (docs/FORMAT.md, "Frame").
const (
	// HeaderSize is the length of the clear header in bytes.
	HeaderSize = 48
	// overhead is what GCM adds: nonce 12 and tag 16.
	overhead = 12 + 16
	// lengthSize is the plain length at the start of what is sealed.
	lengthSize = 4
	// MinFrame is the length of a frame with nothing in it, in bytes.
	MinFrame = HeaderSize + overhead + lengthSize
	// LargestPlain bounds the plaintext of any frame in any domain, in bytes:
	// the largest chunk that cutting parameters may allow.
	LargestPlain = 16 << 20

	frameMagic = "TVFR"
	// formatNumber is 0 while the format may still change.
	formatNumber = 0
)

// Compression says how a chunk's plaintext is kept inside its seal.
type Compression byte

// The compressions. The numbers are stored: never reuse one.
const (
	// None: as it is.
	None Compression = 0
	// Zstd: one zstd frame.
	Zstd Compression = 1
)

// Header is the clear header of a frame. All of it is authenticated by the
// frame's tag.
type Header struct {
	// Kind of the chunk.
	Kind Kind
	// Compression inside the seal.
	Compression Compression
	// Flags are 0 in this version.
	Flags byte
	// Epoch of the seal key; 0 for chunk lists, whose key has no epochs.
	Epoch uint32
	// SealedLength is the number of bytes after the header: nonce, ciphertext, tag.
	SealedLength uint32
	// Name of the chunk.
	Name Name
}

// FrameLength is the length of the whole frame in bytes.
func (h Header) FrameLength() int { return HeaderSize + int(h.SealedLength) }

// MaxFrame is the greatest length of a frame whose plaintext has at most
// maxPlain bytes: no compression is ever allowed to make a chunk larger.
func MaxFrame(maxPlain int) int { return MinFrame + maxPlain }

// HashFrame gives the SHA-256 of a whole frame.
func HashFrame(frame []byte) FrameHash { return sha256.Sum256(frame) }

// ParseHeader reads the clear header at the start of b, which may be a whole
// frame or a part of one. Errors are errs.Corrupt, or errs.Unsupported for a
// frame of a newer format. The header is only a claim until Open has verified
// the frame; SealedLength is bounded by MaxFrame(LargestPlain).
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("frame header: %d bytes of %d: %w", len(b), HeaderSize, errs.Corrupt)
	}
	if string(b[:4]) != frameMagic {
		return Header{}, fmt.Errorf("frame header: wrong magic %x: %w", b[:4], errs.Corrupt)
	}
	if b[4] != formatNumber {
		return Header{}, fmt.Errorf("frame header: format %d: %w", b[4], errs.Unsupported)
	}
	h := Header{
		Kind: Kind(b[5]), Compression: Compression(b[6]), Flags: b[7],
		Epoch:        binary.BigEndian.Uint32(b[8:]),
		SealedLength: binary.BigEndian.Uint32(b[12:]),
		Name:         Name(b[16:48]),
	}
	return h, h.check()
}

func (h Header) check() error {
	switch {
	case h.Kind < KindRowsText || h.Kind > KindWAL:
		return fmt.Errorf("frame header: kind %d: %w", h.Kind, errs.Corrupt)
	case h.Compression > Zstd:
		return fmt.Errorf("frame header: compression %d: %w", h.Compression, errs.Corrupt)
	case h.Flags != 0:
		return fmt.Errorf("frame header: flags %#x: %w", h.Flags, errs.Corrupt)
	case h.Kind == KindList && h.Epoch != 0:
		return fmt.Errorf("frame header: chunk list with epoch %d: %w", h.Epoch, errs.Corrupt)
	case h.SealedLength < overhead+lengthSize || h.SealedLength > uint32(MaxFrame(LargestPlain)-HeaderSize):
		return fmt.Errorf("frame header: sealed length %d: %w", h.SealedLength, errs.Corrupt)
	}
	return nil
}

// append writes the header after dst.
func (h Header) append(dst []byte) []byte {
	dst = append(dst, frameMagic...)
	dst = append(dst, formatNumber, byte(h.Kind), byte(h.Compression), h.Flags)
	dst = binary.BigEndian.AppendUint32(dst, h.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, h.SealedLength)
	return append(dst, h.Name[:]...)
}
