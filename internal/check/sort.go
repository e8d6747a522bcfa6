package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// sorter puts records of one size into the order of their bytes, each once. It
// holds sortMemory bytes; what does not fit goes to files. One goroutine at a
// time may use it.
type sorter struct {
	path   string // of files; a number is appended
	size   int    // of a record
	memory int    // bytes of records at which a run is written
	buf    []byte
	files  []string
	made   int
}

func newSorter(dir, name string, size int) *sorter {
	return &sorter{path: filepath.Join(dir, name), size: size, memory: sortMemory / size * size}
}

// add takes a record, which is copied.
func (s *sorter) add(record []byte) error {
	if len(record) != s.size {
		panic("check: record of another size")
	}
	s.buf = append(s.buf, record...)
	if len(s.buf) >= s.memory {
		return s.spill()
	}
	return nil
}

// spill writes what is in memory as a sorted run.
func (s *sorter) spill() error {
	path, err := s.write(func(fn func([]byte) error) error { return eachSorted(s.buf, s.size, fn) })
	if err != nil {
		return err
	}
	s.files, s.buf = append(s.files, path), s.buf[:0]
	return nil
}

// keyed is a record in memory by its first eight bytes, which decide nearly
// always: names are hashes.
type keyed struct {
	key uint64
	at  uint32 // the record's number in the buffer
}

// keyOf gives the first eight bytes of a record as a number that orders like
// them; a shorter record is as one that ends in zeros.
func keyOf(record []byte) uint64 {
	if len(record) >= 8 {
		return binary.BigEndian.Uint64(record)
	}
	var b [8]byte
	copy(b[:], record)
	return binary.BigEndian.Uint64(b[:])
}

// eachSorted calls fn for the records in buf in order, each once. It takes 16
// bytes a record besides.
func eachSorted(buf []byte, size int, fn func([]byte) error) error {
	at := func(i uint32) []byte { return buf[int(i)*size:][:size] }
	order := make([]keyed, len(buf)/size)
	for i := range order {
		order[i] = keyed{keyOf(at(uint32(i))), uint32(i)}
	}
	slices.SortFunc(order, func(a, b keyed) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return bytes.Compare(at(a.at), at(b.at))
	})
	for i, n := range order {
		if i > 0 && n.key == order[i-1].key && bytes.Equal(at(n.at), at(order[i-1].at)) {
			continue
		}
		if err := fn(at(n.at)); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file of what each gives.
func (s *sorter) write(each func(fn func([]byte) error) error) (string, error) {
	s.made++
	path := fmt.Sprintf("%s.%d", s.path, s.made)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("sort: %w", diskError(err))
	}
	b := bufio.NewWriterSize(f, 256<<10)
	err = each(func(r []byte) error { _, err := b.Write(r); return err })
	if err := errors.Join(err, b.Flush(), f.Close()); err != nil {
		return "", fmt.Errorf("sort: write %s: %w", path, diskError(err))
	}
	return path, nil
}

// finish gives all records in order. The sorter is not to be used afterwards.
func (s *sorter) finish(ctx context.Context) (*sorted, error) {
	if len(s.files) == 0 {
		out := make([]byte, 0, len(s.buf))
		_ = eachSorted(s.buf, s.size, func(r []byte) error { out = append(out, r...); return nil }) // never fails
		s.buf = nil
		return &sorted{size: s.size, memory: out}, nil
	}
	if len(s.buf) > 0 {
		if err := s.spill(); err != nil {
			return nil, err
		}
	}
	s.buf = nil
	for len(s.files) > 1 {
		n := min(len(s.files), mergeWidth)
		path, err := s.merge(ctx, s.files[:n])
		if err != nil {
			return nil, err
		}
		for _, old := range s.files[:n] {
			if err := os.Remove(old); err != nil {
				return nil, fmt.Errorf("sort: %w", err)
			}
		}
		s.files = append(s.files[n:], path)
	}
	return &sorted{size: s.size, path: s.files[0]}, nil
}

func (s *sorter) merge(ctx context.Context, files []string) (string, error) {
	var runs merging
	defer func() {
		for _, r := range runs {
			r.close()
		}
	}()
	for _, path := range files {
		r, err := (&sorted{size: s.size, path: path}).open()
		if err != nil {
			return "", err
		}
		if r.head == nil { // never: no run is empty
			r.close()
			continue
		}
		runs = append(runs, mergeRun{keyOf(r.head), r})
	}
	for i := len(runs)/2 - 1; i >= 0; i-- {
		runs.down(i)
	}
	return s.write(func(fn func([]byte) error) error {
		last := make([]byte, 0, s.size)
		for n := 0; len(runs) > 0; n++ {
			if n%65536 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r := runs[0].reader
			if !bytes.Equal(last, r.head) {
				if err := fn(r.head); err != nil {
					return err
				}
				last = append(last[:0], r.head...)
			}
			if err := r.next(); err != nil {
				return err
			}
			if r.head != nil {
				runs[0].key = keyOf(r.head)
			} else {
				r.close()
				runs[0] = runs[len(runs)-1]
				runs = runs[:len(runs)-1]
			}
			runs.down(0)
		}
		return nil
	})
}

// merging is a heap of runs by their next records.
type merging []mergeRun

type mergeRun struct {
	key uint64 // of the next record
	*reader
}

func (m merging) less(i, j int) bool {
	if m[i].key != m[j].key {
		return m[i].key < m[j].key
	}
	return bytes.Compare(m[i].head, m[j].head) < 0
}

// down lets a run sink to where it belongs.
func (m merging) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(m) {
			return
		}
		if right := least + 1; right < len(m) && m.less(right, least) {
			least = right
		}
		if !m.less(least, i) {
			return
		}
		m[i], m[least] = m[least], m[i]
		i = least
	}
}

// sorted is what a sorter made: in memory if it was little, else a file.
type sorted struct {
	size   int
	memory []byte
	path   string
}

// count is the number of records.
func (s *sorted) count() (int64, error) {
	if s.path == "" {
		return int64(len(s.memory) / s.size), nil
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return 0, fmt.Errorf("sort: %w", err)
	}
	return info.Size() / int64(s.size), nil
}

// remove frees what it takes. A sorted that is nil takes nothing.
func (s *sorted) remove() error {
	if s == nil {
		return nil
	}
	s.memory = nil
	if s.path == "" {
		return nil
	}
	return os.Remove(s.path)
}

// open reads from the first record on. The caller closes it.
func (s *sorted) open() (*reader, error) {
	r := &reader{size: s.size}
	if s.path == "" {
		r.from = bufio.NewReaderSize(bytes.NewReader(s.memory), max(s.size, mergeBuffer))
		return r, r.next()
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("sort: %w", err)
	}
	r.file, r.from = f, bufio.NewReaderSize(f, mergeBuffer)
	if err := r.next(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// each calls fn for every record, which is valid until fn returns.
func (s *sorted) each(ctx context.Context, fn func([]byte) error) error {
	r, err := s.open()
	if err != nil {
		return err
	}
	defer r.close()
	for n := 0; r.head != nil; n++ {
		if n%65536 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fn(r.head); err != nil {
			return err
		}
		if err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// reader reads records in order.
type reader struct {
	// head is the next record, valid until next is called; nil at the end. It is in
	// the buffer of from.
	head []byte
	size int
	from *bufio.Reader
	file *os.File
}

func (r *reader) next() error {
	_, _ = r.from.Discard(len(r.head)) // it is buffered
	head, err := r.from.Peek(r.size)
	switch {
	case err == nil:
		r.head = head
	case errors.Is(err, io.EOF) && len(head) == 0:
		r.head = nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("sort: read back: %w", io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("sort: read back: %w", err)
	}
	return nil
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
	}
}

// joinOn walks through two sorted readers whose records begin with the same
// width bytes of key, and calls fn for each record of left with the records of
// right that have its key: none, or at most limit of them (more tells that there
// are others). The slices are valid until fn returns.
func joinOn(ctx context.Context, left, right *sorted, width, limit int, fn func(l []byte, r [][]byte, more bool) error) error {
	match, err := right.open()
	if err != nil {
		return err
	}
	defer match.close()
	g := group{reader: match, width: width, limit: limit}
	return left.each(ctx, func(l []byte) error {
		if err := g.moveTo(l[:width]); err != nil {
			return err
		}
		return fn(l, g.records, g.more)
	})
}

// group gathers the records of a reader that have one key.
type group struct {
	reader       *reader
	width, limit int
	key          []byte
	begun        bool
	flat         []byte // the records, used again for each key
	records      [][]byte
	more         bool
}

// moveTo gathers the records with the key; keys must not fall.
func (g *group) moveTo(key []byte) error {
	if g.begun && bytes.Equal(g.key, key) {
		return nil
	}
	g.begun = true
	g.key, g.flat, g.records, g.more = append(g.key[:0], key...), g.flat[:0], g.records[:0], false
	for g.reader.head != nil {
		c := bytes.Compare(g.reader.head[:g.width], key)
		if c > 0 {
			break
		}
		if c == 0 && len(g.flat)/len(g.reader.head) < g.limit {
			g.flat = append(g.flat, g.reader.head...)
		} else if c == 0 {
			g.more = true
		}
		if err := g.reader.next(); err != nil {
			return err
		}
	}
	for size := g.reader.size; len(g.records)*size < len(g.flat); {
		n := len(g.records) * size
		g.records = append(g.records, g.flat[n:n+size])
	}
	return nil
}

// diskError gives an error of the operating system the kind that callers act on.
func diskError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", err, errs.Exhausted)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, errs.ReadOnly)
	}
	return err
}
