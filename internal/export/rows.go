package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// copyEnd ends the rows of a COPY in a file; blank lines follow as pg_dump has them.
const copyEnd = "\\.\n\n\n"

// rowSum counts rows and adds them up, whatever format they are in.
type rowSum struct {
	rows   int64
	bytes  int64
	sum    chunk.Fingerprint
	hasher chunk.RowHasher // of the row that is split, or under way
	inRow  bool
}

// differs tells in which way a run is not what the manifest says, or nil.
func (s *rowSum) differs(run *repo.Run) error {
	switch {
	case s.inRow:
		return fmt.Errorf("a split row lacks its end: %w", errs.Corrupt)
	case s.rows != run.Rows || s.bytes != run.Stream.Bytes:
		return fmt.Errorf("%d rows in %d bytes are there, the manifest says %d in %d: %w", s.rows, s.bytes, run.Rows, run.Stream.Bytes, errs.Corrupt)
	case s.sum != run.Fingerprint:
		return fmt.Errorf("its %d rows have the fingerprint %s, the manifest says %s: %w", s.rows, s.sum, run.Fingerprint, errs.Corrupt)
	}
	return nil
}

// text takes a chunk of rows of COPY text. Whoever feeds rows to a file that
// other programs read must be sure that each row is one line, and none the line
// that ends the rows: what a hostile server called a row could go on as SQL.
func (s *rowSum) text(c Chunk) error {
	switch {
	case c.Kind == seal.KindRowPart:
		if err := s.part(c); err != nil {
			return err
		}
		s.bytes += int64(len(c.Plain))
		return nil
	case c.Kind != seal.KindRowsText:
		return fmt.Errorf("a chunk of kind %d among those of kind %d: %w", c.Kind, seal.KindRowsText, errs.Corrupt)
	case s.inRow:
		return fmt.Errorf("a split row lacks its end: %w", errs.Corrupt)
	}
	for rest := c.Plain; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return fmt.Errorf("a chunk of rows does not end with a row: %w", errs.Corrupt)
		}
		if endsRows(rest[:i]) {
			return fmt.Errorf("a row reads like the end of all rows: %w", errs.Corrupt)
		}
		s.sum.Add(chunk.HashRow(rest[:i+1]))
		s.rows++
		rest = rest[i+1:]
	}
	s.bytes += int64(len(c.Plain))
	return nil
}

// endsRows tells whether psql or a server takes a line for the end of a COPY.
func endsRows(line []byte) bool {
	return len(line) >= 2 && line[0] == '\\' && line[1] == '.'
}

// part takes a part of a row that is larger than the largest chunk.
func (s *rowSum) part(c Chunk) error {
	i := bytes.IndexByte(c.Plain, '\n')
	switch {
	case c.First == s.inRow:
		return fmt.Errorf("the parts of a split row are out of order: %w", errs.Corrupt)
	case c.Last != (i >= 0) || i >= 0 && i != len(c.Plain)-1:
		return fmt.Errorf("a split row does not end where it should: %w", errs.Corrupt)
	case c.First && endsRows(c.Plain):
		return fmt.Errorf("a row reads like the end of all rows: %w", errs.Corrupt)
	}
	if c.First {
		s.hasher.Reset()
	}
	_, _ = s.hasher.Write(c.Plain) // never fails
	if s.inRow = !c.Last; c.Last {
		s.sum.Add(s.hasher.Sum())
		s.rows++
	}
	return nil
}

// counting is told of rows and bytes as they pass.
type counting func(rows, bytes int64)

// textRun writes the rows of a run of text, at most limit of them if that is not
// negative, and gives how many were written. With a limit nothing is compared.
func textRun(ctx context.Context, source Source, run *repo.Run, limit int64, w io.Writer, count counting) (int64, error) {
	var s rowSum
	for c, err := range source.Stream(ctx, run.Stream) {
		if err != nil {
			return s.rows, err
		}
		if limit >= 0 && s.rows == limit && !s.inRow {
			return s.rows, nil
		}
		before := s
		if err := s.text(c); err != nil {
			return before.rows, err
		}
		plain := c.Plain
		if limit >= 0 && s.rows > limit {
			plain, s.rows = firstLines(plain, limit-before.rows), limit
		}
		if _, err := w.Write(plain); err != nil {
			return s.rows, err
		}
		count(s.rows-before.rows, int64(len(plain)))
	}
	if err := ended(ctx); err != nil || limit >= 0 {
		return s.rows, err
	}
	return s.rows, s.differs(run)
}

// firstLines gives the first n lines.
func firstLines(b []byte, n int64) []byte {
	end := 0
	for ; n > 0; n-- {
		end += bytes.IndexByte(b[end:], '\n') + 1
	}
	return b[:end]
}

// ended gives the reason why ctx has ended, nil while it has not: a stream of a
// context that has ended may end without a word.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// tableRows writes all rows of a table as COPY text. What is wrong with the table
// is given back with how many rows were written: errs.Corrupt for damage,
// errs.Unsupported for rows that have no text. With keep it goes on after that
// with the next run.
func tableRows(ctx context.Context, source Source, t *repo.Table, columns []column, keep bool, w io.Writer, count counting) (int64, error) {
	var rows int64
	var wrong error
	for i := range t.Runs {
		run := &t.Runs[i]
		n, err := oneRun(ctx, source, t, run, columns, keep, w, count)
		rows += n
		if err == nil {
			continue
		}
		if !keep || !survivable(ctx, err) {
			return rows, err
		}
		wrong = errors.Join(wrong, err)
	}
	return rows, wrong
}

// survivable tells whether an export that keeps going goes on after an error.
func survivable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, errs.Corrupt) || errors.Is(err, errs.Unsupported))
}

// oneRun writes one run. With keep it reads it twice: nobody can take back half a
// row, so what is whole must be known before any of it is written.
func oneRun(ctx context.Context, source Source, t *repo.Table, run *repo.Run, columns []column, keep bool, w io.Writer, count counting) (int64, error) {
	one := func(limit int64, skip map[int64]bool, w io.Writer, count counting) (int64, map[int64]bool, error) {
		if run.Binary {
			return binaryRun(ctx, source, t, run, columns, limit, skip, w, count)
		}
		n, err := textRun(ctx, source, run, limit, w, count)
		return n, nil, err
	}
	if !keep {
		n, _, err := one(-1, nil, w, count)
		return n, err
	}
	good, skip, wrong := one(-1, nil, io.Discard, func(int64, int64) {})
	if wrong == nil {
		good = -1
	} else if !survivable(ctx, wrong) {
		return 0, wrong
	}
	n, _, err := one(good, skip, w, count)
	return n, errors.Join(wrong, err)
}
