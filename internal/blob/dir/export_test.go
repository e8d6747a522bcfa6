package dir

import (
	"context"
	"os"

	"github.com/tuskvault/tuskvault/internal/blob"
)

// SetSync replaces fsync of files and folders.
func (s *Store) SetSync(sync func(*os.File) error) { s.sync = sync }

// ListInPages is List with small pages.
func (s *Store) ListInPages(ctx context.Context, page int, prefix, after string, fn func(blob.Info) error) error {
	l := lister{ctx: ctx, prefix: prefix, after: after, fn: fn, page: page}
	return l.folder(s.root, "", 0)
}

// Kind is kind.
var Kind = kind
