package index

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// DropPacks takes everything about some packs out of the Set, because they are in the
// store no more. Lookups go on meanwhile. When it returns nil, HasPack says no
// for each of them, and so it does after the next Open.
//
// The steps are those of Merge: a crash before the new file has its name leaves
// everything as it was; one before the old files are gone leaves entries of the
// packs in some of these, and DropPacks is to be called again.
func (s *Set) DropPacks(ctx context.Context, packs []pack.ID) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	files, err := s.current()
	if err != nil {
		return err
	}
	var old []*file
	for _, f := range files {
		names := false
		if err := guard(func() error { names = slices.ContainsFunc(packs, f.hasPack); return nil }); err != nil {
			return fmt.Errorf("drop packs from index of domain %s: %w", s.domain, &FileError{Path: f.info.Path, Err: err})
		}
		if names {
			old = append(old, f)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := s.dropFrom(ctx, files, old, packs); err != nil {
		return fmt.Errorf("drop packs from index of domain %s: %w", s.domain, err)
	}
	return nil
}

// dropFrom replaces old by one file without the packs, or by none.
func (s *Set) dropFrom(ctx context.Context, files, old []*file, packs []pack.ID) error {
	for _, f := range old {
		if err := f.rehash(ctx); err != nil {
			return err
		}
	}
	j, err := joinWithout(old, packs)
	if err != nil {
		return err
	}
	var n uint64
	if err := j.each(ctx, func(*record) error { n++; return nil }); err != nil {
		return err
	}
	next := slices.DeleteFunc(slices.Clone(files), func(f *file) bool { return slices.Contains(old, f) })
	if n > 0 {
		made, err := s.create(old[0].seq, files, func(w io.Writer) (FileID, error) { return j.write(ctx, w, s.domain, n) })
		if err != nil {
			return err
		}
		if !slices.Contains(next, made) { // an interrupted DropPacks may have made it before
			next = append(next, made)
		}
	}
	sortFiles(next)
	s.publish(next)
	return s.remove(old)
}

// dropped is the number of a pack whose entries are left out.
const dropped = math.MaxUint32

// joining is some files about to become one.
type joining struct {
	old      []*file
	packs    []pack.ID
	renumber [][]uint32
	// to says what the numbers that renumber gives become. They are translated after
	// the merge: a source is in order by its own numbers, and dropped is none of them.
	to []uint32
}

// joinWithout gives the union of the pack tables without some packs.
func joinWithout(old []*file, without []pack.ID) (*joining, error) {
	union, renumber, err := joinPacks(old)
	if err != nil {
		return nil, err
	}
	gone := make(map[pack.ID]bool, len(without))
	for _, id := range without {
		gone[id] = true
	}
	j := &joining{old: old, renumber: renumber, to: make([]uint32, len(union))}
	for i, id := range union {
		if j.to[i] = dropped; !gone[id] {
			j.to[i] = uint32(len(j.packs))
			j.packs = append(j.packs, id)
		}
	}
	return j, nil
}

// each calls fn for every record that stays, in order.
func (j *joining) each(ctx context.Context, fn func(*record) error) error {
	return eachJoined(ctx, j.old, j.renumber, func(r *record) error {
		kept := *r
		if kept.setNumber(j.to[r.number()]); kept.number() == dropped {
			return nil
		}
		return fn(&kept)
	})
}

func (j *joining) write(ctx context.Context, w io.Writer, domain seal.DomainID, n uint64) (FileID, error) {
	return writeFile(w, domain, j.packs, n, func(fn func(*record) error) error { return j.each(ctx, fn) })
}
