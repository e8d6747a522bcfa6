package dump

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// cutting is what one goroutine needs to turn rows into named chunks.
type cutting struct {
	uploader Uploader
	stream   Stream
	namer    *seal.Namer
	cutter   *chunk.Cutter
	max      int // of a chunk
}

func newCutting(o *Options, stream Stream) (*cutting, error) {
	cutter, err := chunk.NewCutter(o.Grant.CutKey, o.Grant.Cut)
	if err != nil {
		return nil, err
	}
	return &cutting{uploader: o.Uploader, stream: stream, namer: seal.NewNamer(o.Grant.NameKey), cutter: cutter, max: o.Grant.Cut.Max}, nil
}

// putList sends a chunk list.
func (c *cutting) putList(ctx context.Context, plain []byte) (seal.Name, error) {
	name := c.namer.Name(seal.KindList, plain)
	return name, upload(c.stream.PutCopy(ctx, seal.KindList, name, plain))
}

// runWriter turns the rows of one COPY into chunks and keeps their entries. Its
// memory is one chunk, whatever the width of a row.
type runWriter struct {
	ctx context.Context // of one COPY: the writer lives no longer
	cut *cutting
	db  *database
	// table counts what is read of it alone.
	table *counting
	kind  seal.Kind

	lists  *repo.RunLists
	buf    []byte // the chunk being filled, nil between chunks
	rows   uint32 // that end in it
	sum    chunk.Fingerprint
	hasher chunk.RowHasher
	split  bool // in the middle of a row that is
	first  bool // the next part of the split row is its first

	counted struct{ rows, bytes int64 } // what the database's progress has of the run
	wide    string                      // predicate of a binary run
}

// piece takes a row, or a part of a wide one.
func (w *runWriter) piece(p postgres.Piece) error {
	if p.First && p.Last {
		return w.whole(p.Data)
	}
	if p.First {
		w.hasher.Reset()
		if w.cut.cutter.Before(p.Row, len(w.buf)) {
			if err := w.emit(w.kind, false); err != nil {
				return err
			}
		}
		w.split = p.Row > w.cut.max
		w.first = w.split
	}
	_, _ = w.hasher.Write(p.Data) // never fails
	if w.split {
		if err := w.part(p.Data); err != nil {
			return err
		}
	} else if err := w.append(p.Data); err != nil {
		return err
	}
	if !p.Last {
		return nil
	}
	return w.ended(w.hasher.Sum(), p.Row)
}

// whole takes a row that came in one piece: nearly every row does.
func (w *runWriter) whole(row []byte) error {
	if len(row) > w.cut.max { // only where the largest chunk is smaller than the reader's buffer
		w.hasher.Reset()
		_, _ = w.hasher.Write(row) // never fails
		if len(w.buf) > 0 {
			if err := w.emit(w.kind, false); err != nil {
				return err
			}
		}
		w.split, w.first = true, true
		if err := w.part(row); err != nil {
			return err
		}
		return w.ended(w.hasher.Sum(), len(row))
	}
	if w.cut.cutter.Before(len(row), len(w.buf)) {
		if err := w.emit(w.kind, false); err != nil {
			return err
		}
	}
	if err := w.append(row); err != nil {
		return err
	}
	return w.ended(chunk.HashRow(row), len(row))
}

// ended accounts for a row that is complete, and cuts after it if it says so.
func (w *runWriter) ended(h chunk.RowHash, n int) error {
	w.sum.Add(h)
	w.rows++
	w.count(1, int64(n))
	if w.split {
		w.split = false
		return w.emit(seal.KindRowPart, true)
	}
	if w.cut.cutter.After(h, n, len(w.buf)) {
		return w.emit(w.kind, false)
	}
	return nil
}

// append adds bytes that fit into the chunk being filled.
func (w *runWriter) append(b []byte) error {
	if w.buf == nil {
		buf, err := w.cut.uploader.Buffer(w.ctx)
		if err != nil {
			return upload(err)
		}
		w.buf = buf
	}
	if len(w.buf)+len(b) > w.cut.max {
		return fmt.Errorf("chunk of %d bytes cannot take %d more: %w", len(w.buf), len(b), errs.Invalid)
	}
	w.buf = append(w.buf, b...)
	return nil
}

// part adds bytes of a row that is split at multiples of the largest chunk from
// its own start.
func (w *runWriter) part(b []byte) error {
	for len(b) > 0 {
		if len(w.buf) == w.cut.max {
			if err := w.emit(seal.KindRowPart, false); err != nil {
				return err
			}
		}
		n := min(len(b), w.cut.max-len(w.buf))
		if err := w.append(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// emit names the chunk, hands it on and starts a new one.
func (w *runWriter) emit(kind seal.Kind, last bool) error {
	if w.buf == nil {
		return nil
	}
	name := w.cut.namer.Name(kind, w.buf)
	e := repo.ListEntry{Kind: kind, Name: name, First: w.first, Last: last, Length: uint32(len(w.buf)), Rows: w.rows, Fingerprint: w.sum}
	buf := w.buf
	w.buf, w.rows, w.sum, w.first = nil, 0, chunk.Fingerprint{}, false
	if err := w.cut.stream.Put(w.ctx, kind, name, buf); err != nil {
		return upload(err)
	}
	return w.lists.Add(w.ctx, e, w.cut.putList)
}

// close emits the last chunk. The run is whole only if it returns nil.
func (w *runWriter) close() error {
	if w.split {
		return fmt.Errorf("rows ended in the middle of one: %w", errs.Corrupt)
	}
	if err := w.emit(w.kind, false); err != nil {
		return err
	}
	return w.lists.End(w.ctx, w.cut.putList)
}

// count adds to the database's progress.
func (w *runWriter) count(rows, bytes int64) {
	if w.kind == seal.KindLargeObject {
		rows = 0
	}
	w.counted.rows += rows
	w.counted.bytes += bytes
	w.db.rows.Add(rows)
	w.db.bytes.Add(bytes)
	w.table.add(rows, bytes)
}

// abandon takes back what the run has done, after a failure: its chunks are in
// no list, and whoever reads its rows again counts them.
func (w *runWriter) abandon() {
	w.lists.Discard()
	w.db.rows.Add(-w.counted.rows)
	w.db.bytes.Add(-w.counted.bytes)
	w.table.add(-w.counted.rows, -w.counted.bytes)
	if w.buf != nil {
		w.cut.uploader.Release(w.buf)
		w.buf = nil
	}
}
