package export

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Rows whose text a server could not make are in a snapshot in the binary format
// (Run.Binary). Many of them do have a text that a server takes: the estimate
// that put them there is generous. They are converted here, value by value and
// in pieces; what has no text is reported.

// maxTextRow is the longest line that a server takes in COPY FROM.
const maxTextRow = 1<<30 - 2

// errNoText is a row, or all rows of a run, that cannot be written as text.
var errNoText = fmt.Errorf("has no text that a server takes: %w", errs.Unsupported)

// binaryRun writes the rows of a binary run as text: of the first limit rows, if
// that is not negative, those that are not in skip. It gives how many rows were
// read, with what could be skipped; see oneRun. Without skip, a row that has no
// text ends it when w is a file, and is noted when rows are only tried out.
func binaryRun(ctx context.Context, source Source, t *repo.Table, run *repo.Run, columns []column, limit int64, skip map[int64]bool,
	w io.Writer, count counting) (int64, map[int64]bool, error) {
	writers, err := valueWriters(columns)
	if err != nil {
		return 0, nil, fmt.Errorf("%d wide rows: %w", run.Rows, err)
	}
	raw := openBytes(ctx, source, run.Stream, seal.KindRowsBinary)
	defer raw.close()
	b := &binaryRows{in: bufio.NewReaderSize(raw, 64<<10), out: bufio.NewWriterSize(w, 64<<10), writers: writers}
	trying := w == io.Discard
	missing := map[int64]bool{}
	for limit < 0 || b.sum.rows < limit {
		at := b.sum.rows
		err := b.row(skip[at])
		switch {
		case errors.Is(err, io.EOF):
			return b.finish(run, missing, limit)
		case errors.Is(err, errNoText) && trying:
			missing[at] = true
			continue
		case err != nil:
			return at, missing, fmt.Errorf("wide row %d of %d: %w", at+1, run.Rows, err)
		}
		if !skip[at] {
			count(1, b.line)
		}
	}
	return b.sum.rows, missing, b.out.Flush()
}

// binaryRows reads rows in the binary format and writes them as text.
type binaryRows struct {
	in      *bufio.Reader
	out     *bufio.Writer
	writers []valueWriter
	sum     rowSum
	line    int64 // bytes of the line being written
	silent  bool  // the rest of the row is read and not written
}

func (b *binaryRows) finish(run *repo.Run, missing map[int64]bool, limit int64) (int64, map[int64]bool, error) {
	if err := b.out.Flush(); err != nil || limit >= 0 {
		return b.sum.rows, missing, err
	}
	err := b.sum.differs(run)
	if len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d wide rows: %w", len(missing), run.Rows, errNoText))
	}
	return b.sum.rows, missing, err
}

// Read feeds what is read of the row to the sum.
func (b *binaryRows) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	_, _ = b.sum.hasher.Write(p[:n]) // never fails
	b.sum.bytes += int64(n)
	return n, err
}

// Write writes a part of the line.
func (b *binaryRows) Write(p []byte) (int, error) {
	if b.silent {
		return len(p), nil
	}
	if b.line += int64(len(p)); b.line > maxTextRow {
		b.silent = true // the rest of the row is only read
		return len(p), nil
	}
	return b.out.Write(p)
}

// row reads one row; io.EOF only before it.
func (b *binaryRows) row(skip bool) error {
	if _, err := b.in.Peek(1); err != nil {
		return err
	}
	b.sum.hasher.Reset()
	b.line, b.silent = 0, skip
	err := b.values()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("is cut off: %w", errs.Corrupt)
	}
	if err != nil {
		return err
	}
	b.sum.sum.Add(b.sum.hasher.Sum())
	b.sum.rows++
	if b.silent && !skip {
		return fmt.Errorf("%d bytes and more of text: %w", int64(maxTextRow), errNoText)
	}
	return nil
}

func (b *binaryRows) values() error {
	var head [4]byte
	if _, err := io.ReadFull(b, head[:2]); err != nil {
		return err
	}
	if n := int(binary.BigEndian.Uint16(head[:2])); n != len(b.writers) {
		return fmt.Errorf("has %d values, the table %d columns: %w", n, len(b.writers), errs.Corrupt)
	}
	for i, write := range b.writers {
		if _, err := io.ReadFull(b, head[:]); err != nil {
			return err
		}
		if i > 0 {
			if _, err := io.WriteString(b, "\t"); err != nil {
				return err
			}
		}
		n := int32(binary.BigEndian.Uint32(head[:]))
		if n < 0 {
			if _, err := io.WriteString(b, `\N`); err != nil {
				return err
			}
			continue
		}
		value := &io.LimitedReader{R: b, N: int64(n)}
		if err := write(b, value, int(n)); err != nil {
			return err
		}
		if value.N != 0 {
			return fmt.Errorf("value %d has %d bytes too many: %w", i+1, value.N, errs.Corrupt)
		}
	}
	_, err := io.WriteString(b, "\n")
	return err
}
