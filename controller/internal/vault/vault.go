// Package vault holds the opened repository for the rest of the controller: it
// makes domains, hands out the derived keys that one attempt may use, and tells
// what the store holds under a job's key. Which domain an attempt belongs to is
// always the catalog's word, never an agent's.
package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// sealEpochLife is how long one seal key is handed out for new data: what an
// agent could have kept opens at most this much of what others of its domain
// write later.
const sealEpochLife = 30 * 24 * time.Hour

// Vault gives keys. Its methods may be called concurrently.
type Vault struct {
	repository *repo.Repository
	now        func() time.Time
}

// New makes a vault of an open repository.
func New(r *repo.Repository) *Vault { return &Vault{repository: r, now: time.Now} }

// NewDomain makes a domain with keys of its own, durably in the store.
func (v *Vault) NewDomain(ctx context.Context) (seal.DomainID, error) {
	return v.repository.CreateDomain(ctx)
}

// NewSealEpoch starts a new seal epoch of the domain, durably in the store.
func (v *Vault) NewSealEpoch(ctx context.Context, domain seal.DomainID) error {
	d, err := v.repository.Domain(ctx, domain)
	if err != nil {
		return err
	}
	_, err = d.BumpSealEpoch(ctx)
	return err
}

// BackupGrant gives what a backup into the domain may use: of the seal keys the
// newest one only. A seal key that is too old is replaced first.
func (v *Vault) BackupGrant(ctx context.Context, domain seal.DomainID) (repo.Grant, error) {
	d, err := v.fresh(ctx, domain)
	if err != nil {
		return repo.Grant{}, fmt.Errorf("grant for a backup: %w", err)
	}
	return d.WriteGrant(), nil
}

// SealEpoch gives the epoch of the seal key that BackupGrant gives now, so that
// it can be journaled which one an attempt has.
func (v *Vault) SealEpoch(ctx context.Context, domain seal.DomainID) (uint32, error) {
	d, err := v.fresh(ctx, domain)
	if err != nil {
		return 0, fmt.Errorf("seal epoch for a backup: %w", err)
	}
	return d.SealEpoch(), nil
}

// fresh opens a domain whose newest seal key may still be given out.
func (v *Vault) fresh(ctx context.Context, domain seal.DomainID) (*repo.Domain, error) {
	d, err := v.repository.Domain(ctx, domain)
	if err != nil {
		return nil, err
	}
	if v.now().Sub(d.SealSince()) > sealEpochLife {
		if _, err := d.BumpSealEpoch(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// RestoreGrant gives what a restore of the snapshot may use.
func (v *Vault) RestoreGrant(ctx context.Context, snapshot catalog.Snapshot) (repo.Grant, error) {
	d, err := v.repository.Domain(ctx, snapshot.Domain)
	if err != nil {
		return repo.Grant{}, fmt.Errorf("grant for a restore of %s: %w", snapshot.ID.Short(), err)
	}
	g, err := d.ReadGrant(repo.EpochsUpTo(snapshot.SealEpoch))
	if err != nil {
		return repo.Grant{}, fmt.Errorf("grant for a restore of %s: %w", snapshot.ID.Short(), err)
	}
	return g, nil
}
