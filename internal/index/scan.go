package index

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/bits"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// ScanPacks bounds the packs of a file that Scan reads: their ids are held in
// memory, 32 MiB at most.
const ScanPacks = 1 << 20

// Scanned is one entry of an index file.
type Scanned struct {
	// Prefix is the first half of the chunk's name.
	Prefix [prefixSize]byte
	Location
}

// Scan reads a whole index file of size bytes front to back, without mapping it,
// and calls fn for each entry in order. It verifies everything that can be: the
// header against the size, the domain, the order of packs and entries, each
// entry's pack, the zeros, the filter and the id. Entries were given to fn
// before the end was seen: they are worth nothing unless Scan returns nil.
//
// What is wrong is errs.Corrupt, a later format errs.Unsupported, more than
// ScanPacks packs errs.Exhausted. fn's error ends the scan and is returned.
// Memory: the pack table, as far as it was really read.
func Scan(r io.Reader, size int64, domain seal.DomainID, id FileID, fn func(*Scanned) error) error {
	s := scan{sum: sha256.New(), fn: fn}
	s.from = bufio.NewReaderSize(r, 128<<10)
	if err := s.file(size, domain, id); err != nil {
		return fmt.Errorf("index file %s: %w", id.Short(), err)
	}
	return nil
}

type scan struct {
	from *bufio.Reader
	sum  hash.Hash // of everything read
	fn   func(*Scanned) error
	head header
}

// read fills b with the next bytes.
func (s *scan) read(b []byte) error {
	if _, err := io.ReadFull(s.from, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("it ends early: %w", errs.Corrupt)
		}
		return err
	}
	_, _ = s.sum.Write(b) // a hash never fails
	return nil
}

func (s *scan) file(size int64, domain seal.DomainID, id FileID) error {
	if size < headerSize+footerSize {
		return fmt.Errorf("%d bytes: too few: %w", size, errs.Corrupt)
	}
	first := make([]byte, headerSize)
	err := s.read(first)
	if err == nil {
		s.head, err = parseHeader(first, size)
	}
	switch {
	case err != nil:
		return err
	case s.head.domain != domain:
		return fmt.Errorf("of domain %s, not %s: %w", s.head.domain, domain, errs.Corrupt)
	case s.head.packs > ScanPacks:
		return fmt.Errorf("%d packs, at most %d are read: %w", s.head.packs, ScanPacks, errs.Exhausted)
	case s.head.blocks != newFilterBlocks(s.head.entries):
		return fmt.Errorf("filter of %d blocks for %d entries: %w", s.head.blocks, s.head.entries, errs.Corrupt)
	}
	packs, err := s.packs()
	if err != nil {
		return err
	}
	want, err := s.entries(packs)
	if err != nil {
		return err
	}
	if err := s.filter(want); err != nil {
		return err
	}
	sum := FileID(s.sum.Sum(nil))
	var footer FileID
	if err := s.read(footer[:]); err != nil {
		return err
	}
	if sum != id || footer != id {
		return fmt.Errorf("content does not have the id of the file: %w", errs.Corrupt)
	}
	return nil
}

func (s *scan) packs() ([]pack.ID, error) {
	var packs []pack.ID // grows with what is read, not with what is claimed
	for range s.head.packs {
		var id pack.ID
		if err := s.read(id[:]); err != nil {
			return nil, err
		}
		if n := len(packs); n > 0 && slices.Compare(packs[n-1][:], id[:]) >= 0 {
			return nil, fmt.Errorf("pack table: out of order at %d: %w", n, errs.Corrupt)
		}
		packs = append(packs, id)
	}
	return packs, nil
}

// entries gives the hash that the filter must have.
func (s *scan) entries(packs []pack.ID) ([]byte, error) {
	filter := filterHash{sum: sha256.New(), blocks: s.head.blocks}
	var last, r record
	var e Scanned
	for i := range s.head.entries {
		if err := s.read(r[:]); err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(last[:], r[:]) >= 0 {
			return nil, fmt.Errorf("entry %d: out of order: %w", i, errs.Corrupt)
		}
		last = r
		n := r.number()
		if uint64(n) >= uint64(len(packs)) {
			return nil, fmt.Errorf("entry %d: pack %d of %d: %w", i, n, len(packs), errs.Corrupt)
		}
		if length := binary.BigEndian.Uint32(r[24:]); length > largestFrame {
			return nil, fmt.Errorf("entry %d: frame of %d bytes: %w", i, length, errs.Corrupt)
		}
		filter.add(r[:prefixSize])
		copy(e.Prefix[:], r[:])
		e.Location = Location{Pack: packs[n], Offset: int64(binary.BigEndian.Uint32(r[20:])), Length: binary.BigEndian.Uint32(r[24:])}
		if err := s.fn(&e); err != nil {
			return nil, err
		}
	}
	zeros := make([]byte, s.head.filterAt()-s.head.recordsEnd())
	if err := s.read(zeros); err != nil {
		return nil, err
	}
	if len(bytes.Trim(zeros, "\x00")) > 0 {
		return nil, fmt.Errorf("bytes between entries and filter are not zero: %w", errs.Corrupt)
	}
	return filter.end(), nil
}

func (s *scan) filter(want []byte) error {
	sum := sha256.New()
	block := make([]byte, blockSize)
	for range s.head.blocks {
		if err := s.read(block); err != nil {
			return err
		}
		_, _ = sum.Write(block) // a hash never fails
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return fmt.Errorf("filter is not that of the entries: %w", errs.Corrupt)
	}
	return nil
}

// filterHash makes the hash of the filter of sorted prefixes with one block in
// memory: blocks rise with the prefixes.
type filterHash struct {
	sum    hash.Hash
	blocks uint32
	at     uint32 // the block being filled
	block  [blockSize]byte
}

func (f *filterHash) add(prefix []byte) {
	i, _ := bits.Mul64(binary.BigEndian.Uint64(prefix), uint64(f.blocks))
	f.moveTo(uint32(i))
	filter(f.block[:]).add(prefix) // of one block, every prefix is in it
}

func (f *filterHash) moveTo(block uint32) {
	for ; f.at < block; f.at++ {
		_, _ = f.sum.Write(f.block[:]) // a hash never fails
		clear(f.block[:])
	}
}

func (f *filterHash) end() []byte {
	f.moveTo(f.blocks)
	return f.sum.Sum(nil)
}

// HeaderSize is the length of the header of an index file in bytes.
const HeaderSize = headerSize

// CountEntries gives the number of entries that the header of an index file of
// size bytes claims, when it agrees with the size.
func CountEntries(head []byte, size int64) (int64, error) {
	h, err := parseHeader(head, size)
	return int64(h.entries), err
}
