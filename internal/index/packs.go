package index

import (
	"bytes"
	"fmt"
	"sort"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
)

// HasPack tells whether some file of the Set was built from that pack. Whoever
// rebuilds a Set asks it which packs' directories are still to be read.
func (s *Set) HasPack(id pack.ID) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, fmt.Errorf("look up pack %s: index is closed: %w", id.Short(), errs.Unavailable)
	}
	found, at := false, 0
	err := guard(func() error {
		for ; at < len(s.files) && !found; at++ {
			found = s.files[at].hasPack(id)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look up pack %s: %w", id.Short(), &FileError{Path: s.files[at].info.Path, Err: err})
	}
	return found, nil
}

// hasPack searches the pack table, which is in the order of the ids.
func (f *file) hasPack(id pack.ID) bool {
	n := len(f.packs) / packSize
	i := sort.Search(n, func(i int) bool { return bytes.Compare(f.packs[i*packSize:][:packSize], id[:]) >= 0 })
	return i < n && bytes.Equal(f.packs[i*packSize:][:packSize], id[:])
}
