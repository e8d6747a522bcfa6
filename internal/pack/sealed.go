package pack

import (
	"fmt"
	"io"
	"os"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Sealed is a finished pack in its spool file. It is a blob.Body: the store
// reads it, possibly more than once, and makes it durable. Its methods may be
// called concurrently, except Remove.
type Sealed struct {
	path string
	dir  *Directory
}

// ID is the pack's id.
func (s *Sealed) ID() ID { return s.dir.ID }

// Directory is what the pack says about itself. It must not be changed.
func (s *Sealed) Directory() *Directory { return s.dir }

// Size is the length of the whole pack in bytes.
func (s *Sealed) Size() int64 { return s.dir.Size }

// Open starts reading from the first byte. The caller closes what it returns.
func (s *Sealed) Open() (io.ReadCloser, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("open pack %s: %w", s.dir.ID.Short(), errs.OfFile(err))
	}
	return f, nil
}

// Remove deletes the spool file: when the store has the pack, or when it is
// given up.
func (s *Sealed) Remove() error {
	if err := os.Remove(s.path); err != nil {
		return fmt.Errorf("remove pack %s: %w", s.dir.ID.Short(), errs.OfFile(err))
	}
	return nil
}
