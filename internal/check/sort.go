package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	// As many runs as can be read at once stay as they are: to merge them each time
	// that they are read takes less than to write all of it once more.
	for len(s.files) > mergeWidth {
		few := sorted{size: s.size, paths: s.files[:mergeWidth]}
		path, err := s.write(func(fn func([]byte) error) error { return few.each(ctx, fn) })
		if err != nil {
			return nil, err
		}
		if err := few.remove(); err != nil {
			return nil, fmt.Errorf("sort: %w", err)
		}
		s.files = append(s.files[mergeWidth:], path)
	}
	return &sorted{size: s.size, paths: s.files}, nil
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
