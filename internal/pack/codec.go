package pack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The layout (docs/FORMAT.md, "Pack"). All integers are big endian.
const (
	headerMagic  = "TVPK"
	trailerMagic = "TVPKTRLR"
	// formatNumber is 0 while the format may still change.
	formatNumber = 0

	headerSize  = 4 + 1 + 3 + 16
	entrySize   = 32 + 32 + 4
	signedSize  = 8 + 8 + 4 + 4 + 8 + 16 + 8 + 8 + 16 + 8
	trailerSize = signedSize + 32 + 8

	// largest bounds a whole pack: one that was a byte short of MaxSize when the
	// largest frame came, and a full directory.
	largest = MaxSize + seal.MinFrame + seal.LargestPlain + MaxCount*entrySize + headerSize + trailerSize
	// smallest is a pack of one empty frame.
	smallest = headerSize + seal.MinFrame + entrySize + trailerSize
)

func appendHeader(dst []byte, domain seal.DomainID) []byte {
	dst = append(dst, headerMagic...)
	dst = append(dst, formatNumber, 0, 0, 0)
	return append(dst, domain[:]...)
}

func parseHeader(b []byte) (seal.DomainID, error) {
	switch {
	case string(b[:4]) != headerMagic:
		return seal.DomainID{}, fmt.Errorf("header: wrong magic %x: %w", b[:4], errs.Corrupt)
	case b[4] != formatNumber:
		return seal.DomainID{}, fmt.Errorf("header: format %d: %w", b[4], errs.Unsupported)
	case b[5] != 0 || b[6] != 0 || b[7] != 0:
		return seal.DomainID{}, fmt.Errorf("header: reserved bytes %x: %w", b[5:8], errs.Corrupt)
	}
	return seal.DomainID(b[8:headerSize]), nil
}

func appendEntries(dst []byte, entries []Entry) []byte {
	for _, e := range entries {
		dst = append(dst, e.Name[:]...)
		dst = append(dst, e.Hash[:]...)
		dst = binary.BigEndian.AppendUint32(dst, e.Length)
	}
	return dst
}

// parseEntries reads count entries and gives the end of the last frame.
func parseEntries(b []byte) ([]Entry, int64, error) {
	entries := make([]Entry, 0, len(b)/entrySize)
	offset := int64(headerSize)
	for ; len(b) > 0; b = b[entrySize:] {
		e := Entry{Name: seal.Name(b[:32]), Hash: seal.FrameHash(b[32:64]), Offset: offset,
			Length: binary.BigEndian.Uint32(b[64:])}
		if int64(e.Length) < seal.MinFrame || int64(e.Length) > int64(seal.MaxFrame(seal.LargestPlain)) {
			return nil, 0, fmt.Errorf("directory: frame %d of %d bytes: %w", len(entries), e.Length, errs.Corrupt)
		}
		entries = append(entries, e)
		offset += int64(e.Length)
	}
	return entries, offset, nil
}

// trailer is the fixed end of a pack.
type trailer struct {
	offset, length int64 // of the directory
	count          uint32
	meta           Meta // without the domain
	mac            [32]byte
}

// appendSigned writes the part of the trailer that the MAC covers.
func (t *trailer) appendSigned(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.length))
	dst = binary.BigEndian.AppendUint32(dst, t.count)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, t.meta.Epoch)
	dst = append(dst, t.meta.Job[:]...)
	dst = binary.BigEndian.AppendUint64(dst, t.meta.AttemptEpoch)
	dst = binary.BigEndian.AppendUint64(dst, t.meta.AttemptCounter)
	dst = append(dst, t.meta.Uploader[:]...)
	return binary.BigEndian.AppendUint64(dst, uint64(t.meta.Created.UnixMicro()))
}

// parseTrailer reads the last bytes of a pack of size bytes and refuses one
// whose numbers do not add up to exactly that size.
func parseTrailer(b []byte, size int64) (*trailer, error) {
	if string(b[signedSize+32:]) != trailerMagic {
		return nil, fmt.Errorf("trailer: wrong magic %x: %w", b[signedSize+32:], errs.Corrupt)
	}
	offset, length := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	t := &trailer{count: binary.BigEndian.Uint32(b[16:]), mac: [32]byte(b[signedSize:])}
	if reserved := binary.BigEndian.Uint32(b[20:]); reserved != 0 {
		return nil, fmt.Errorf("trailer: reserved bytes %x: %w", reserved, errs.Corrupt)
	}
	// In signed numbers that cannot overflow: count is 32 bits wide.
	t.length = int64(t.count) * entrySize
	t.offset = size - trailerSize - t.length
	if t.count < 1 || t.count > MaxCount || t.offset < headerSize+int64(t.count)*seal.MinFrame ||
		length != uint64(t.length) || offset != uint64(t.offset) {
		return nil, fmt.Errorf("trailer: directory of %d frames, %d bytes at %d of %d: %w", t.count, length, offset, size, errs.Corrupt)
	}
	m := b[24:]
	t.meta = Meta{
		Epoch: binary.BigEndian.Uint64(m), Job: [16]byte(m[8:24]),
		AttemptEpoch: binary.BigEndian.Uint64(m[24:]), AttemptCounter: binary.BigEndian.Uint64(m[32:]),
		Uploader: [16]byte(m[40:56]), Created: time.UnixMicro(int64(binary.BigEndian.Uint64(m[56:]))).UTC(),
	}
	return t, nil
}

// encode gives what follows the frames, directory and trailer, and the id.
func (d *Directory) encode(mac func(header, directory, signed []byte) [32]byte) ([]byte, ID) {
	header := appendHeader(nil, d.Domain)
	out := appendEntries(make([]byte, 0, len(d.Entries)*entrySize+trailerSize), d.Entries)
	n := len(out)
	t := trailer{length: int64(n), count: uint32(len(d.Entries)), meta: d.Meta}
	if last := len(d.Entries) - 1; last >= 0 {
		t.offset = d.Entries[last].Offset + int64(d.Entries[last].Length)
	}
	out = t.appendSigned(out)
	sum := mac(header, out[:n], out[n:])
	out = append(out, sum[:]...)
	out = append(out, trailerMagic...)
	return out, computeID(header, out)
}

func computeID(header, rest []byte) ID {
	h := sha256.New()
	_, _ = h.Write(header) // a hash never fails
	_, _ = h.Write(rest)
	return ID(h.Sum(nil))
}

// signWith gives the function that authenticates a pack under K_pack.
func signWith(packKey seal.Key) func(header, directory, signed []byte) [32]byte {
	return func(header, directory, signed []byte) [32]byte {
		m := hmac.New(sha256.New, packKey[:])
		_, _ = m.Write(header) // a hash never fails
		_, _ = m.Write(directory)
		_, _ = m.Write(signed)
		return [32]byte(m.Sum(nil))
	}
}

// VerifyMAC tells whether a controller that holds the domain's pack key wrote
// this directory, by errs.Corrupt if not. The directory's exported fields are
// what is verified.
func VerifyMAC(d *Directory, packKey seal.Key) error {
	var want [32]byte
	d.encode(func(header, directory, signed []byte) [32]byte {
		want = signWith(packKey)(header, directory, signed)
		return want
	})
	if !hmac.Equal(want[:], d.mac[:]) {
		return fmt.Errorf("pack %s: not written by a controller of domain %s: %w", d.ID.Short(), d.Domain, errs.Corrupt)
	}
	return nil
}
