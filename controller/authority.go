package controller

import (
	"context"
	"errors"
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

// reissueAuthority makes the issuing authority of a new epoch under the root that
// the fleet pins: that of the epoch which wrote the log last, else of the newest
// issuing authority there is. Only a store without any authority, in which an
// init went no further, gets a new root. One durable step, the issuer's object.
func reissueAuthority(ctx context.Context, r *repo.Repository, last, epoch uint64, now time.Time) (*pki.Issuer, error) {
	found, err := findAuthorities(ctx, r, last)
	if err != nil {
		return nil, fmt.Errorf("find certificate authority: %w", err)
	}
	var root *pki.Root
	for _, candidate := range found.roots {
		if found.issuer == nil && len(found.roots) == 1 || found.issuer != nil && candidate.Certificate().Equal(found.issuer.Root()) {
			root = candidate
		}
	}
	switch {
	case root == nil && found.damaged != nil:
		return nil, fmt.Errorf("find certificate authority: the root that agents know is damaged: %w", found.damaged)
	case root == nil && found.issuer == nil && len(found.roots) == 0:
		return makeAuthority(ctx, r, epoch, now)
	case root == nil:
		return nil, fmt.Errorf("find certificate authority: the store holds no root that agents know: %w", errs.NotFound)
	}
	issuer, err := root.Issuer(epoch, now)
	if err != nil {
		return nil, err
	}
	bundle, err := issuer.PEM()
	if err != nil {
		return nil, err
	}
	return issuer, r.PutCA(ctx, issuer.Certificate().SerialNumber.Text(16), bundle)
}

// authorities are those in a store: every root, and the issuer whose root counts.
type authorities struct {
	roots   []*pki.Root
	issuer  *pki.Issuer
	damaged error
}

func findAuthorities(ctx context.Context, r *repo.Repository, last uint64) (found authorities, err error) {
	err = r.CAs(ctx, func(serial string) error {
		bundle, err := r.CA(ctx, serial)
		if errors.Is(err, errs.Corrupt) {
			found.damaged = errors.Join(found.damaged, err)
			return nil
		}
		if err != nil {
			return err
		}
		if i, err := pki.ParseIssuer(bundle); err == nil {
			if known := found.issuer; known == nil || known.Epoch() != last && (i.Epoch() == last || i.Epoch() > known.Epoch()) {
				found.issuer = i
			}
		} else if root, err := pki.ParseRoot(bundle); err == nil {
			found.roots = append(found.roots, root)
		} else {
			found.damaged = errors.Join(found.damaged, fmt.Errorf("certificate authority %s: %w: %w", serial, err, errs.Corrupt))
		}
		return nil
	})
	return found, err
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
