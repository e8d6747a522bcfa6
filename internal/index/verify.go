package index

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Verify reads every file of the Set once more and compares it with its id:
// about half a second for a GB. Lookups and writers go on meanwhile. The error
// joins a *FileError for each file that is damaged, see DamagedFiles and DropFiles.
//
// Until it has run, a file in which a disk has changed bytes since it was written
// may call a chunk missing that is stored, which is then stored twice, or give a
// place at which the chunk is not, which the reader finds out.
func (s *Set) Verify(ctx context.Context) error {
	files, err := s.current()
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range files {
		err := f.rehash(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errs.NotFound) && !s.has(f) {
			continue // merged since
		}
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("verify index of domain %s: %w", s.domain, err)
	}
	return nil
}

func (s *Set) has(f *file) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.files, f)
}

// DropFiles takes files, by path, out of the Set and deletes them: their packs are no
// longer covered, and the caller indexes them again. Paths of other files are
// passed over.
//
// Steps: lookups stop using the files; they are deleted; the folder is synced. A
// crash leaves some of them, which Verify finds again.
func (s *Set) DropFiles(paths []string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	files, err := s.current()
	if err != nil {
		return err
	}
	var kept, gone []*file
	for _, f := range files {
		if slices.Contains(paths, f.info.Path) {
			gone = append(gone, f)
		} else {
			kept = append(kept, f)
		}
	}
	s.publish(kept)
	if err := s.remove(gone); err != nil {
		return fmt.Errorf("drop from index of domain %s: %w", s.domain, err)
	}
	return nil
}

// remove deletes files that no lookup uses any more.
func (s *Set) remove(files []*file) error {
	var failed []error
	for _, f := range files {
		failed = append(failed, f.close())
		if err := os.Remove(f.info.Path); err != nil {
			failed = append(failed, errs.OfFile(err))
		}
	}
	return errors.Join(append(failed, syncFolder(s.dir))...)
}

// rehash verifies the file by reading it, not its mapping: what has rotted since
// it was written must not get a new id.
func (f *file) rehash(ctx context.Context) error {
	r, err := os.Open(f.info.Path)
	if err != nil {
		return &FileError{Path: f.info.Path, Err: errs.OfFile(err)}
	}
	defer func() { _ = r.Close() }() // only read from
	h := sha256.New()
	if _, err := io.Copy(h, &stoppable{ctx, io.NewSectionReader(r, 0, f.head.footerAt())}); err != nil {
		return &FileError{Path: f.info.Path, Err: err}
	}
	if FileID(h.Sum(nil)) != f.info.ID {
		return &FileError{Path: f.info.Path, Err: fmt.Errorf("content no longer has the id of the file: %w", errs.Corrupt)}
	}
	return nil
}

// stoppable reads until a context ends.
type stoppable struct {
	ctx  context.Context // of the one call that the reader belongs to
	from io.Reader
}

// Read reads what there is.
func (s *stoppable) Read(b []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.from.Read(b)
}
