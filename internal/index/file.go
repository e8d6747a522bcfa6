package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// file is an index file in memory. It may be read by many goroutines at once,
// until close.
type file struct {
	info    FileInfo
	seq     uint64
	head    header
	data    []byte // the whole mapping
	packs   []byte
	records []byte
	filter  filter
}

// openFile maps a file and verifies its structure, its domain and that it ends
// with its id; with whole also that its bytes are those that the id names.
func openFile(path string, seq uint64, domain seal.DomainID, id FileID, whole bool) (_ *file, err error) {
	f := &file{info: FileInfo{ID: id, Path: path}, seq: seq}
	defer func() {
		if err != nil {
			err = &FileError{Path: path, Err: errors.Join(err, f.close())}
		}
	}()
	if err := f.mapFile(); err != nil {
		return nil, err
	}
	if err := guard(func() error { return f.verify(domain, whole) }); err != nil {
		return nil, err
	}
	h := f.head
	f.info.Entries, f.info.Packs = int(h.entries), int(h.packs)
	f.packs = f.data[headerSize:h.recordsAt()]
	f.records = f.data[h.recordsAt():h.recordsEnd()]
	f.filter = filter(f.data[h.filterAt():h.footerAt()])
	// Questions come at random places; reading ahead would only evict others.
	// Advice that is not taken harms nothing.
	_ = unix.Madvise(f.data, unix.MADV_RANDOM)
	return f, nil
}

func (f *file) mapFile() error {
	r, err := os.Open(f.info.Path)
	if err != nil {
		return errs.OfFile(err)
	}
	defer func() { _ = r.Close() }() // a mapping outlives its descriptor
	info, err := r.Stat()
	if err != nil {
		return errs.OfFile(err)
	}
	f.info.Size = info.Size()
	if f.info.Size < headerSize+footerSize || int64(int(f.info.Size)) != f.info.Size {
		return fmt.Errorf("%d bytes: not the size of an index file: %w", f.info.Size, errs.Corrupt)
	}
	if f.data, err = unix.Mmap(int(r.Fd()), 0, int(f.info.Size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

func (f *file) verify(domain seal.DomainID, whole bool) (err error) {
	if f.head, err = parseHeader(f.data, f.info.Size); err != nil {
		return err
	}
	if f.head.domain != domain {
		return fmt.Errorf("of domain %s, not %s: %w", f.head.domain, domain, errs.Corrupt)
	}
	body, footer := f.data[:f.head.footerAt()], f.data[f.head.footerAt():]
	if FileID(footer) != f.info.ID || whole && sha256.Sum256(body) != f.info.ID {
		return fmt.Errorf("content does not have the id of the file: %w", errs.Corrupt)
	}
	return nil
}

// close unmaps the file. Nobody may be reading it.
func (f *file) close() error {
	if f.data == nil {
		return nil
	}
	data := f.data
	f.data, f.packs, f.records, f.filter = nil, nil, nil, nil
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("unmap index file %s: %w", f.info.Path, err)
	}
	return nil
}

// guard calls fn, which reads mapped memory, and turns the fault that an
// unreadable disk or a truncated file causes into an error. Without it such a
// fault ends the program.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r) // not a fault of memory: a defect
			}
			err = fmt.Errorf("mapped bytes cannot be read: %w", errs.Corrupt)
		}
	}()
	return fn()
}

// has tells whether a record with the prefix exists.
func (f *file) has(prefix []byte) bool {
	if !f.filter.perhaps(prefix) {
		return false
	}
	i := f.search(prefix)
	return i < int(f.head.entries) && bytes.Equal(f.at(i)[:prefixSize], prefix)
}

// largestFrame bounds what an entry may say of a frame, in bytes: readers
// allocate by it.
const largestFrame = seal.MinFrame + seal.LargestPlain

// find appends the locations under a prefix, until dst has limit entries.
func (f *file) find(dst []Location, prefix []byte, limit int) ([]Location, error) {
	if !f.filter.perhaps(prefix) {
		return dst, nil
	}
	for i := f.search(prefix); i < int(f.head.entries) && len(dst) < limit; i++ {
		r := f.at(i)
		if !bytes.Equal(r[:prefixSize], prefix) {
			break
		}
		number := binary.BigEndian.Uint32(r[16:])
		if number >= f.head.packs {
			return dst, fmt.Errorf("entry %d: pack %d of %d: %w", i, number, f.head.packs, errs.Corrupt)
		}
		length := binary.BigEndian.Uint32(r[24:])
		if length > largestFrame {
			return dst, fmt.Errorf("entry %d: frame of %d bytes: %w", i, length, errs.Corrupt)
		}
		dst = append(dst, Location{Pack: pack.ID(f.packs[int(number)*packSize:][:packSize]), Offset: int64(binary.BigEndian.Uint32(r[20:])), Length: length})
	}
	return dst, nil
}

func (f *file) at(i int) []byte { return f.records[i*recordSize : (i+1)*recordSize] }

// interpolations is the number of guesses before search halves instead. Guesses
// are right because names are keyed hashes, evenly spread; names that a host
// made up must not make a question slower than the logarithm.
const interpolations = 4

// search gives the first record not below prefix.
func (f *file) search(prefix []byte) int {
	want := binary.BigEndian.Uint64(prefix)
	lo, hi := 0, int(f.head.entries) // the answer is in [lo, hi]
	loKey, hiKey := uint64(0), ^uint64(0)
	for step := 0; lo < hi; step++ {
		mid := int(uint(lo+hi) >> 1)
		if step < interpolations && hiKey > loKey && want >= loKey && want <= hiKey {
			h, l := bits.Mul64(want-loKey, uint64(hi-lo))
			if span := hiKey - loKey; h < span {
				q, _ := bits.Div64(h, l, span)
				mid = min(lo+int(q), hi-1)
			}
		}
		r := f.at(mid)
		if bytes.Compare(r[:prefixSize], prefix) < 0 {
			lo, loKey = mid+1, binary.BigEndian.Uint64(r)
		} else {
			hi, hiKey = mid, binary.BigEndian.Uint64(r)
		}
	}
	return lo
}
