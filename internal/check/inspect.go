package check

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Inspector reads packs one by one, as Run with ReadData does, for whoever goes
// through a repository at a pace of his own. One goroutine at a time may use it.
type Inspector struct {
	repo  *repo.Repository
	store blob.Store
	keys  *domainKeys // of the domain asked for last
}

// NewInspector makes an Inspector of an open repository.
func NewInspector(r *repo.Repository) *Inspector {
	return &Inspector{repo: r, store: readOnly{Store: r.Store()}}
}

// Inspected is what was found in a pack.
type Inspected struct {
	// Frames and Bytes of them were read.
	Frames, Bytes int64
	// Bad is nil when the pack is whole.
	Bad *BadPack
	// Detail says what is wrong with it first.
	Detail string
}

// Pack reads all of a pack: directory, frames and, opened, chunks. errs.NotFound
// means that there is no such pack (any more); other errors are the store's.
func (i *Inspector) Pack(ctx context.Context, domain seal.DomainID, id pack.ID) (Inspected, error) {
	var found Inspected
	key := repo.PackObject(domain, id)
	err := i.read(ctx, key, domain, id, &found)
	if err == nil {
		return found, nil
	}
	if errors.Is(err, errs.NotFound) {
		if _, gone := i.store.Stat(ctx, key); gone != nil {
			return found, fmt.Errorf("inspect %s: %w", key, gone)
		}
	}
	if fatal := storeAtFault(ctx, i.store, err); fatal != nil {
		return found, fmt.Errorf("inspect %s: %w", key, fatal)
	}
	found.Bad, found.Detail = &BadPack{Domain: domain, Pack: id, Whole: true}, reason(err)
	return found, nil
}

func (i *Inspector) read(ctx context.Context, key string, domain seal.DomainID, id pack.ID, found *Inspected) error {
	keys, err := i.open(ctx, domain)
	if err != nil {
		return err
	}
	info, err := i.store.Stat(ctx, key)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return i.store.Open(ctx, key, off, n) }
	dir, err := pack.ReadDirectory(ctx, open, info.Size, id)
	if err != nil {
		return err
	}
	if dir.Domain != domain {
		return fmt.Errorf("pack %s: is of domain %s: %w", id.Short(), dir.Domain, errs.Corrupt)
	}
	if err := pack.VerifyMAC(dir, keys.roots.Pack()); err != nil {
		return err
	}
	bad := BadPack{Domain: domain, Pack: id}
	err = eachChunk(ctx, open, dir, keys.opener, func(e pack.Entry, _ seal.Header, _ []byte, damage error) {
		found.Frames++
		found.Bytes += int64(e.Length)
		if damage == nil {
			return
		}
		if found.Detail == "" {
			found.Detail = reason(damage)
		}
		if bad.Whole = bad.Whole || len(bad.Frames) >= MaxBadFrames; bad.Whole {
			bad.Frames = nil
		} else {
			bad.Frames = append(bad.Frames, BadFrame{Name: e.Name, Offset: e.Offset})
		}
	})
	if err == nil && (bad.Whole || len(bad.Frames) > 0) {
		found.Bad = &bad
	}
	return err
}

// open gives the keys of a domain, with those of seal epochs that began since.
func (i *Inspector) open(ctx context.Context, id seal.DomainID) (*domainKeys, error) {
	if i.keys != nil && i.keys.ID() == id && i.keys.epoch == i.keys.SealEpoch() {
		return i.keys, nil
	}
	d, err := i.repo.Domain(ctx, id)
	if err != nil {
		return nil, err
	}
	i.keys = openKeys(d)
	return i.keys, nil
}
