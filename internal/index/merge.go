package index

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// mergeWidth bounds the number of files merged at once: what is read from each
// is buffered, and every record is compared with one of each.
const mergeWidth = 16

// Merge joins files until there are at most MaxFiles; with no more it does
// nothing. Lookups go on meanwhile. It reads the files, not the mappings, and
// holds little more than the filter of the result: 1.25 bytes an entry.
//
// The steps, and what a crash leaves:
//
//  1. write, sync and rename the joined file, as Add does: a crash leaves the
//     joined file beside those it was made of, which gives the same answers.
//  2. make lookups use it: nothing durable.
//  3. remove the files it was made of and sync the folder: a crash leaves some,
//     which gives the same answers and is merged again.
func (s *Set) Merge(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		files, err := s.current()
		if err != nil {
			return err
		}
		if len(files) <= MaxFiles {
			return nil
		}
		from, to := pick(files)
		if err := s.join(ctx, files, from, to); err != nil {
			return fmt.Errorf("merge index of domain %s: %w", s.domain, err)
		}
	}
}

// pick chooses the run of neighbours whose merge writes the fewest bytes for
// each file that goes away, so that large files are seldom written again.
func pick(files []*file) (from, to int) {
	best := -1.0
	for i := range files {
		sum := files[i].info.Size
		for j := i + 1; j < len(files) && j-i < mergeWidth; j++ {
			sum += files[j].info.Size
			if cost := float64(sum) / float64(j-i); best < 0 || cost < best {
				best, from, to = cost, i, j+1
			}
		}
	}
	return from, to
}

// join replaces files[from:to] by one.
func (s *Set) join(ctx context.Context, files []*file, from, to int) error {
	old := files[from:to]
	joined, err := s.create(old[0].seq, files, func(w io.Writer) (FileID, error) { return writeJoined(ctx, w, s.domain, old) })
	if err != nil {
		return err
	}
	// A merge that was interrupted may have made the same file before: then it
	// is one of files, and stays.
	next := slices.Clone(files[:from])
	if !slices.Contains(files, joined) || slices.Contains(old, joined) {
		next = append(next, joined)
	}
	s.publish(append(next, files[to:]...))
	return s.remove(slices.DeleteFunc(slices.Clone(old), func(f *file) bool { return f == joined }))
}

// writeJoined reads the sources twice: to count what is left when repeated
// records are dropped, and to write it.
func writeJoined(ctx context.Context, w io.Writer, domain seal.DomainID, old []*file) (FileID, error) {
	for _, f := range old {
		if err := f.rehash(ctx); err != nil {
			return FileID{}, err
		}
	}
	packs, renumber, err := joinPacks(old)
	if err != nil {
		return FileID{}, err
	}
	each := func(fn func(*record) error) error { return eachJoined(ctx, old, renumber, fn) }
	var n uint64
	if err := each(func(*record) error { n++; return nil }); err != nil {
		return FileID{}, err
	}
	return writeFile(w, domain, packs, n, each)
}

// joinPacks gives the union of the pack tables, in order, and for each source
// what its numbers become.
func joinPacks(old []*file) ([]pack.ID, [][]uint32, error) {
	tables := make([][]pack.ID, len(old))
	var union []pack.ID
	for i, f := range old {
		err := guard(func() error {
			for b := f.packs; len(b) > 0; b = b[packSize:] {
				tables[i] = append(tables[i], pack.ID(b[:packSize]))
			}
			return nil
		})
		if err != nil {
			return nil, nil, &FileError{Path: f.info.Path, Err: err}
		}
		union = append(union, tables[i]...)
	}
	byID := func(a, b pack.ID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(union, byID)
	union = slices.Compact(union)
	renumber := make([][]uint32, len(old))
	for i, table := range tables {
		renumber[i] = make([]uint32, len(table))
		for j, id := range table {
			n, _ := slices.BinarySearchFunc(union, id, byID) // it is there
			renumber[i][j] = uint32(n)
		}
	}
	return union, renumber, nil
}

// source reads the records of one file in order.
type source struct {
	path     string
	file     *os.File
	buffered *bufio.Reader
	left     uint64
	renumber []uint32
	head     record
}

func openSource(f *file, renumber []uint32) (*source, error) {
	r, err := os.Open(f.info.Path)
	if err != nil {
		return nil, &FileError{Path: f.info.Path, Err: errs.OfFile(err)}
	}
	section := io.NewSectionReader(r, f.head.recordsAt(), f.head.recordsEnd()-f.head.recordsAt())
	return &source{path: f.info.Path, file: r, buffered: bufio.NewReaderSize(section, 128<<10),
		left: f.head.entries, renumber: renumber}, nil
}

// next moves to the next record, renumbered; false at the end.
func (s *source) next() (bool, error) {
	if s.left == 0 {
		return false, nil
	}
	s.left--
	if _, err := io.ReadFull(s.buffered, s.head[:]); err != nil {
		return false, &FileError{Path: s.path, Err: fmt.Errorf("read entry: %w", err)}
	}
	n := s.head.number()
	if n >= uint32(len(s.renumber)) {
		return false, &FileError{Path: s.path, Err: fmt.Errorf("pack %d of %d: %w", n, len(s.renumber), errs.Corrupt)}
	}
	s.head.setNumber(s.renumber[n])
	return true, nil
}

// eachJoined calls fn for the records of all files, in order, each once.
func eachJoined(ctx context.Context, old []*file, renumber [][]uint32, fn func(*record) error) error {
	var open []*source
	defer func() {
		for _, s := range open {
			_ = s.file.Close() // only read from
		}
	}()
	var live []*source
	for i, f := range old {
		s, err := openSource(f, renumber[i])
		if err != nil {
			return err
		}
		open = append(open, s)
		if ok, err := s.next(); err != nil {
			return err
		} else if ok {
			live = append(live, s)
		}
	}
	var last record
	for count := 0; len(live) > 0; count++ {
		if count%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		i := smallest(live)
		if count == 0 || live[i].head != last {
			last = live[i].head
			if err := fn(&last); err != nil {
				return err
			}
		}
		if ok, err := live[i].next(); err != nil {
			return err
		} else if !ok {
			live = slices.Delete(live, i, i+1)
		}
	}
	return nil
}

func smallest(live []*source) int {
	best := 0
	for i := 1; i < len(live); i++ {
		if compareRecords(live[i].head, live[best].head) < 0 {
			best = i
		}
	}
	return best
}
