package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// starter compares catalog and store before anything else runs.
type starter struct {
	config     *Config
	repository *repo.Repository
	catalog    *catalog.Catalog
	trail      *audit.Service
	log        *zap.Logger
}

// compare does it. A log that holds what the catalog wrote last is the usual case:
// then snapshots that are in the store and not in the catalog are recorded, and
// that is all. A log that ends before, or has lost that record, belongs to a
// store that was set back: the catalog is ahead, and mend makes both one again.
// Another record in its place means that somebody else went on with the log, and
// is errs.Conflict: this controller must not.
func (s *starter) compare(ctx context.Context, log *repo.Log, head catalog.Witness) error {
	w := repo.Witness{Repository: head.Repository, Epoch: head.Epoch, Number: head.Number, Hash: head.Hash}
	var err error
	if head.Number > 0 {
		err = s.repository.CheckWitness(ctx, w)
	}
	lost, behind := errors.AsType[*repo.LogBehind](err)
	switch {
	case err == nil:
		rec := &reconciler{repository: s.repository, catalog: s.catalog}
		found, err := rec.run(ctx)
		if err != nil {
			return err
		}
		s.tell(found)
		return nil
	case behind:
		return s.mend(ctx, log, w, fmt.Sprintf("the store's catalog log ends at record %d, this controller had written record %d: the store was rolled back", lost.Last, head.Number))
	case errors.Is(err, errs.Corrupt):
		return s.mend(ctx, log, w, fmt.Sprintf("record %d of the catalog log, the newest this controller had written, is damaged or missing in the store", head.Number))
	case errors.Is(err, errs.Conflict):
		return fmt.Errorf("open catalog log: another controller has gone on with it, or the store is that of another past; "+
			"find out which is right, and make this one again by \"tuskvault-controller rebuild\" in a new folder if it is the store: %w", err)
	}
	return err
}

func (s *starter) tell(found *reconciled) {
	for _, err := range found.damaged {
		s.log.Error("snapshot is damaged", zap.Error(err))
	}
	for i, id := range found.absent {
		if i < maxNamed {
			s.log.Error("snapshot is not in the store any more", zap.Stringer("snapshot_id", id))
		}
	}
	if found.adopted > 0 {
		s.log.Warn("snapshots were in the store and not in the catalog", zap.Int("snapshots", found.adopted))
	}
}

// mend goes on with a store that is behind the catalog, in this order:
//
//  1. Deletion is paused, with an audit record, in the catalog.
//  2. The local chunk indexes go, so that they are made again of what is there:
//     they may name packs that are not.
//  3. Records of snapshots that are not in the store go, and those that are in the
//     store alone come.
//  4. Instances whose domain's keys are not in the store get a new one: their next
//     backup is a first one.
//  5. A full record of the catalog takes the place of the records that are gone,
//     and the log goes on after it: nothing that the catalog knows (revocations,
//     roles, history) is lost.
//
// A crash before step 5 leaves a log that is still behind, and the next start does
// all of it again.
func (s *starter) mend(ctx context.Context, log *repo.Log, head repo.Witness, reason string) error {
	s.log.Error("the store is behind the catalog, deletion is paused", zap.String("reason", reason))
	err := s.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		news, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRolledBack, Subject: "controller", Reason: reason, Since: time.Now()})
		if err != nil || !news {
			return err
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: "controller", Action: "repository.behind", Object: "repository " + head.Repository.String(),
			Outcome: errs.Conflict.Error(), Detail: reason})
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.config.indexFolder()); err != nil {
		return fmt.Errorf("remove the chunk indexes: %w", err)
	}
	rec := &reconciler{repository: s.repository, catalog: s.catalog, all: true}
	found, err := rec.run(ctx)
	if err != nil {
		return err
	}
	s.tell(found)
	if err := rec.drop(ctx, found.absent); err != nil {
		return err
	}
	if err := s.renewDomains(ctx); err != nil {
		return err
	}
	full, err := s.catalog.Full(ctx)
	if err != nil {
		return err
	}
	if err := log.PutFull(ctx, head, full); err != nil {
		return err
	}
	return s.catalog.FullPut(ctx, head.Number)
}

// renewDomains gives each instance, and each cluster, whose domain is not in the
// store a new one. A crash between the domain and its record leaves a domain that
// nobody uses.
func (s *starter) renewDomains(ctx context.Context) error {
	there := map[seal.DomainID]bool{}
	if err := s.repository.Domains(ctx, func(d seal.DomainID) error { there[d] = true; return nil }); err != nil {
		return err
	}
	instances, err := s.instances(ctx)
	if err != nil {
		return err
	}
	fresh := map[seal.DomainID]seal.DomainID{}
	renew := func(d *seal.DomainID) error {
		if there[*d] {
			return nil
		}
		made, ok := fresh[*d]
		if !ok {
			var err error
			if made, err = s.repository.CreateDomain(ctx); err != nil {
				return err
			}
			fresh[*d] = made
		}
		*d = made
		return nil
	}
	for _, i := range instances {
		old := i
		if err := errors.Join(renew(&i.OwnDomain), renew(&i.Domain)); err != nil {
			return err
		}
		if i.Domain == old.Domain && i.OwnDomain == old.OwnDomain {
			continue
		}
		s.log.Error("keys of an instance's data are not in the store any more, it gets new ones", zap.String("instance", i.FullName()), zap.Stringer("domain", old.Domain))
		if err := s.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return s.moveDomain(tx, i, old.Domain) }); err != nil {
			return err
		}
	}
	return nil
}

// moveDomain writes an instance with its new domain, and the cluster that had the
// old one.
func (s *starter) moveDomain(tx *catalog.Tx, i catalog.Instance, old seal.DomainID) error {
	if err := tx.PutInstance(i); err != nil {
		return err
	}
	if i.Cluster != "" {
		c, err := tx.Cluster(i.Cluster)
		if err == nil && c.Domain == old {
			c.Domain = i.Domain
			err = tx.PutCluster(c)
		}
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
	}
	return s.trail.Append(tx, catalog.AuditRecord{Actor: "controller", Action: "instance.domain", Object: "instance " + i.FullName(), Outcome: audit.OK,
		Detail: fmt.Sprintf("domain %x is not in the store any more, now %x", old[:], i.Domain[:])})
}

func (s *starter) instances(ctx context.Context) (all []catalog.Instance, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		for page := (catalog.Page{Size: catalog.MaxPage}); ; {
			rows, next, err := tx.Instances(page, nil)
			if err != nil {
				return err
			}
			if all = append(all, rows...); next == "" {
				return nil
			}
			page.Token = next
		}
	})
	return all, err
}
