package ingest

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// smallIndex is the number of entries below which an index file is written again
// together with others when a prune is at it: each job leaves one.
const smallIndex = 64 << 10

// maxStoreIndexes bounds the index files of a domain that are remembered, 100
// bytes each.
const maxStoreIndexes = 1 << 20

// ReplaceIndexes makes the domain's index files in the store say nothing of some
// packs, in this order:
//
//  1. New files are put that say what the old ones say, without the packs. A
//     crash leaves both: equal entries in two files are one.
//  2. The old ones are deleted. A crash leaves some: repeating it finds them.
//
// Index files that name none of the packs are left alone, unless they are small
// and many. One that is damaged goes too: what it said is read from the packs
// themselves. waiting tells of a pack that it is about to be indexed by others.
// The local index is not touched: see DropPacks.
func (s *Server) ReplaceIndexes(ctx context.Context, domain seal.DomainID, gone []pack.ID, waiting func(context.Context, pack.ID) (bool, error)) error {
	d, err := s.domain(ctx, domain)
	if err != nil {
		return fmt.Errorf("replace index files: %w", err)
	}
	r := &replacer{s: s, d: d, waiting: waiting, gone: make(map[pack.ID]struct{}, len(gone)), covered: map[pack.ID]struct{}{}, builder: index.NewBuilder(domain)}
	for _, id := range gone {
		r.gone[id] = struct{}{}
	}
	for _, step := range []func(context.Context) error{r.look, r.rewrite, r.remove} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("replace index files of domain %s: %w", domain, err)
		}
	}
	return nil
}

// replacer is one ReplaceIndexes.
type replacer struct {
	s       *Server
	d       *domain
	waiting func(context.Context, pack.ID) (bool, error)
	gone    map[pack.ID]struct{}
	old     []storeIndex
	// covered packs are named by a file that is not damaged; kept only while one is.
	covered map[pack.ID]struct{}
	damaged bool
	builder *index.Builder
	made    map[index.FileID]struct{}
}

// storeIndex is an index file that goes.
type storeIndex struct {
	id      index.FileID
	size    int64
	damaged bool
}

// look reads every index file and chooses those that go.
func (r *replacer) look(ctx context.Context) error {
	var small []storeIndex
	err := r.s.store.List(ctx, repo.IndexPrefix(r.d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParseIndexObject(info.Key)
		if err != nil {
			return err
		}
		if len(r.old)+len(small) >= maxStoreIndexes {
			return fmt.Errorf("more than %d index files: %w", maxStoreIndexes, errs.Exhausted)
		}
		f := storeIndex{id: id, size: info.Size}
		entries, names := 0, false
		err = r.scan(ctx, f, func(e *index.Scanned) error {
			entries++
			_, gone := r.gone[e.Pack]
			names = names || gone
			r.covered[e.Pack] = struct{}{}
			return nil
		})
		switch {
		case errors.Is(err, errs.NotFound):
			return nil // of another process that did the same
		case errors.Is(err, errs.Corrupt):
			r.s.o.Logger.Error("index file in the store is damaged and is made again", zap.String("object", info.Key), zap.Error(err))
			f.damaged, r.damaged = true, true
			r.old = append(r.old, f)
		case err != nil:
			return err
		case names:
			r.old = append(r.old, f)
		case entries < smallIndex:
			small = append(small, f)
		}
		return nil
	})
	if len(small) > index.MaxFiles {
		r.old = append(r.old, small...)
	}
	return err
}

func (r *replacer) scan(ctx context.Context, f storeIndex, fn func(*index.Scanned) error) error {
	if f.size > maxIndexFile {
		return fmt.Errorf("index file %s: %d bytes: %w", f.id.Short(), f.size, errs.Corrupt)
	}
	from, err := r.s.store.Open(ctx, repo.IndexObject(r.d.id, f.id), 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read from
	return index.Scan(from, f.size, r.d.id, f.id, fn)
}

// rewrite does step 1.
func (r *replacer) rewrite(ctx context.Context) error {
	r.made = map[index.FileID]struct{}{}
	for _, f := range r.old {
		if f.damaged {
			continue
		}
		err := r.scan(ctx, f, func(e *index.Scanned) error {
			if _, gone := r.gone[e.Pack]; gone {
				return nil
			}
			var name seal.Name // of which a file keeps the beginning
			copy(name[:], e.Prefix[:])
			r.builder.Add(name, e.Location)
			return r.flush(ctx, index.BuilderEntries)
		})
		if err != nil {
			return err
		}
	}
	if r.damaged {
		if err := r.addUncovered(ctx); err != nil {
			return err
		}
	}
	return r.flush(ctx, 1)
}

// flush puts an index file when there are as many entries for one.
func (r *replacer) flush(ctx context.Context, entries int) error {
	if r.builder.Len() < entries {
		return nil
	}
	id, err := r.s.putIndex(ctx, r.d, r.builder)
	r.builder = index.NewBuilder(r.d.id)
	r.made[id] = struct{}{}
	return err
}

// addUncovered adds the packs that only a damaged index file named.
func (r *replacer) addUncovered(ctx context.Context) error {
	return r.s.store.List(ctx, repo.PackPrefix(r.d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		if err != nil {
			return err
		}
		_, covered := r.covered[id]
		_, gone := r.gone[id]
		if covered || gone {
			return nil
		}
		if waits, err := r.waiting(ctx, id); waits || err != nil {
			return err
		}
		dir, err := r.s.directory(ctx, r.d, id)
		if errors.Is(err, errs.Corrupt) || errors.Is(err, errs.NotFound) {
			return nil // a check tells of it
		}
		if err != nil {
			return err
		}
		r.builder.AddPack(dir)
		return r.flush(ctx, index.BuilderEntries)
	})
}

// remove does step 2.
func (r *replacer) remove(ctx context.Context) error {
	for _, f := range r.old {
		if _, same := r.made[f.id]; same {
			continue
		}
		if err := r.s.store.Delete(ctx, repo.IndexObject(r.d.id, f.id)); err != nil {
			return fmt.Errorf("delete index file %s: %w", f.id.Short(), err)
		}
	}
	return nil
}
