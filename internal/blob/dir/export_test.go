package dir

import (
	"context"
	"errors"
	"os"

	"github.com/tuskvault/tuskvault/internal/blob"
)

// SetSync replaces fsync of files and folders.
func (s *Store) SetSync(sync func(*os.File) error) { s.files = syncedBy{sync: sync} }

type syncedBy struct {
	System
	sync func(*os.File) error
}

type syncedFile struct {
	*os.File
	sync func(*os.File) error
}

func (s syncedBy) Create(path string) (File, error) {
	f, err := s.System.Create(path)
	if err != nil {
		return nil, err
	}
	return syncedFile{f.(*os.File), s.sync}, nil
}

func (s syncedBy) SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(f), f.Close())
}

func (f syncedFile) Sync() error { return f.sync(f.File) }

// ListInPages is List with small pages.
func (s *Store) ListInPages(ctx context.Context, page int, prefix, after string, fn func(blob.Info) error) error {
	l := lister{ctx: ctx, prefix: prefix, after: after, fn: fn, page: page}
	return l.folder(s.root, "", 0)
}

// Kind is kind.
var Kind = kind
