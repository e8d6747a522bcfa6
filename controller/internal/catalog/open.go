package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// lockWait is how long Open waits for another process to let go of the file: a
// controller that is just ending needs less.
const lockWait = 2 * time.Second

// Options say how a catalog is used.
type Options struct {
	// Detached lets Sync changes return without waiting for the store, for the
	// time in which no exporter runs: when the catalog is made, and in tests.
	Detached bool
}

// Create makes a new catalog file and opens it. In this order: a whole file is
// written under another name and synced; it is renamed; the folder is synced. A
// crash leaves no catalog or a whole one. A file that exists is Exists.
func Create(ctx context.Context, path string, m Meta, o Options) (*Catalog, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, errs.Exists)
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make catalog %s: %w", path, err)
	}
	if err := writeNew(part, m); err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, classify(err))
	}
	if err := os.Rename(part, path); err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, err)
	}
	if err := durable.SyncFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make catalog %s: %w", path, err)
	}
	return Open(ctx, path, o)
}

func writeNew(path string, m Meta) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(b *bbolt.Tx) error {
		for _, name := range allBuckets() {
			if _, err := b.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		if err := writeSchema(b, SchemaVersion); err != nil {
			return err
		}
		return (&Tx{bolt: b}).PutMeta(m)
	})
}

// Open opens the catalog file, migrating it forward if it is older. A file that
// does not exist is NotFound, one that another process has open is Busy, a
// damaged one is Corrupt, one of a newer program Unsupported.
func Open(ctx context.Context, path string, o Options) (*Catalog, error) {
	return open(ctx, path, o, migrations(), SchemaVersion)
}

func open(ctx context.Context, path string, o Options, steps []migration, version uint32) (*Catalog, error) {
	db, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c := &Catalog{db: db, detached: o.Detached, progress: make(chan struct{}), changed: make(chan struct{}, 1)}
	err = func() error {
		if err := walk(db); err != nil {
			return err
		}
		if err := migrate(db, steps, version); err != nil {
			return err
		}
		return c.load(ctx)
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: %w", path, classify(err)), db.Close())
	}
	return c, nil
}

func openFile(path string) (db *bbolt.DB, err error) {
	// bbolt would make a file that is missing, and take an empty one for new.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errs.NotFound
	case err != nil:
		return nil, err
	case info.Size() == 0:
		return nil, fmt.Errorf("the file is empty: %w", errs.Corrupt)
	}
	// bbolt panics on some damaged files and runs beyond the end of cut ones. What
	// it holds then is lost until the program ends, which it is about to.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(&err)
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, classify(err)
	}
	return db, nil
}

// recovered turns a panic, or a fault of a page beyond the end of the file,
// into Corrupt: what bbolt's code asserts does not hold for this file.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%v: %w", r, errs.Corrupt)
	}
}

// walk reads every page that a record can be on, so that damage is found at the
// start and not in the middle of a backup. A gigabyte takes about a second.
func walk(db *bbolt.DB) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(&err)
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			var last []byte
			return b.ForEach(func(k, v []byte) error {
				if last != nil && string(last) >= string(k) {
					return fmt.Errorf("bucket %q: keys out of order: %w", name, errs.Corrupt)
				}
				last = append(last[:0], k...)
				for i := 0; i < len(v); i += os.Getpagesize() {
					_ = v[i]
				}
				return nil
			})
		})
	})
}

// classify gives errors of bbolt and of the system their kinds.
func classify(err error) error {
	switch {
	case err == nil || errs.KindOf(err) != nil:
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process has it open: %w", errs.Busy)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %w", err, errs.Corrupt)
	case errors.Is(err, bolterrors.ErrKeyRequired), errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrValueTooLarge):
		return fmt.Errorf("%w: %w", err, errs.Invalid) // a record of the log that makes no sense
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return fmt.Errorf("the catalog is closed: %w", errs.Unavailable)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", err, errs.Exhausted)
	case errors.Is(err, syscall.EROFS), errors.Is(err, bolterrors.ErrDatabaseReadOnly):
		return fmt.Errorf("%w: %w", err, errs.ReadOnly)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, errs.Denied)
	}
	return err
}
