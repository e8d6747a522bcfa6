package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Import makes a catalog file of the records of a catalog log. It knows no type
// of record: a change names its bucket, and what it puts is kept as it is. One
// goroutine at a time.
type Import struct {
	path string
	db   *bbolt.DB
	// schema of the records that are in the file, 0 before the first.
	schema uint32
}

// NewImport begins a catalog that will be at path; a file there is errs.Exists.
// Until Finish everything is in another file, and not synced: a crash leaves
// nothing that is ever opened.
func NewImport(path string) (*Import, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, errs.Exists)
	}
	i := &Import{path: path}
	if err := os.Remove(i.part()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make catalog %s: %w", path, err)
	}
	if err := writeNew(i.part(), Meta{}); err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, classify(err))
	}
	var err error
	if i.db, err = bbolt.Open(i.part(), 0o600, &bbolt.Options{Timeout: lockWait, NoSync: true, FreelistType: bbolt.FreelistMapType}); err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, classify(err))
	}
	return i, nil
}

func (i *Import) part() string { return i.path + ".part" }

// Apply takes in the payload of one record of the log, or of the full record
// that the log begins with, in their order. A payload of a newer program is
// errs.Unsupported, one that makes no sense errs.Corrupt.
func (i *Import) Apply(payload []byte) error {
	for rest := payload; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return fmt.Errorf("catalog log payload: %w: %w", protowire.ParseError(n), errs.Corrupt)
		}
		rest = rest[n:]
		switch {
		case field == 1 && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(rest)
			if n < 0 {
				return fmt.Errorf("catalog log payload: %w: %w", protowire.ParseError(n), errs.Corrupt)
			}
			if err := i.advance(v); err != nil {
				return err
			}
			rest = rest[n:]
		case field == 2 && kind == protowire.BytesType && i.schema != 0:
			batch, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return fmt.Errorf("catalog log payload: %w: %w", protowire.ParseError(n), errs.Corrupt)
			}
			if err := i.batch(batch); err != nil {
				return err
			}
			rest = rest[n:]
		default:
			return fmt.Errorf("catalog log payload: field %d of type %d: %w", field, kind, errs.Unsupported)
		}
	}
	return nil
}

// advance brings the file to the schema of what comes next.
func (i *Import) advance(schema uint64) error {
	switch {
	case schema > SchemaVersion:
		return fmt.Errorf("catalog log payload: was written by a newer version (schema %d, this program knows %d); run that version: %w", schema, SchemaVersion, errs.Unsupported)
	case schema == 0 || schema < uint64(i.schema):
		return fmt.Errorf("catalog log payload: schema %d after %d: %w", schema, i.schema, errs.Corrupt)
	case i.schema == 0:
		i.schema = uint32(schema)
	}
	for ; i.schema < uint32(schema); i.schema++ {
		step, err := stepFrom(migrations(), i.schema)
		if err != nil {
			return err
		}
		if err := i.db.Update(step.apply); err != nil {
			return fmt.Errorf("migrate from schema %d: %w", i.schema, err)
		}
	}
	return nil
}

func (i *Import) batch(raw []byte) error {
	batch := &catalogpb.Batch{}
	if err := proto.Unmarshal(raw, batch); err != nil {
		return fmt.Errorf("catalog log batch: %w (%w)", errs.Corrupt, err)
	}
	var inner error
	err := i.db.Update(func(b *bbolt.Tx) error {
		for _, c := range batch.GetChanges() {
			if inner = applyChange(b, c); inner != nil {
				return inner
			}
		}
		return nil
	})
	if inner != nil {
		return inner
	}
	return classify(err)
}

func applyChange(tx *bbolt.Tx, c *catalogpb.Change) error {
	if !bucket(c.GetBucket()).exported() || len(c.GetKey()) == 0 {
		return fmt.Errorf("catalog log change of %q/%x: no such records here: %w", c.GetBucket(), c.GetKey(), errs.Corrupt)
	}
	b := tx.Bucket([]byte(c.GetBucket()))
	if c.GetDeleted() {
		return classify(b.Delete(c.GetKey()))
	}
	return classify(b.Put(c.GetKey(), c.GetValue()))
}

// Finish makes the catalog whole and opens it, Detached: nothing ships what is
// changed in it before it is opened again. In this order: the indexes and meta are
// written; the file is synced; it is renamed to its path; the folder is synced. A
// crash leaves no catalog or a whole one.
func (i *Import) Finish(ctx context.Context, m Meta) (*Catalog, error) {
	err := i.advance(SchemaVersion)
	if err == nil {
		err = i.db.Update(func(b *bbolt.Tx) error {
			tx := &Tx{bolt: b}
			return errors.Join(tx.reindex(), tx.PutMeta(m))
		})
	}
	err = errors.Join(err, i.db.Sync(), i.db.Close())
	if err == nil {
		err = os.Rename(i.part(), i.path)
	}
	if err == nil {
		err = durable.SyncFolder(filepath.Dir(i.path))
	}
	if err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", i.path, classify(err))
	}
	return Open(ctx, i.path, Options{Detached: true})
}

// Abandon ends an import that is not finished. It is harmless after Finish.
func (i *Import) Abandon() error {
	err := i.db.Close()
	if rmErr := os.Remove(i.part()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}
