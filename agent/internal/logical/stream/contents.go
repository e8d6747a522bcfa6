package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// maxObjectLine bounds what is read of one large object: its comment is the
// only part without a natural bound.
const maxObjectLine = 16 << 20

// EachObject calls fn for each large object of a snapshot, by OID. What fn is
// given is used again. Facts that cannot be read, or of another number of objects
// than the manifest says, are errs.Corrupt; an error of fn ends it.
func EachObject(ctx context.Context, source Source, o *repo.LargeObjects, fn func(*repo.LargeObjectFacts) error) error {
	r := OpenBytes(ctx, source, o.Meta, seal.KindLargeObject)
	defer r.Close()
	lines := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for n := int64(0); ; {
		part, err := lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(line) > maxObjectLine {
				return fmt.Errorf("facts of a large object of more than %d bytes: %w", maxObjectLine, errs.Corrupt)
			}
			continue
		case errors.Is(err, io.EOF) && len(line) == 0 && n == o.Count:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("facts of %d large objects, the manifest says %d: %w", n, o.Count, errs.Corrupt)
		case err != nil:
			return err
		}
		var f repo.LargeObjectFacts
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("facts of a large object: %w: %w", err, errs.Corrupt)
		}
		n++
		if err := fn(&f); err != nil {
			return err
		}
		line = line[:0]
	}
}

// ReadArchive reads a database's archive, to its end. One that is missing or
// damaged is errs.Corrupt.
func ReadArchive(ctx context.Context, source Source, d *repo.Database) (*pgarchive.Archive, error) {
	if d.Archive == nil {
		return nil, fmt.Errorf("database %s: the snapshot has no schema archive of it: %w", d.Name.Display(), errs.Corrupt)
	}
	r := OpenBytes(ctx, source, d.Archive.Stream, seal.KindArchive)
	defer r.Close()
	a, err := pgarchive.Read(r)
	if err == nil {
		// The end too: a damaged last chunk must not be found later.
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name.Display(), err)
	}
	return a, nil
}
