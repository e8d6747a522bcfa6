package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// RowSum is a number of rows and the sum over them.
type RowSum struct {
	Rows int64
	// Sum does not depend on the rows' order.
	Sum chunk.Fingerprint
}

// Add takes in other rows.
func (r *RowSum) Add(o RowSum) {
	r.Rows += o.Rows
	r.Sum.Merge(o.Sum)
}

// String names both for people.
func (r RowSum) String() string { return fmt.Sprintf("%d rows (fingerprint %s)", r.Rows, r.Sum) }

// rowScanner finds the rows in what is handed to a COPY and sums them up, as the
// rows of the snapshot were summed up when they were read: a row of text is its
// line with the newline, one of the binary format its tuple. Rows may be cut
// anywhere; memory does not depend on their width.
type rowScanner struct {
	binary bool
	sum    RowSum

	h    chunk.RowHasher // of a row that began in an earlier piece
	open bool            // there is one

	// Of the binary format: what is left of the tuple.
	head   []byte // part of a number of which the rest has not come
	fields int    // fields that have not begun, of an open tuple
	value  int    // bytes of the value under way
	inside bool   // in a tuple
}

// write takes the next piece.
func (s *rowScanner) write(p []byte) error {
	for len(p) > 0 {
		n, whole, err := s.rowEnd(p)
		if err != nil {
			return err
		}
		row := p[:n]
		p = p[n:]
		switch {
		case whole && !s.open:
			s.sum.Sum.Add(chunk.HashRow(row))
			s.sum.Rows++
		case whole:
			_, _ = s.h.Write(row) // never fails
			s.sum.Sum.Add(s.h.Sum())
			s.sum.Rows++
			s.open = false
		default:
			if !s.open {
				s.h.Reset()
				s.open = true
			}
			_, _ = s.h.Write(row)
		}
	}
	return nil
}

// rowEnd gives the length of what p has of the row that it begins with or
// continues, and whether the row ends there.
func (s *rowScanner) rowEnd(p []byte) (n int, whole bool, err error) {
	if s.binary {
		return s.tupleEnd(p)
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 { // within a value a newline is written as \n
		return i + 1, true, nil
	}
	return len(p), false, nil
}

// tupleEnd is rowEnd for the binary format: a tuple is the number of its fields,
// and for each field the length of its value (-1 for null) and the value.
func (s *rowScanner) tupleEnd(p []byte) (n int, whole bool, err error) {
	for {
		if s.value > 0 {
			k := min(s.value, len(p)-n)
			s.value -= k
			n += k
		}
		if s.inside && s.fields == 0 && s.value == 0 {
			s.inside = false
			return n, true, nil
		}
		if n == len(p) {
			return n, false, nil
		}
		want := 4
		if !s.inside {
			want = 2
		}
		k := min(want-len(s.head), len(p)-n)
		s.head = append(s.head, p[n:n+k]...)
		n += k
		if len(s.head) < want {
			return n, false, nil
		}
		if err := s.number(); err != nil {
			return n, false, err
		}
	}
}

// number takes the number in head: of fields, or the length of a value.
func (s *rowScanner) number() error {
	head := s.head
	s.head = s.head[:0]
	if !s.inside {
		s.inside = true
		s.fields = int(int16(binary.BigEndian.Uint16(head)))
		if s.fields < 0 {
			return fmt.Errorf("a tuple of %d fields: %w", s.fields, errs.Corrupt)
		}
		return nil
	}
	s.fields--
	switch n := int(int32(binary.BigEndian.Uint32(head))); {
	case n < -1:
		return fmt.Errorf("a value of %d bytes: %w", n, errs.Corrupt)
	case n > 0:
		s.value = n
	}
	return nil
}
