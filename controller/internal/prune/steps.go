package prune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// condemn does steps 1 and 2; nil when there is nothing to condemn.
func (p *Pruner) condemn(ctx context.Context, id seal.DomainID, spec Spec, o *catalog.PruneOutcome) (*catalog.Prune, error) {
	var need *catalog.PruneNeed
	err := p.Catalog.View(ctx, func(tx *catalog.Tx) error {
		needs, err := tx.PruneNeeds()
		for i := range needs {
			if needs[i].Domain == id {
				need = &needs[i]
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	use, k, err := p.uses(ctx, id)
	if err != nil {
		return nil, err
	}
	rules := Rules{Budget: p.o.Budget, Most: catalog.MaxCondemned}
	if spec.Budget > 0 {
		rules.Budget = spec.Budget
	}
	plan := Decide(use.Packs, k.isProtected, rules)
	waiting := o.WaitingPacks
	told := plan.outcome(use)
	told.Domain, told.WaitingPacks, told.WaitingBytes, told.WaitsFor = id, waiting, o.WaitingBytes, o.WaitsFor
	told.FreedPacks, told.FreedBytes, told.CopiedBytes, told.DeferredPacks = o.FreedPacks, o.FreedBytes, o.CopiedBytes, o.DeferredPacks
	*o = told
	if err := use.Close(); err != nil || spec.DryRun {
		return nil, err
	}
	one := catalog.Prune{ID: repo.NewID(), Domain: id, Phase: catalog.PruneCondemned, By: spec.By, Packs: told.DeadPacks + told.RepackPacks,
		Bytes: told.DeadBytes + told.RepackBytes, Need: need, Complete: plan.Complete}
	if one.Packs == 0 {
		return nil, p.satisfied(ctx, need)
	}
	return &one, p.sentence(ctx, &one, plan.Packs())
}

// satisfied forgets what was noted of a domain in which nothing is to go.
func (p *Pruner) satisfied(ctx context.Context, need *catalog.PruneNeed) error {
	if need == nil {
		return nil
	}
	return p.sync(ctx, need.Domain, func(tx *catalog.Tx) error { return tx.DropPruneNeed(need.Domain, *need) })
}

// sentence does step 2. First nobody is told any more that what is in the packs
// is stored, then the jobs that were told so before are written down.
func (p *Pruner) sentence(ctx context.Context, one *catalog.Prune, packs []pack.ID) error {
	decide := p.Chunks.Condemn(one.Domain, packs)
	ids := make([]catalog.PackID, len(packs))
	for i, id := range packs {
		ids[i] = catalog.PackID(id)
	}
	err := p.sync(ctx, one.Domain, func(tx *catalog.Tx) (err error) {
		if err := tx.MayDelete(); err != nil {
			return err
		}
		if one.Jobs, err = waitsFor(tx); err != nil {
			return err
		}
		one.Condemned = now()
		return errors.Join(tx.PutPrune(*one), tx.Condemn(one.ID, ids), p.audit(tx, one, "prune.condemn", fmt.Sprintf("%d packs, %d bytes, waits for %d jobs", one.Packs, one.Bytes, len(one.Jobs))))
	})
	if err != nil {
		// A change that is not in the log may be in the catalog, and then it counts.
		lookErr := p.Catalog.View(context.WithoutCancel(ctx), func(tx *catalog.Tx) (err error) { *one, err = tx.Prune(one.ID); return err })
		if errors.Is(lookErr, errs.NotFound) {
			p.Chunks.Pardon(one.Domain, packs)
			return err
		}
		if lookErr != nil {
			return errors.Join(err, lookErr) // they stay condemned in memory, which harms nothing
		}
		decide(one.Jobs)
		return err
	}
	decide(one.Jobs)
	p.Log.Info("packs condemned", zap.Stringer("prune", one.ID), zap.Stringer("domain", one.Domain), zap.Int64("packs", one.Packs), zap.Int64("bytes", one.Bytes), zap.Int("waits_for_jobs", len(one.Jobs)))
	return nil
}

func (p *Pruner) audit(tx *catalog.Tx, one *catalog.Prune, action, detail string) error {
	return p.Trail.Append(tx, catalog.AuditRecord{Actor: one.By, Action: action, Object: "domain " + one.Domain.String(), Outcome: "ok", Detail: "prune " + one.ID.String() + ": " + detail})
}

// Load lets nobody be told that what earlier processes condemned is stored. It
// must have returned before the first upload is served.
func (p *Pruner) Load(ctx context.Context) error {
	err := p.Catalog.View(ctx, func(tx *catalog.Tx) error {
		prunes, err := tx.Prunes()
		if err != nil {
			return err
		}
		for _, one := range prunes {
			packs, err := condemned(tx, one.ID)
			if err != nil {
				return err
			}
			p.Chunks.Condemn(one.Domain, packs)(one.Jobs)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load what is condemned: %w", err)
	}
	return nil
}

func condemned(tx *catalog.Tx, id repo.ID) (packs []pack.ID, err error) {
	for p, err := range tx.CondemnedBy(id) {
		if err != nil {
			return nil, err
		}
		packs = append(packs, pack.ID(p))
	}
	return packs, nil
}

// advance takes a prune as far as it can go now, and gives the phase that it is
// left in: 0 when it has ended.
func (p *Pruner) advance(ctx context.Context, one catalog.Prune, spec Spec, o *catalog.PruneOutcome) (catalog.PrunePhase, error) {
	if one.Phase == catalog.PruneCondemned {
		err := p.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { o.WaitsFor, err = waiting(tx, one, p.o.MinAge, now()); return err })
		if err != nil || o.WaitsFor != "" {
			return one.Phase, err
		}
		if spec.DryRun {
			o.WaitsFor = "the next run"
			return one.Phase, nil
		}
		if err := p.copy(ctx, &one, o); err != nil {
			return one.Phase, err
		}
	}
	if spec.DryRun {
		o.WaitsFor = "the next run"
		return one.Phase, nil
	}
	if one.Phase == catalog.PruneCopied {
		err := p.sync(ctx, one.Domain, func(tx *catalog.Tx) error {
			if err := tx.MayDelete(); err != nil {
				return err
			}
			one.Phase = catalog.PruneDeletable
			return errors.Join(tx.PutPrune(one), permit(tx, one), p.audit(tx, &one, "prune.delete", fmt.Sprintf("%d packs, %d bytes", one.Packs, one.Bytes)))
		})
		if err != nil {
			return catalog.PruneCopied, err
		}
	}
	return p.delete(ctx, &one, o)
}

// permit lets copies follow once the packs are gone.
func permit(tx *catalog.Tx, one catalog.Prune) error {
	packs, err := condemned(tx, one.ID)
	if err != nil {
		return err
	}
	keys := make([]string, len(packs))
	for i, id := range packs {
		keys[i] = repo.PackObject(one.Domain, id)
	}
	return tx.PermitDelete(now(), keys...)
}

// copy does step 4.
func (p *Pruner) copy(ctx context.Context, one *catalog.Prune, o *catalog.PruneOutcome) error {
	bytes, err := p.copyOnce(ctx, one)
	if errors.Is(err, errs.Exhausted) && p.release(ctx) {
		var more int64
		more, err = p.copyOnce(ctx, one)
		bytes += more
	}
	o.CopiedBytes += bytes
	if err != nil {
		return err
	}
	copied := one.Copied + bytes
	err = p.sync(ctx, one.Domain, func(tx *catalog.Tx) error {
		done := *one
		done.Phase, done.Copied = catalog.PruneCopied, copied
		return tx.PutPrune(done)
	})
	if err != nil {
		return err
	}
	one.Phase, one.Copied = catalog.PruneCopied, copied
	return nil
}

func (p *Pruner) copyOnce(ctx context.Context, one *catalog.Prune) (bytes int64, err error) {
	use, _, err := p.uses(ctx, one.Domain)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, use.Close()) }()
	var made []pack.ID
	for i := range use.Packs {
		if repo.ID(use.Packs[i].Job) == one.ID {
			made = append(made, use.Packs[i].ID)
		}
	}
	if use.CopyFrames == 0 && len(made) == 0 {
		return 0, nil
	}
	return p.Chunks.CopyFrames(ctx, ingest.Copying{Domain: one.Domain, Prune: one.ID, Each: use.EachCopy, Made: made})
}

// delete does step 5 after its record. What the store does not let go is tried
// again by a later run.
func (p *Pruner) delete(ctx context.Context, one *catalog.Prune, o *catalog.PruneOutcome) (catalog.PrunePhase, error) {
	var packs []pack.ID
	if err := p.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { packs, err = condemned(tx, one.ID); return err }); err != nil {
		return one.Phase, err
	}
	err := p.Chunks.ReplaceIndexes(ctx, one.Domain, packs, p.indexedSoon)
	if blob.Deferred(err) {
		o.DeferredPacks += int64(len(packs))
		o.WaitsFor = "the store: " + err.Error()
		return one.Phase, nil
	}
	if err != nil {
		return one.Phase, err
	}
	gone, kept, why, err := p.deletePacks(ctx, one.Domain, packs)
	if err != nil {
		return one.Phase, err
	}
	if err := errors.Join(p.Chunks.DropPacks(ctx, one.Domain, gone), p.Clear(ctx, one.Domain, gone...)); err != nil {
		return one.Phase, err
	}
	if err := p.end(ctx, one, int64(len(gone)), kept); err != nil {
		return one.Phase, err
	}
	freed := one.Bytes
	if len(kept) > 0 {
		freed = one.Bytes / one.Packs * int64(len(gone)) // nobody has kept the size of each
		o.DeferredPacks += int64(len(kept))
		o.WaitsFor = "the store: " + why.Error()
	}
	o.FreedPacks, o.FreedBytes = o.FreedPacks+int64(len(gone)), o.FreedBytes+freed
	p.Log.Info("packs deleted", zap.Stringer("prune", one.ID), zap.Stringer("domain", one.Domain), zap.Int("packs", len(gone)), zap.Int64("bytes", freed), zap.Int64("bytes_copied", one.Copied), zap.Int("deferred", len(kept)))
	if len(kept) > 0 {
		return one.Phase, nil
	}
	return 0, nil
}

func (p *Pruner) deletePacks(ctx context.Context, domain seal.DomainID, packs []pack.ID) (gone []pack.ID, kept []catalog.PackID, why, err error) {
	for _, id := range packs {
		err := p.Repository.Store().Delete(ctx, repo.PackObject(domain, id))
		switch {
		case err == nil:
			gone = append(gone, id)
		case blob.Deferred(err):
			kept, why = append(kept, catalog.PackID(id)), err
		default:
			return nil, nil, nil, fmt.Errorf("delete pack %s: %w", id.Short(), err)
		}
	}
	return gone, kept, why, nil
}

// end notes what was deleted; with nothing kept the prune is over.
func (p *Pruner) end(ctx context.Context, one *catalog.Prune, gone int64, kept []catalog.PackID) error {
	return p.sync(ctx, one.Domain, func(tx *catalog.Tx) error {
		if err := forget(tx, one, kept); err != nil {
			return err
		}
		if len(kept) > 0 {
			left := *one
			left.Packs, left.Bytes, left.Deferred = int64(len(kept)), one.Bytes/one.Packs*int64(len(kept)), int64(len(kept))
			return errors.Join(tx.Condemn(one.ID, kept), tx.PutPrune(left))
		}
		err := errors.Join(tx.DeletePrune(one.ID), p.audit(tx, one, "prune.end", fmt.Sprintf("%d packs deleted, %d bytes of chunks copied", gone, one.Copied)))
		if err == nil && one.Need != nil && one.Complete {
			err = tx.DropPruneNeed(one.Domain, *one.Need)
		}
		return err
	})
}

// forget drops what is known of single packs of a prune that are gone.
func forget(tx *catalog.Tx, one *catalog.Prune, kept []catalog.PackID) error {
	distrusted := map[catalog.PackID]bool{} // usually none
	for d, err := range tx.DistrustedPacks(one.Domain) {
		if err != nil {
			return err
		}
		distrusted[d.Pack] = true
	}
	for _, id := range kept {
		delete(distrusted, id)
	}
	packs, err := condemned(tx, one.ID)
	for _, id := range packs {
		if err == nil && distrusted[catalog.PackID(id)] {
			err = tx.DeleteDistrustedPack(one.Domain, catalog.PackID(id))
		}
	}
	return err
}

// indexedSoon tells that the journal has a pack: its job indexes it.
func (p *Pruner) indexedSoon(ctx context.Context, id pack.ID) (found bool, err error) {
	err = p.Catalog.View(ctx, func(tx *catalog.Tx) error {
		for _, state := range []catalog.PackState{catalog.PackIntent, catalog.PackStored} {
			for x, err := range tx.OpenPacks(state) {
				if err != nil {
					return err
				}
				found = found || x.ID == catalog.PackID(id)
			}
		}
		return nil
	})
	return found, err
}

// now is the time that records get.
func now() time.Time { return time.Now().UTC().Round(0) }
