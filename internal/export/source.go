package export

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Chunk is one verified piece of a stream.
type Chunk struct {
	Kind seal.Kind
	// First and Last are set on the ends of a row that is split (seal.KindRowPart).
	First, Last bool
	// Plain is valid until the next chunk is asked for.
	Plain []byte
}

// Source gives the bytes of a snapshot.
type Source interface {
	// Stream gives the chunks of a stream in order, each verified. It ends after
	// its first error, which names the damaged object and has the kind errs.Corrupt
	// if it is damaged. Up to Options.Jobs may be open at once, and each may be
	// asked for again. It must end soon after ctx has.
	Stream(ctx context.Context, s repo.Stream) iter.Seq2[Chunk, error]
}

// byteReader gives the bytes of a stream that has no rows of tables.
type byteReader struct {
	pull   func() (Chunk, error, bool)
	stop   func()
	stream repo.Stream
	kind   seal.Kind
	rest   []byte
	bytes  int64
}

// openBytes reads a stream of one kind. The caller closes it.
func openBytes(ctx context.Context, source Source, s repo.Stream, kind seal.Kind) *byteReader {
	r := &byteReader{stream: s, kind: kind}
	r.pull, r.stop = iter.Pull2(source.Stream(ctx, s))
	return r
}

func (r *byteReader) close() { r.stop() }

// Read gives io.EOF only when the whole stream was there.
func (r *byteReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		c, err, ok := r.pull()
		switch {
		case !ok && r.bytes != r.stream.Bytes:
			return 0, fmt.Errorf("stream of %d bytes ended after %d: %w", r.stream.Bytes, r.bytes, errs.Corrupt)
		case !ok:
			return 0, io.EOF
		case err != nil:
			return 0, err
		case c.Kind != r.kind && c.Kind != seal.KindRowPart:
			return 0, fmt.Errorf("a chunk of kind %d among those of kind %d: %w", c.Kind, r.kind, errs.Corrupt)
		}
		r.rest = c.Plain
		r.bytes += int64(len(c.Plain))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// readArchive reads the table of contents of a database's schema archive.
func readArchive(ctx context.Context, source Source, d *repo.Database) (*pgarchive.Archive, error) {
	if d.Archive == nil {
		return nil, fmt.Errorf("database %s: its backup failed, there is nothing of it in the snapshot: %w", d.Name.Display(), errs.NotFound)
	}
	r := openBytes(ctx, source, d.Archive.Stream, seal.KindArchive)
	defer r.close()
	a, err := pgarchive.Read(r)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name.Display(), err)
	}
	return a, nil
}

// relation names a table within its database.
type relation struct{ schema, name pg.Name }

func (r relation) quoted() string { return r.schema.Quote() + "." + r.name.Quote() }
func (r relation) String() string { return r.schema.Display() + "." + r.name.Display() }
