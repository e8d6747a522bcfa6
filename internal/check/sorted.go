package check

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// sorted is what a sorter made: in memory if it was little, else at most
// mergeWidth files, each in order.
type sorted struct {
	size   int
	memory []byte
	paths  []string
}

// remove frees what it takes. A sorted that is nil takes nothing.
func (s *sorted) remove() error {
	if s == nil {
		return nil
	}
	var failed []error
	for _, path := range s.paths {
		failed = append(failed, os.Remove(path))
	}
	s.memory, s.paths = nil, nil
	return errors.Join(failed...)
}

// open reads from the first record on. The caller closes it.
func (s *sorted) open() (*reader, error) {
	r := &reader{size: s.size, several: len(s.paths) > 1}
	if len(s.paths) == 0 {
		if err := r.take(bytes.NewReader(s.memory), nil); err != nil {
			return nil, err
		}
	}
	for _, path := range s.paths {
		f, err := os.Open(path)
		if err == nil {
			err = r.take(f, f)
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("sort: %w", err)
		}
	}
	for i := len(r.runs)/2 - 1; i >= 0; i-- {
		r.runs.down(i)
	}
	r.first()
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

// reader reads records in order, each once.
type reader struct {
	// head is the next record, valid until next is called; nil at the end.
	head []byte
	size int
	runs merging
	// several tells that there were several runs, in which a record may be twice;
	// last is then the one before.
	several bool
	last    []byte
}

// take adds a run, which close closes.
func (r *reader) take(from io.Reader, file *os.File) error {
	added := run{size: r.size, from: bufio.NewReaderSize(from, max(r.size, mergeBuffer)), file: file}
	if err := added.next(); err != nil || added.head == nil {
		added.close()
		return err
	}
	r.runs = append(r.runs, added)
	return nil
}

// next moves to the next record.
func (r *reader) next() error {
	if r.several {
		r.last = append(r.last[:0], r.head...)
	}
	for len(r.runs) > 0 {
		if err := r.runs[0].next(); err != nil {
			return err
		}
		if r.runs[0].head == nil {
			r.runs[0].close()
			r.runs[0] = r.runs[len(r.runs)-1]
			r.runs = r.runs[:len(r.runs)-1]
		}
		r.runs.down(0)
		if r.first(); r.head == nil || !r.several || !bytes.Equal(r.head, r.last) {
			return nil
		}
	}
	return nil
}

func (r *reader) first() {
	r.head = nil
	if len(r.runs) > 0 {
		r.head = r.runs[0].head
	}
}

func (r *reader) close() {
	for _, run := range r.runs {
		run.close()
	}
	r.runs = nil
}

// run is one sorted file, or what is in memory.
type run struct {
	head []byte // in the buffer of from; nil at the end
	key  uint64 // of head
	size int
	from *bufio.Reader
	file *os.File
}

func (r *run) next() error {
	_, _ = r.from.Discard(len(r.head)) // it is buffered
	head, err := r.from.Peek(r.size)
	switch {
	case err == nil:
		r.head, r.key = head, keyOf(head)
	case errors.Is(err, io.EOF) && len(head) == 0:
		r.head = nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("sort: read back: %w", io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("sort: read back: %w", err)
	}
	return nil
}

func (r *run) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
	}
}

// merging is a heap of runs by their next records.
type merging []run

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
