package check

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
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

// eachSorted calls fn for the records in buf in order, each once.
func eachSorted(buf []byte, size int, fn func([]byte) error) error {
	order := make([]uint32, len(buf)/size)
	for i := range order {
		order[i] = uint32(i)
	}
	at := func(i uint32) []byte { return buf[int(i)*size:][:size] }
	slices.SortFunc(order, func(a, b uint32) int { return bytes.Compare(at(a), at(b)) })
	for i, n := range order {
		if i > 0 && bytes.Equal(at(n), at(order[i-1])) {
			continue
		}
		if err := fn(at(n)); err != nil {
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
		runs = append(runs, r)
	}
	heap.Init(&runs)
	return s.write(func(fn func([]byte) error) error {
		last := make([]byte, 0, s.size)
		for n := 0; len(runs) > 0; n++ {
			if n%65536 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r := runs[0]
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
				heap.Fix(&runs, 0)
			} else {
				heap.Pop(&runs).(*reader).close()
			}
		}
		return nil
	})
}

// merging is a heap of runs by their next records.
type merging []*reader

func (m merging) Len() int           { return len(m) }
func (m merging) Less(i, j int) bool { return bytes.Compare(m[i].head, m[j].head) < 0 }
func (m merging) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merging) Push(x any)        { *m = append(*m, x.(*reader)) }
func (m *merging) Pop() any {
	old := *m
	last := old[len(old)-1]
	*m = old[:len(old)-1]
	return last
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
	r := &reader{buf: make([]byte, s.size)}
	if s.path == "" {
		r.from = bufio.NewReaderSize(bytes.NewReader(s.memory), s.size)
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
	// head is the next record, valid until next is called; nil at the end.
	head []byte
	buf  []byte
	from *bufio.Reader
	file *os.File
}

func (r *reader) next() error {
	switch _, err := io.ReadFull(r.from, r.buf); {
	case errors.Is(err, io.EOF):
		r.head = nil
	case err != nil:
		return fmt.Errorf("sort: read back: %w", err)
	default:
		r.head = r.buf
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
	for size := len(g.reader.buf); len(g.records)*size < len(g.flat); {
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
