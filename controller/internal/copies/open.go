package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// open gives the copy's store once it is known to be one of this repository. An
// empty store becomes one by one durable step: repository.json, if it does not
// exist. A store that holds something else, another repository, the reign of a
// later controller or a later state of this repository is errs.Conflict or
// errs.Exists; one that was a copy and is empty now is errs.Conflict too, since
// most often a disk is not mounted.
func (f *follower) open(ctx context.Context) (blob.Store, error) {
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	if f.store != nil {
		return f.store, f.same(ctx, f.store)
	}
	s, err := f.o.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the copy's store: %w", err)
	}
	where := s.Features().Location
	if where == f.s.d.Repository.Store().Features().Location {
		return nil, fmt.Errorf("%s is the repository's own store: %w", where, errs.Invalid)
	}
	err = f.same(ctx, s)
	fresh := errors.Is(err, errs.NotFound)
	if fresh {
		err = f.begin(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	if err := f.compareLogs(ctx, s); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Begun.IsZero() {
		f.state.Begun, f.state.Returned = now(), !fresh
	}
	f.state.Location, f.store = where, s
	return s, nil
}

func now() time.Time { return time.Now().UTC().Round(0) }

// same tells whether a store holds this repository under this controller's reign;
// errs.NotFound when it holds none.
func (f *follower) same(ctx context.Context, s blob.Store) error {
	own := f.s.d.Repository
	there, err := repo.Describe(ctx, s)
	if err != nil {
		return err
	}
	if there.ID != own.ID() || there.Hash != own.Description().Hash {
		return fmt.Errorf("%s holds repository %s, not a copy of %s: %w", s.Features().Location, there.ID.Short(), own.ID().Short(), errs.Conflict)
	}
	epoch, err := latestEpoch(ctx, s)
	if err != nil {
		return err
	}
	reign, err := latestEpoch(ctx, own.Store())
	if err != nil {
		return err
	}
	if reign = max(reign, f.s.d.Epoch); epoch > reign {
		return fmt.Errorf("%s has the epoch %d of another controller, this one is of epoch %d: somebody uses the copy as a repository of its own: %w",
			s.Features().Location, epoch, reign, errs.Conflict)
	}
	return nil
}

func latestEpoch(ctx context.Context, s blob.Store) (latest uint64, err error) {
	for info, err := range listing(ctx, s, repo.EpochsPrefix, "") {
		if err != nil {
			return 0, err
		}
		if latest, err = repo.ParseEpochObject(info.Key); err != nil {
			return 0, err
		}
	}
	return latest, nil
}

// begin makes a copy in an empty store.
func (f *follower) begin(ctx context.Context, s blob.Store) error {
	full, err := holds(ctx, s, "")
	switch {
	case err != nil:
		return err
	case full:
		return fmt.Errorf("%s is not empty and holds no repository: %w", s.Features().Location, errs.Exists)
	case !f.state.Begun.IsZero():
		return fmt.Errorf("%s was a copy since %s and is empty now: is it the right disk or bucket? To fill it anew, give the copy another name: %w",
			s.Features().Location, f.state.Begun.Format(time.RFC3339), errs.Conflict)
	}
	text, err := f.s.fetch.fetch(ctx, f.s.d.Repository.Store(), repo.DescriptionObject, nil)
	if err != nil {
		return err
	}
	defer text.release()
	f.log.Info("beginning a copy", zap.String("store", s.Features().Location))
	if err := s.Create(ctx, repo.DescriptionObject, text.body); err != nil && !errors.Is(err, errs.Exists) {
		return err
	}
	return f.same(ctx, s)
}

// compareLogs compares the newest record of the copy's log with the log here. A
// log here that ends before it, or has another record in its place, belongs to a
// store that was set back: deletion is paused until a person has decided.
func (f *follower) compareLogs(ctx context.Context, s blob.Store) error {
	there, err := repo.Open(ctx, s, f.s.d.Unlockers...)
	if errors.Is(err, errs.Conflict) {
		return nil // no key was copied yet, so no log either
	}
	if err != nil {
		return err
	}
	head, err := there.LogHead(ctx)
	if errors.Is(err, errs.Corrupt) {
		return nil // it is healed, or a check of the copy names it
	}
	if err != nil || head.Number == 0 {
		return err
	}
	err = f.s.d.Repository.CheckWitness(ctx, head)
	switch {
	case errors.Is(err, errs.Corrupt): // the record is damaged here: this copy may heal it
		f.s.HealLater("", repo.LogObject(head.Number))
		return nil
	case !errors.Is(err, errs.Conflict):
		return err
	}
	return f.rolledBack(ctx, head, err)
}

// rolledBack pauses deletion and gives the error with which the copy is refused.
func (f *follower) rolledBack(ctx context.Context, seen repo.Witness, cause error) error {
	reason := fmt.Sprintf("copy %s has record %d of the catalog log, which the store does not have so: the store was rolled back, or the copy belongs to another past", f.o.Name, seen.Number)
	witness := catalog.Witness{Repository: seen.Repository, Epoch: seen.Epoch, Number: seen.Number, Hash: seen.Hash}
	err := f.s.d.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		news, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRolledBack, Subject: "copy " + f.o.Name, Reason: reason, Since: now(), Witness: witness})
		if err != nil || !news {
			return err
		}
		return f.s.d.Trail.Append(tx, catalog.AuditRecord{Actor: actor, Action: "repository.behind", Object: "copy " + f.o.Name, Outcome: errs.Conflict.Error(), Detail: reason})
	})
	return errors.Join(fmt.Errorf("%s; deletion is paused: %w", reason, cause), err)
}

// repository opens the repository in the copy with the controller's own secret,
// each time: the master key may have been replaced since the last.
func (f *follower) repository(ctx context.Context) (*repo.Repository, error) {
	f.mu.Lock()
	store := f.store
	f.mu.Unlock()
	if store == nil {
		return nil, fmt.Errorf("copy %s was not reached yet: %w", f.o.Name, errs.Unavailable)
	}
	return repo.Open(ctx, store, f.s.d.Unlockers...)
}
