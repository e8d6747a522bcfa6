package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// readers is how many packs' directories are read at once.
const readers = 8

// domain finds the chunks of one domain.
type domain struct {
	*repo.Domain
	store blob.Store
	set   *index.Set

	scanning sync.Mutex // held while all directories are read; see scan
	scanned  bool
}

// openDomain copies the domain's index files and indexes what they do not cover.
func openDomain(ctx context.Context, r *repo.Repository, id seal.DomainID, dir string) (_ *domain, err error) {
	rd, err := r.Domain(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &domain{Domain: rd, store: r.Store()}
	if d.set, err = index.Open(dir, id); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.store.List(ctx, repo.IndexPrefix(id), "", func(info blob.Info) error { return d.addFile(ctx, info.Key) }); err != nil {
		return nil, err
	}
	if err := d.addPacks(ctx, d.set.HasPack); err != nil {
		return nil, err
	}
	return d, d.set.Merge(ctx)
}

func (d *domain) close() error { return d.set.Close() }

// addFile takes in one index file. A damaged one costs time only: what it covered
// is found by the directories of its packs.
func (d *domain) addFile(ctx context.Context, key string) error {
	_, id, err := repo.ParseIndexObject(key)
	if err != nil {
		return nil //nolint:nilerr // not an index file: check names it, reading can do without
	}
	r, err := d.store.Open(ctx, key, 0, -1)
	if err == nil {
		_, err = d.set.AddFile(ctx, r, id)
		err = errors.Join(err, r.Close())
	}
	if errors.Is(err, errs.Corrupt) || errors.Is(err, errs.NotFound) || errors.Is(err, errs.Unsupported) {
		return nil
	}
	return err
}

// addPacks indexes the packs that known does not know, by their directories. A
// damaged pack is left out: chunks that are nowhere else are then missing.
func (d *domain) addPacks(ctx context.Context, known func(pack.ID) (bool, error)) error {
	b := &packIndexer{d: d, builder: index.NewBuilder(d.ID())}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	err := d.store.List(ctx, repo.PackPrefix(d.ID()), "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		if err != nil || gctx.Err() != nil {
			return nil //nolint:nilerr // not a pack; or Wait says why
		}
		if is, err := known(id); is || err != nil {
			return err
		}
		group.Go(func() error { return b.add(gctx, info, id) })
		return nil
	})
	if err := errors.Join(group.Wait(), err); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flush(ctx)
}

// packIndexer collects the entries of packs. It holds at most
// index.BuilderEntries and those of the last pack.
type packIndexer struct {
	d *domain

	mu      sync.Mutex
	builder *index.Builder
}

func (p *packIndexer) add(ctx context.Context, info blob.Info, id pack.ID) error {
	dir, err := pack.ReadDirectory(ctx, func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return p.d.store.Open(ctx, info.Key, off, n)
	}, info.Size, id)
	if err == nil {
		err = pack.VerifyMAC(dir, p.d.Keys().Pack())
	}
	switch {
	case errors.Is(err, errs.Corrupt), errors.Is(err, errs.NotFound), errors.Is(err, errs.Unsupported):
		return nil
	case err != nil:
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.builder.AddPack(dir)
	if p.builder.Len() >= index.BuilderEntries {
		return p.flush(ctx)
	}
	return nil
}

// flush writes what was collected to a file of the set. p.mu must be held, also
// while it writes: else there would be a full builder for each reader.
func (p *packIndexer) flush(ctx context.Context) error {
	_, err := p.d.set.Add(ctx, p.builder)
	p.builder = index.NewBuilder(p.d.ID())
	return err
}

// scan reads the directories of all packs, once: for a chunk that is not where
// the index says it is.
func (d *domain) scan(ctx context.Context) error {
	d.scanning.Lock()
	defer d.scanning.Unlock()
	if d.scanned {
		return nil
	}
	if err := d.addPacks(ctx, func(pack.ID) (bool, error) { return false, nil }); err != nil {
		return err
	}
	d.scanned = true
	return nil
}

// frame reads a chunk's bytes at one place.
func (d *domain) frame(ctx context.Context, l index.Location) ([]byte, error) {
	return blob.ReadRange(ctx, d.store, repo.PackObject(d.ID(), l.Pack), l.Offset, int64(l.Length))
}

// opener opens chunks of a snapshot.
func (d *domain) opener(sealEpoch uint32) (*seal.Opener, error) {
	g, err := d.ReadGrant(repo.EpochsUpTo(sealEpoch))
	if err != nil {
		return nil, err
	}
	return seal.NewOpener(d.ID(), g.Name, g.Refs, g.Seal, max(g.Params.Max, repo.MaxListBytes)), nil
}

// anywhere opens a chunk from whichever of its places it is whole in. failed is
// what was found wrong at those tried before.
func (d *domain) anywhere(ctx context.Context, o *seal.Opener, kind seal.Kind, name seal.Name, failed error) ([]byte, error) {
	for try := range 2 {
		if try == 1 {
			if err := d.scan(ctx); err != nil {
				return nil, err
			}
		}
		places, err := d.set.Lookup(nil, name)
		if err != nil {
			return nil, err
		}
		for _, l := range places {
			frame, err := d.frame(ctx, l)
			if err == nil {
				var plain []byte
				if plain, err = o.Open(nil, frame, kind, name); err == nil {
					return plain, nil
				}
			}
			if errors.Is(err, errs.Unavailable) || ctx.Err() != nil {
				return nil, err // the store's trouble, not the chunk's
			}
			failed = errors.Join(failed, fmt.Errorf("pack %s at %d: %w", l.Pack, l.Offset, err))
		}
	}
	if failed == nil {
		failed = errors.New("it is in no pack")
	}
	return nil, fmt.Errorf("chunk %s: %w: %w", name, errs.Corrupt, failed)
}
