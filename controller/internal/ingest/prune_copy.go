package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Copying says what CopyFrames is to copy.
type Copying struct {
	// Domain of it all; Prune is the id that the new packs' trailers name as their job.
	Domain seal.DomainID
	Prune  repo.ID
	// Each calls fn for every frame, those of one uploader and pack together.
	Each func(ctx context.Context, fn func(check.FrameCopy) error) error
	// Made are packs that this prune has put already: they are indexed if they are not.
	Made []pack.ID
}

// CopyFrames copies sealed frames into new packs, as they are, without any key
// of data. A new pack names the uploader of the frames, so that in a shared
// domain everybody goes on to rely on his own alone. In this order:
//
//  1. A pack is filled in a spool file, each frame verified by the hash in the
//     directory that it comes from.
//  2. The store takes the pack, and its directory is read back. A crash leaves a
//     pack that no index file names and that names this prune: Made, the next time.
//  3. An index file of the new packs is put and taken into the local index.
//
// When it returns nil, everything is durable and findable. A frame that is
// damaged, or a pack that is not there, is errs.Corrupt.
func (s *Server) CopyFrames(ctx context.Context, c Copying) (bytes int64, err error) {
	d, err := s.domain(ctx, c.Domain)
	if err != nil {
		return 0, fmt.Errorf("copy chunks: %w", err)
	}
	k := &copier{s: s, d: d, prune: c.Prune, index: index.NewBuilder(c.Domain)}
	defer func() { err = errors.Join(err, k.abort()) }()
	for _, id := range c.Made {
		if err := k.adopt(ctx, id); err != nil {
			return 0, fmt.Errorf("copy chunks: %w", err)
		}
	}
	err = c.Each(ctx, func(f check.FrameCopy) error { return k.copy(ctx, f) })
	if err == nil {
		err = k.closePack(ctx)
	}
	if err == nil {
		err = k.flush(ctx)
	}
	if err != nil {
		return k.bytes, fmt.Errorf("copy chunks: %w", err)
	}
	return k.bytes, nil
}

// copier is one CopyFrames.
type copier struct {
	s      *Server
	d      *domain
	prune  repo.ID
	writer *pack.Writer
	from   *pack.Directory // of the pack being read
	of     repo.InstanceID // uploader of the open pack
	index  *index.Builder
	bytes  int64
}

// adopt indexes a pack that a crash has left without.
func (k *copier) adopt(ctx context.Context, id pack.ID) error {
	has, err := k.d.set.HasPack(id)
	if has || err != nil {
		return err
	}
	dir, err := k.s.directory(ctx, k.d, id)
	if err != nil {
		return err
	}
	return k.add(ctx, dir)
}

func (k *copier) add(ctx context.Context, dir *pack.Directory) error {
	k.index.AddPack(dir)
	if k.index.Len() < index.BuilderEntries/4 {
		return nil
	}
	return k.flush(ctx)
}

func (k *copier) flush(ctx context.Context) error {
	if k.index.Len() == 0 {
		return nil
	}
	full := k.index
	k.index = index.NewBuilder(k.d.id)
	return k.s.addIndex(ctx, k.d, full)
}

func (k *copier) copy(ctx context.Context, f check.FrameCopy) (err error) {
	if k.from == nil || k.from.ID != f.Pack {
		if k.from, err = k.s.directory(ctx, k.d, f.Pack); errors.Is(err, errs.NotFound) {
			return fmt.Errorf("%w: %w", errs.Corrupt, err)
		} else if err != nil {
			return err
		}
	}
	i, ok := slices.BinarySearchFunc(k.from.Entries, f.Offset, func(e pack.Entry, off int64) int { return int(e.Offset - off) })
	if !ok || k.from.Entries[i].Name != f.Name || repo.InstanceID(k.from.Uploader) != f.Uploader {
		return fmt.Errorf("pack %s has no chunk %s at %d: %w", f.Pack, f.Name.Short(), f.Offset, errs.Corrupt)
	}
	e := k.from.Entries[i]
	key := repo.PackObject(k.d.id, f.Pack)
	open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return k.s.store.Open(ctx, key, off, n)
	}
	frame, err := pack.ReadFrame(ctx, open, e, nil)
	if err != nil {
		return fmt.Errorf("pack %s: %w", f.Pack, err)
	}
	if k.writer != nil && k.of != f.Uploader {
		if err := k.closePack(ctx); err != nil {
			return err
		}
	}
	if err := k.open(ctx, f.Uploader); err != nil {
		return err
	}
	if err := k.writer.Add(frame, e.Hash); err != nil {
		return err
	}
	k.bytes += int64(len(frame))
	if k.writer.Full() {
		return k.closePack(ctx)
	}
	return nil
}

// open begins a pack unless one is open.
func (k *copier) open(ctx context.Context, uploader repo.InstanceID) (err error) {
	if k.writer != nil {
		return nil
	}
	if err := k.s.spool.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for room in the spool: %w", context.Cause(ctx))
	}
	k.of = uploader
	k.writer, err = pack.Create(k.s.o.SpoolDir, pack.Meta{Domain: k.d.id, Epoch: k.s.o.Epoch, Job: k.prune, AttemptEpoch: k.s.o.Epoch, Uploader: uploader, Created: time.Now()})
	if err != nil {
		k.s.spool.Release(1)
	}
	return err
}

func (k *copier) abort() error {
	if k.writer == nil {
		return nil
	}
	w := k.writer
	k.writer = nil
	k.s.spool.Release(1)
	return w.Abort()
}

// closePack makes the open pack durable, and sees that it is.
func (k *copier) closePack(ctx context.Context) (err error) {
	if k.writer == nil {
		return nil
	}
	sealed, err := k.writer.Finish(k.d.keys.Pack())
	if err != nil {
		return err
	}
	k.writer = nil
	k.s.spool.Release(1)
	defer func() { err = errors.Join(err, sealed.Remove()) }()
	if err := k.s.puts.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for the store: %w", context.Cause(ctx))
	}
	defer k.s.puts.Release(1)
	if err := k.s.create(ctx, sealed); err != nil {
		return err
	}
	dir, err := k.s.directory(ctx, k.d, sealed.ID())
	if errors.Is(err, errs.NotFound) || errors.Is(err, errs.Corrupt) {
		return fmt.Errorf("pack %s: the store took it and does not have it: %v: %w", sealed.ID(), err, errs.Unavailable) //nolint:errorlint // replaces the kind
	}
	if err != nil {
		return err
	}
	return k.add(ctx, dir)
}
