package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// makeAuthority makes the root authority and the issuing one of an epoch, and
// keeps both in the store, sealed, each in an object of its own. The root's key
// is in memory only here.
//
// Durable steps: the root's object, then the issuer's. A crash between leaves a
// root that signed nothing.
func makeAuthority(ctx context.Context, r *repo.Repository, epoch uint64, now time.Time) (*pki.Issuer, error) {
	root, err := pki.NewRoot(r.ID(), now)
	if err != nil {
		return nil, err
	}
	bundle, err := root.PEM()
	if err != nil {
		return nil, err
	}
	if err := r.PutCA(ctx, root.Certificate().SerialNumber.Text(16), bundle); err != nil {
		return nil, err
	}
	issuer, err := root.Issuer(epoch, now)
	if err != nil {
		return nil, err
	}
	if bundle, err = issuer.PEM(); err != nil {
		return nil, err
	}
	return issuer, r.PutCA(ctx, issuer.Certificate().SerialNumber.Text(16), bundle)
}

// openAuthority finds the issuing authority of an epoch in the store.
func openAuthority(ctx context.Context, r *repo.Repository, epoch uint64) (*pki.Issuer, error) {
	var found *pki.Issuer
	err := r.CAs(ctx, func(serial string) error {
		bundle, err := r.CA(ctx, serial)
		if err != nil {
			return err
		}
		if i, err := pki.ParseIssuer(bundle); err == nil && i.Epoch() == epoch {
			found = i
		}
		return nil // a bundle that is no issuer is the root
	})
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if found == nil {
		return nil, fmt.Errorf("open certificate authority: none for epoch %d in the store: %w", epoch, errs.NotFound)
	}
	return found, nil
}
