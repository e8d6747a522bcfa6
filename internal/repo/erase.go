package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// DestroyDomain deletes every generation of a domain's record: its roots are
// nowhere else, so that nothing of the domain in this store can be read any more. It
// asks nobody whether it may; whoever calls it has that on record. kept counts
// generations that the store does not let go yet (blob.Deferred).
//
// Each generation is one durable step. A crash leaves some; repeating it goes on.
// This repository makes no new generation of the domain from the first step on.
func (r *Repository) DestroyDomain(ctx context.Context, id seal.DomainID) (kept int, err error) {
	if err := r.rotating.Acquire(ctx, 1); err != nil { // a rotation wraps what it has read
		return 0, blob.Canceled(ctx)
	}
	defer r.rotating.Release(1)
	if err := r.gate.Acquire(ctx, gateWeight); err != nil {
		return 0, blob.Canceled(ctx)
	}
	defer r.gate.Release(gateWeight)
	r.mu.Lock()
	delete(r.domains, id)
	r.erased[id] = struct{}{}
	r.mu.Unlock()
	kept, err = r.deleteAll(ctx, DomainPrefix(id))
	if err != nil {
		return kept, fmt.Errorf("destroy keys of domain %x: %w", id[:4], err)
	}
	return kept, nil
}

// SweepDomain deletes what is left of a domain whose keys were destroyed: the
// snapshots of these instances that are in it, abort markers among them, then index
// files, then packs. kept counts what the store does not let go yet. Repeating it
// goes on where it stopped.
func (r *Repository) SweepDomain(ctx context.Context, id seal.DomainID, instances []InstanceID) (kept int, err error) {
	for _, instance := range instances {
		n, err := r.sweepSnapshots(ctx, id, instance)
		kept += n
		if err != nil {
			return kept, fmt.Errorf("remove snapshots of domain %x: %w", id[:4], err)
		}
	}
	for _, prefix := range []string{IndexPrefix(id), PackPrefix(id)} {
		n, err := r.deleteAll(ctx, prefix)
		kept += n
		if err != nil {
			return kept, fmt.Errorf("remove what is left of domain %x: %w", id[:4], err)
		}
	}
	return kept, nil
}

func (r *Repository) sweepSnapshots(ctx context.Context, id seal.DomainID, instance InstanceID) (kept int, err error) {
	var keys []string // at most the snapshots of one instance, some 100 bytes each
	err = r.ListSnapshots(ctx, instance, func(s SnapshotInfo) error {
		if s.Err == nil && s.Header.Domain == id {
			keys = append(keys, s.Key)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return r.deleteKeys(ctx, keys)
}

// deleteBatch bounds the keys that are held at once.
const deleteBatch = 1000

// deleteAll deletes everything under a prefix, but what the store keeps.
func (r *Repository) deleteAll(ctx context.Context, prefix string) (kept int, err error) {
	after := ""
	for {
		var keys []string
		err := r.store.List(ctx, prefix, after, func(info blob.Info) error {
			if len(keys) == deleteBatch {
				return errEnough
			}
			keys = append(keys, info.Key)
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return kept, err
		}
		if len(keys) == 0 {
			return kept, nil
		}
		n, err := r.deleteKeys(ctx, keys)
		if kept += n; err != nil {
			return kept, err
		}
		after = keys[len(keys)-1]
	}
}

// errEnough ends a list.
var errEnough = errors.New("enough")

func (r *Repository) deleteKeys(ctx context.Context, keys []string) (kept int, err error) {
	for _, key := range keys {
		err := r.store.Delete(ctx, key)
		switch {
		case blob.Deferred(err):
			kept++
		case err != nil && !errors.Is(err, errs.NotFound):
			return kept, fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return kept, nil
}

// isErased tells whether this repository has destroyed the domain's keys.
func (r *Repository) isErased(id seal.DomainID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, erased := r.erased[id]
	return erased
}
