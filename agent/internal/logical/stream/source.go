package stream

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Chunk is one verified piece of a stream.
type Chunk struct {
	Kind seal.Kind
	// First and Last are set on the ends of a row that is split (seal.KindRowPart).
	First, Last bool
	// Rows that end in the chunk.
	Rows uint32
	// Plain is valid until the next chunk is asked for.
	Plain []byte
}

// Source gives the bytes of a snapshot.
type Source interface {
	// Stream gives the chunks of a stream in order. It ends after its first error,
	// which names the damaged object and has the kind errs.Corrupt if it is
	// damaged. Several may be open at once, for at most as many as there are jobs
	// plus one. It must end soon after ctx has.
	Stream(ctx context.Context, s repo.Stream) iter.Seq2[Chunk, error]
	// Check tells whether the chunk lists of a stream can be read and agree with
	// it, without reading its chunks.
	Check(ctx context.Context, s repo.Stream) error
}

// puller reads a stream chunk by chunk. Close may be called while another
// goroutine is in next; both return soon then.
type puller struct {
	cancel context.CancelCauseFunc
	pull   func() (Chunk, error, bool)
	stop   func()

	mu   sync.Mutex
	done bool
}

var errClosed = fmt.Errorf("load: the reader is closed: %w", errs.Canceled)

func open(ctx context.Context, source Source, s repo.Stream) *puller {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &puller{cancel: cancel}
	p.pull, p.stop = iter.Pull2(source.Stream(ctx, s))
	return p
}

// next gives the next chunk, or io.EOF.
func (p *puller) next() (Chunk, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return Chunk{}, errClosed
	}
	c, err, ok := p.pull()
	if !ok {
		return Chunk{}, io.EOF
	}
	return c, err
}

func (p *puller) Close() {
	p.cancel(errClosed)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	p.stop()
}

// ByteReader gives the bytes of a stream that has no rows of tables: an archive
// or large objects.
type ByteReader struct {
	*puller
	stream repo.Stream
	kind   seal.Kind
	rest   []byte
	bytes  int64
}

// OpenBytes reads a stream whose chunks have the kind. A chunk of another kind, and
// an end before the stream's, are errs.Corrupt.
func OpenBytes(ctx context.Context, source Source, s repo.Stream, kind seal.Kind) *ByteReader {
	return &ByteReader{puller: open(ctx, source, s), stream: s, kind: kind}
}

// Read gives io.EOF only when the whole stream was there.
func (r *ByteReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		c, err := r.next()
		if err == io.EOF && r.bytes != r.stream.Bytes { //nolint:errorlint // next gives it bare
			return 0, fmt.Errorf("stream of %d bytes ended after %d: %w", r.stream.Bytes, r.bytes, errs.Corrupt)
		}
		if err != nil {
			return 0, err
		}
		if c.Kind != r.kind && c.Kind != seal.KindRowPart {
			return 0, fmt.Errorf("a chunk of kind %d among those of kind %d: %w", c.Kind, r.kind, errs.Corrupt)
		}
		r.rest = c.Plain
		r.bytes += int64(len(c.Plain))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// The binary format's frame around rows: signature, no flags, no extension; and
// the trailer.
var (
	binaryHead = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	binaryTail = []byte{0xff, 0xff}
)

// RunReader gives the rows of a run as COPY FROM wants them. Chunks of text are
// whole rows already and go through as they are.
type RunReader struct {
	*puller
	run   *repo.Run
	count func(rows, bytes int64)

	mu    sync.Mutex // held by Read
	rest  []byte
	inRow bool // in the middle of a split row
	scan  rowScanner
	bytes int64
	tail  bool
}

// OpenRun reads a run; count is told of each chunk. What it gives is compared
// with the manifest: a reader that has ended with io.EOF gave the run's rows.
func OpenRun(ctx context.Context, source Source, run *repo.Run, count func(rows, bytes int64)) *RunReader {
	r := &RunReader{puller: open(ctx, source, run.Stream), run: run, count: count, scan: rowScanner{binary: run.Binary}}
	if run.Binary {
		r.rest = binaryHead
	}
	return r
}

// Close ends the reader. When it returns no Read is under way and count is not
// called any more: a COPY whose connection is lost leaves a read behind.
func (r *RunReader) Close() {
	r.cancel(errClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.puller.Close()
	r.rest = nil
}

// Read gives io.EOF only after every row of the run: any other end makes the
// server throw away what it has.
func (r *RunReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.rest) == 0 {
		if r.tail {
			return 0, io.EOF
		}
		c, err := r.next()
		if err == io.EOF { //nolint:errorlint // next gives it bare
			if err := r.whole(); err != nil {
				return 0, err
			}
			r.tail = true
			if r.run.Binary {
				r.rest = binaryTail
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		if err := r.take(c); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// take checks that a chunk can follow what was there.
func (r *RunReader) take(c Chunk) error {
	want := seal.KindRowsText
	if r.run.Binary {
		want = seal.KindRowsBinary
	}
	switch {
	case c.Kind == seal.KindRowPart:
		if c.First == r.inRow {
			return fmt.Errorf("the parts of a split row are out of order: %w", errs.Corrupt)
		}
		r.inRow = !c.Last
	case c.Kind != want:
		return fmt.Errorf("a chunk of kind %d among those of kind %d: %w", c.Kind, want, errs.Corrupt)
	case r.inRow:
		return fmt.Errorf("a split row lacks its end: %w", errs.Corrupt)
	}
	before := r.scan.sum.Rows
	if err := r.scan.write(c.Plain); err != nil {
		return err
	}
	if n := r.scan.sum.Rows - before; n != int64(c.Rows) || r.scan.open != r.inRow {
		return fmt.Errorf("a chunk ends %d rows, its list says %d: %w", n, c.Rows, errs.Corrupt)
	}
	r.rest = c.Plain
	r.bytes += int64(len(c.Plain))
	r.count(int64(c.Rows), int64(len(c.Plain)))
	return nil
}

// whole tells whether all rows of the run have been given, and no others.
func (r *RunReader) whole() error {
	got := r.scan.sum
	if r.inRow || got.Rows != r.run.Rows || r.bytes != r.run.Stream.Bytes {
		return fmt.Errorf("%d rows in %d bytes arrived, the manifest says %d in %d: %w",
			got.Rows, r.bytes, r.run.Rows, r.run.Stream.Bytes, errs.Corrupt)
	}
	if want := (RowSum{Rows: r.run.Rows, Sum: r.run.Fingerprint}); got != want {
		return fmt.Errorf("the rows that arrived differ from the snapshot's: expected %s, found %s: %w", want, got, errs.Corrupt)
	}
	return nil
}
