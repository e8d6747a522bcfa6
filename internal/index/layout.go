package index

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The layout (docs/FORMAT.md, "Index"): header, pack table, entries, zeros up to
// a multiple of 64, filter, id. All integers are big endian.
const (
	fileMagic = "TVIX"
	// formatNumber is 0 while the format may still change.
	formatNumber = 0

	headerSize = 64
	packSize   = 32
	recordSize = prefixSize + 4 + 4 + 4
	prefixSize = 16
	blockSize  = 64 // of the filter, and a cache line
	footerSize = sha256.Size
)

// record is one entry as stored: prefix, pack number, offset, length. Byte
// order is the order of the file.
type record [recordSize]byte

func newRecord(name *seal.Name, number, offset, length uint32) record {
	var r record
	copy(r[:prefixSize], name[:])
	binary.BigEndian.PutUint32(r[16:], number)
	binary.BigEndian.PutUint32(r[20:], offset)
	binary.BigEndian.PutUint32(r[24:], length)
	return r
}

func (r *record) number() uint32     { return binary.BigEndian.Uint32(r[16:]) }
func (r *record) setNumber(n uint32) { binary.BigEndian.PutUint32(r[16:], n) }

func compareRecords(a, b record) int { return bytes.Compare(a[:], b[:]) }

// header is the fixed start of a file.
type header struct {
	domain  seal.DomainID
	entries uint64
	packs   uint32
	blocks  uint32
}

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, fileMagic...)
	b = append(b, formatNumber, 0, 0, 0)
	b = append(b, h.domain[:]...)
	b = binary.BigEndian.AppendUint64(b, h.entries)
	b = binary.BigEndian.AppendUint32(b, h.packs)
	b = binary.BigEndian.AppendUint32(b, h.blocks)
	return b[:headerSize] // the rest is reserved, zero
}

// parseHeader refuses a header whose numbers do not add up to exactly size.
func parseHeader(b []byte, size int64) (header, error) {
	if size < headerSize+footerSize || int64(len(b)) < headerSize {
		return header{}, fmt.Errorf("%d bytes: too few: %w", size, errs.Corrupt)
	}
	if string(b[:4]) != fileMagic {
		return header{}, fmt.Errorf("wrong magic %x: %w", b[:4], errs.Corrupt)
	}
	if b[4] != formatNumber {
		return header{}, fmt.Errorf("format %d: %w", b[4], errs.Unsupported)
	}
	if reserved := b[40:headerSize]; b[5] != 0 || b[6] != 0 || b[7] != 0 || len(bytes.Trim(reserved, "\x00")) > 0 {
		return header{}, fmt.Errorf("reserved bytes %x %x: %w", b[5:8], reserved, errs.Corrupt)
	}
	h := header{domain: seal.DomainID(b[8:24]), entries: binary.BigEndian.Uint64(b[24:]),
		packs: binary.BigEndian.Uint32(b[32:]), blocks: binary.BigEndian.Uint32(b[36:])}
	if h.entries > uint64(size)/recordSize || h.blocks == 0 || h.size() != size {
		return header{}, fmt.Errorf("%d entries, %d packs, %d filter blocks in %d bytes: %w",
			h.entries, h.packs, h.blocks, size, errs.Corrupt)
	}
	return h, nil
}

// The places of the sections, in bytes from the start.
func (h header) recordsAt() int64  { return headerSize + int64(h.packs)*packSize }
func (h header) recordsEnd() int64 { return h.recordsAt() + int64(h.entries)*recordSize }
func (h header) filterAt() int64   { return (h.recordsEnd() + blockSize - 1) / blockSize * blockSize }
func (h header) footerAt() int64   { return h.filterAt() + int64(h.blocks)*blockSize }
func (h header) size() int64       { return h.footerAt() + footerSize }

// writeFile writes a whole file of n records, which each must give in order,
// each once, without repetition. Memory: the filter, 1.25 bytes a record.
func writeFile(w io.Writer, domain seal.DomainID, packs []pack.ID, n uint64, each func(fn func(*record) error) error) (FileID, error) {
	if uint64(len(packs)) > math.MaxUint32 || n > math.MaxInt32*uint64(blockSize) {
		return FileID{}, fmt.Errorf("index file of %d packs and %d entries: %w", len(packs), n, errs.Exhausted)
	}
	f := newFilter(n)
	h := header{domain: domain, entries: n, packs: uint32(len(packs)), blocks: f.blocks()}
	sum := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10)
	_, _ = b.Write(h.encode()) // a bufio.Writer keeps its first error for Flush
	for i := range packs {
		_, _ = b.Write(packs[i][:])
	}
	var written uint64
	err := each(func(r *record) error {
		f.add(r[:prefixSize])
		written++
		_, err := b.Write(r[:])
		return err
	})
	if err != nil {
		return FileID{}, err
	}
	if written != n {
		panic("index: number of records changed while they were written")
	}
	_, _ = b.Write(make([]byte, h.filterAt()-h.recordsEnd()))
	_, _ = b.Write(f)
	if err := b.Flush(); err != nil {
		return FileID{}, err
	}
	id := FileID(sum.Sum(nil))
	_, err = w.Write(id[:])
	return id, err
}
