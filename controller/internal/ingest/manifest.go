package ingest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// verify does steps 1 and 2 of Commit.
func (c *commit) verify(ctx context.Context, references, content []byte) error {
	refs, err := repo.OpenReferences(references, c.dom.keys.Refs(), c.dom.id, c.grant.Job)
	if err != nil {
		return fmt.Errorf("%w: %w", errs.Invalid, err)
	}
	if err := c.verifyContent(ctx, content, refs); err != nil {
		return err
	}
	// The packs first: a chunk that a lying store has lost must make its pack be
	// forgotten, so that the next attempt can send it again.
	if err := c.s.flushIndex(ctx, c.job); err != nil {
		return err
	}
	if err := c.verifyPacks(ctx); err != nil {
		return err
	}
	return c.verifyLists(ctx, refs)
}

// verifyContent sees that readers will be able to open the content, and that its
// positions lie within the references. What it says of the databases is the
// agent's word.
func (c *commit) verifyContent(ctx context.Context, content []byte, refs *repo.References) error {
	if err := c.s.decoding.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer c.s.decoding.Release(1)
	decoded, err := repo.OpenContent(content, c.dom.keys.Seal(c.begin.GetSealEpoch()), c.dom.id, c.grant.Job)
	if err == nil {
		err = decoded.Validate(refs)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errs.Invalid, err)
	}
	if c.begin.GetComplete() {
		for i := range decoded.Logical.Databases {
			if d := &decoded.Logical.Databases[i]; d.State != repo.DatabaseComplete {
				return fmt.Errorf("called complete, but database %q is %s: %w", d.Name.Display(), d.State, errs.Invalid)
			}
		}
	}
	return nil
}

// verifyLists sees that every list chunk is there and is what the references say,
// and that every chunk it names is there, uploaded by this instance.
func (c *commit) verifyLists(ctx context.Context, refs *repo.References) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, ref := range refs.Lists {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			v := &view{s: c.s, dom: c.dom, job: c.job, instance: c.grant.Instance, shared: c.grant.Shared, claims: c.grant.Job}
			if err := v.verifyList(ctx, ref); err != nil {
				return fmt.Errorf("list %d: %w", i, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (v *view) verifyList(ctx context.Context, ref repo.ListRef) error {
	if there, err := v.has(ctx, ref.Name); err != nil {
		return err
	} else if !there {
		return fmt.Errorf("list chunk %s %w", ref.Name, v.absent(ref.Name))
	}
	entries, err := v.list(ctx, ref)
	if err != nil {
		return err
	}
	for i, e := range entries {
		there, err := v.has(ctx, e.Name)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("entry %d: chunk %s %w", i, e.Name, v.absent(e.Name))
		}
	}
	return nil
}

// absent says why a chunk that a manifest names does not count. One that was
// found damaged since the agent asked for it, or condemned by a prune, is worth
// another attempt, which sends it again.
func (v *view) absent(name seal.Name) error {
	if v.s.distrust.touches(v.dom.id, name) {
		if there, err := v.dom.set.Has(name); there || err != nil {
			return fmt.Errorf("does not count as stored any more, and must be sent again: %w", errors.Join(errs.Unavailable, err))
		}
	}
	return fmt.Errorf("is not among what this instance has uploaded: %w", errs.Denied)
}

// verifyPacks reads back what the job's packs say about themselves, but for those
// that flushIndex read back in this process: a store that took a pack and lost
// it must be found out before the snapshot exists. Packs that an earlier attempt
// left in another domain are nothing to this one.
func (c *commit) verifyPacks(ctx context.Context) error {
	records, err := c.s.o.Journal.PacksOf(ctx, c.grant.Job)
	if err != nil {
		return err
	}
	var unread []pack.ID
	for _, r := range records {
		if r.Domain == c.dom.id && !c.job.wasRead(r.ID) {
			unread = append(unread, r.ID)
		}
	}
	lost, err := c.s.readBack(ctx, c.dom, unread)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return c.s.lose(ctx, c.grant.Job, lost)
	}
	return nil
}
