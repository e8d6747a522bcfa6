package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

// cleanEvery is how often what older master keys have sealed is looked for.
const cleanEvery = 24 * time.Hour

// Change is a change of the master key, planned or done.
type Change struct {
	// Master is the number of the master key in force.
	Master uint64
	// Kept keys go on; Lost ones stop working.
	Kept, Lost []Key
	// Removed and Remaining count the objects that older master keys have sealed.
	Removed, Remaining int
}

// Plan tells which keys go on with another master key: the one that this
// controller uses, and those of age recipients, which are public. Passphrases, key files
// and recovery sheets are known to their owners alone.
func (s *Service) Plan(ctx context.Context) (Change, error) {
	c := Change{Master: s.repository.Master()}
	keys, err := s.List(ctx)
	if err != nil {
		return c, err
	}
	for _, k := range keys {
		if k.InUse || k.Recipient != "" {
			c.Kept = append(c.Kept, k)
		} else {
			c.Lost = append(c.Lost, k)
		}
	}
	return c, nil
}

// RotateMaster puts a new master key in force, in this order:
//
//  1. An audit record, which names the keys that will stop working, is in the
//     store's log.
//  2. The steps of repo.RotateMaster.
//  3. The catalog forgets the keys that stopped working, with an audit record.
//  4. What older master keys have sealed is removed, unless deletion is paused.
//
// A crash before the last step of 2 leaves the old master key in force, one after it
// the new one; a daily clean-up does what is missing of 4. A key that would stop
// working and is not in agreed is errs.Conflict, and nothing was done.
func (s *Service) RotateMaster(ctx context.Context, agreed []repo.ID, by By) (Change, error) {
	if err := s.turn(ctx); err != nil {
		return Change{}, err
	}
	defer func() { <-s.busy }()
	c, err := s.Plan(ctx)
	if err != nil {
		return c, err
	}
	var lost []repo.ID
	for _, k := range c.Lost {
		if !slices.Contains(agreed, k.ID) {
			return c, fmt.Errorf("rotate master key: key %s (%s) would stop working, and nobody has agreed to that: %w", k.ID.Short(), k.Kind, errs.Conflict)
		}
		lost = append(lost, k.ID)
	}
	rewraps, err := s.rewraps(c.Kept)
	if err != nil {
		return c, fmt.Errorf("rotate master key: %w", err)
	}
	if err := s.note(ctx, by, "key.rotate-master", fmt.Sprintf("%d keys go on, %d stop working", len(c.Kept), len(lost)), nil); err != nil {
		return c, fmt.Errorf("rotate master key: %w", err)
	}
	c.Master, err = s.repository.RotateMaster(ctx, s.log, rewraps, lost)
	// What follows is in the log behind it, and settles it where it is undecided.
	outcome := audit.Outcome(err)
	forget := lost
	if err != nil {
		forget = nil
	}
	noted := s.noteOutcome(ctx, by, outcome, fmt.Sprintf("master key %d", c.Master), forget)
	if err := errors.Join(err, noted); err != nil {
		return c, err
	}
	c.Removed, c.Remaining, err = s.clean(ctx)
	return c, err
}

// turn waits until no other change of the master key is under way.
func (s *Service) turn(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Service) rewraps(kept []Key) ([]repo.Rewrap, error) {
	out := []repo.Rewrap{s.repository.Own()}
	for _, k := range kept {
		if k.InUse {
			continue
		}
		u, err := unlock.ParseRecipient(k.Recipient)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID.Short(), err)
		}
		out = append(out, repo.Rewrap{ID: k.ID, Unlocker: u})
	}
	return out, nil
}

func (s *Service) note(ctx context.Context, by By, action, detail string, forget []repo.ID) error {
	return s.record(ctx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: action, Object: "master key", Outcome: audit.OK, Detail: detail}, forget)
}

func (s *Service) noteOutcome(ctx context.Context, by By, outcome, detail string, forget []repo.ID) error {
	return s.record(ctx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "key.rotated-master", Object: "master key", Outcome: outcome, Detail: detail}, forget)
}

// record puts an audit record into the store's log, and forgets keys.
func (s *Service) record(ctx context.Context, r catalog.AuditRecord, forget []repo.ID) error {
	return s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		for _, id := range forget {
			if err := tx.DeleteKey(id); err != nil {
				return err
			}
		}
		return s.trail.Append(tx, r)
	})
}

// clean removes what older master keys have sealed, if anything may be deleted.
func (s *Service) clean(ctx context.Context) (removed, remaining int, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error { return tx.MayDelete() })
	if errors.Is(err, errs.Conflict) {
		n, err := s.repository.Replaced(ctx, s.log)
		return 0, n, err
	}
	if err != nil {
		return 0, 0, err
	}
	return s.repository.DropReplaced(ctx, s.log, func(keys []string) error {
		return s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
			if err := tx.MayDelete(); err != nil {
				return err
			}
			return tx.PermitDelete(time.Now(), keys...)
		})
	})
}

// Run removes what older master keys have sealed, at once and then daily, until
// ctx ends: a change that was cut off, deletion that was paused and locks of the
// store leave some.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(cleanEvery)
	defer t.Stop()
	for {
		removed, remaining, err := s.clean(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.logger.Warn("what older master keys have sealed was not removed, will try again", zap.Error(err))
		case removed+remaining > 0:
			s.logger.Info("what older master keys have sealed", zap.Int("removed", removed), zap.Int("remaining", remaining))
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}
