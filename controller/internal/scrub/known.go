package scrub

import (
	"context"
	"errors"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Header is the newest record of the catalog log. *catalog.Catalog implements it.
type Header interface {
	Catalog
	Head() catalog.Witness
}

// known is what the catalog knows of the repository.
type known struct{ catalog Header }

// NewKnown gives what a catalog knows of its repository, for a check to compare.
func NewKnown(c Header) check.Known { return known{c} }

// Head is the newest record that this catalog has written.
func (k known) Head(context.Context) (repo.Witness, error) {
	h := k.catalog.Head()
	return repo.Witness{Repository: h.Repository, Epoch: h.Epoch, Number: h.Number, Hash: h.Hash}, nil
}

// Snapshots gives every snapshot of the catalog that is not being purged, page by page.
func (k known) Snapshots(ctx context.Context, fn func(check.KnownSnapshot) error) error {
	for token := ""; ; {
		var rows []catalog.Snapshot
		err := k.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, token, err = tx.Snapshots(catalog.Page{Size: catalog.MaxPage, Token: token}, func(s catalog.Snapshot) bool { return s.Purged.IsZero() })
			return err
		})
		if err != nil {
			return err
		}
		for _, s := range rows {
			if err := fn(check.KnownSnapshot{Instance: s.Instance, ID: s.ID, Hash: s.ObjectHash, Size: s.ObjectBytes}); err != nil {
				return err
			}
		}
		if token == "" {
			return nil
		}
	}
}

// Snapshot tells whether a snapshot has a record, or a job that is making it.
func (k known) Snapshot(ctx context.Context, id repo.JobID) (found bool, err error) {
	err = k.catalog.View(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Snapshot(id); err == nil || !errors.Is(err, errs.NotFound) {
			found = err == nil
			return err
		}
		j, err := tx.Job(id)
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		found = err == nil && !j.State.Terminal()
		return err
	})
	return found, err
}

// Leaving tells whether a snapshot is being purged, or has been.
func (k known) Leaving(ctx context.Context, id repo.JobID) (leaving bool, err error) {
	err = k.catalog.View(ctx, func(tx *catalog.Tx) error {
		s, err := tx.Snapshot(id)
		leaving = errors.Is(err, errs.NotFound) || err == nil && !s.Purged.IsZero()
		if leaving {
			return nil
		}
		return err
	})
	return leaving, err
}

// Erased tells whether the erasure of a domain is on record.
func (k known) Erased(ctx context.Context, id seal.DomainID) (erased bool, err error) {
	err = k.catalog.View(ctx, func(tx *catalog.Tx) error {
		_, err := tx.Erasure(id)
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		erased = err == nil
		return err
	})
	return erased, err
}

// Unindexed tells whether the journal has a pack that no index file covers yet.
func (k known) Unindexed(ctx context.Context, id pack.ID) (found bool, err error) {
	err = k.catalog.View(ctx, func(tx *catalog.Tx) error {
		for _, state := range []catalog.PackState{catalog.PackIntent, catalog.PackStored} {
			for p, err := range tx.OpenPacks(state) {
				if err != nil {
					return err
				}
				if p.ID == catalog.PackID(id) {
					found = true
					return nil
				}
			}
		}
		return nil
	})
	return found, err
}
