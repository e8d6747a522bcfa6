package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The costs of cached values, in bytes of memory an entry.
const (
	costDirectoryEntry = 80
	costListEntry      = 72
	costListRef        = 48
)

type (
	directoryKey struct{ id pack.ID }
	listKey      struct{ name seal.Name }
	refsKey      struct{ snapshot repo.JobID }
)

// cachedDirectory is directory, from the cache if it is there.
func (s *Server) cachedDirectory(ctx context.Context, d *domain, id pack.ID) (*pack.Directory, error) {
	if v, ok := s.cache.find(directoryKey{id}); ok {
		return v.(*pack.Directory), nil
	}
	dir, err := s.directoryAnywhere(ctx, d, id)
	if err != nil {
		return nil, err
	}
	s.cache.keep(directoryKey{id}, dir, int64(len(dir.Entries))*costDirectoryEntry)
	return dir, nil
}

// verify tells whether a frame that was read at a location is what the pack's
// directory says is there, and is the chunk asked for.
func (s *Server) verify(ctx context.Context, d *domain, l index.Location, name seal.Name, frame []byte) error {
	dir, err := s.cachedDirectory(ctx, d, l.Pack)
	if err != nil {
		return err
	}
	i, ok := slices.BinarySearchFunc(dir.Entries, l.Offset, func(e pack.Entry, off int64) int { return int(e.Offset - off) })
	if !ok || dir.Entries[i].Name != name || dir.Entries[i].Length != l.Length {
		return fmt.Errorf("pack %s has no chunk %s at %d: %w", l.Pack, name.Short(), l.Offset, errs.Corrupt)
	}
	if seal.HashFrame(frame) != dir.Entries[i].Hash {
		return fmt.Errorf("pack %s: frame of chunk %s at %d is damaged: %w", l.Pack, name.Short(), l.Offset, errs.Corrupt)
	}
	return nil
}

// surely finds a chunk that a snapshot names. One that the local index does not
// know is looked for in the store before it is called missing.
func (v *view) surely(ctx context.Context, name seal.Name) ([]index.Location, error) {
	for {
		places, err := v.find(ctx, v.scratch[:0], name)
		v.scratch = places
		if err != nil || len(places) > 0 {
			return places, err
		}
		again, err := v.s.completeIndex(ctx, v.dom)
		if err != nil {
			return nil, err
		}
		if !again {
			return nil, fmt.Errorf("chunk %s is in no pack: %w", name, errs.NotFound)
		}
	}
}

// frame reads one chunk's frame, from the first place where it is whole.
func (v *view) frame(ctx context.Context, name seal.Name) ([]byte, error) {
	places, err := v.surely(ctx, name)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, l := range places {
		frame, err := v.s.readRange(ctx, repo.PackObject(v.dom.id, l.Pack), l.Offset, int64(l.Length))
		if err == nil {
			err = v.s.verify(ctx, v.dom, l, name, frame)
		}
		if err == nil {
			return frame, nil
		}
		failed = errors.Join(failed, fmt.Errorf("pack %s at %d: %w", l.Pack, l.Offset, err))
		if errors.Is(err, errs.Unavailable) || ctx.Err() != nil {
			break // the store's trouble, not the chunk's
		}
	}
	if v.elsewhere(ctx) {
		frame, err := v.frameElsewhere(ctx, name, places)
		if err == nil {
			return frame, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, fmt.Errorf("chunk %s: %w", name, failed)
}

// list reads, opens and decodes a chunk list.
func (v *view) list(ctx context.Context, ref repo.ListRef) ([]repo.ListEntry, error) {
	if c, ok := v.s.cache.find(listKey{ref.Name}); ok {
		return c.([]repo.ListEntry), nil
	}
	frame, err := v.frame(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	plain, err := v.dom.lists.Open(nil, frame, seal.KindList, ref.Name)
	if err != nil {
		return nil, err
	}
	entries, err := repo.DecodeList(plain)
	if err != nil {
		return nil, err
	}
	var bytes int64
	for _, e := range entries {
		bytes += int64(e.Length)
	}
	if len(entries) != int(ref.Entries) || bytes != ref.Bytes {
		return nil, fmt.Errorf("list chunk %s: %d entries of %d bytes, the references say %d of %d: %w",
			ref.Name.Short(), len(entries), bytes, ref.Entries, ref.Bytes, errs.Corrupt)
	}
	v.s.cache.keep(listKey{ref.Name}, entries, int64(len(entries))*costListEntry)
	return entries, nil
}
