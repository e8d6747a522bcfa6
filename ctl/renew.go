package ctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// renewTimeout bounds a renewal, which comes before what was asked for: a
// controller that is well answers within milliseconds.
const renewTimeout = 5 * time.Second

// keepFresh renews the context's certificate when two thirds of its life have
// passed. This call goes on with the old one, which stays good until it
// expires. A renewal that fails is told and tried again at the next call; it
// never fails a command.
func (a *app) keepFresh(ctx context.Context, cl *client) {
	leaf := cl.identity.Leaf
	if a.now().Before(pki.RenewAt(leaf)) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, renewTimeout, fmt.Errorf("no answer within %s: %w", renewTimeout, errs.Timeout))
	defer cancel()
	err := a.renew(ctx, cl)
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	a.say("warning: the certificate of context %q expires on %s and was not renewed: %v", cl.context.Name, leaf.NotAfter.Local().Format("2006-01-02 15:04"), err)
}

// renew gets a certificate for a new key and puts both into the file of
// contexts. In this order:
//
//  1. The file is locked. Where another tuskctl has the lock, or has renewed
//     since the file was read, nothing is left to do.
//  2. The controller is called with the old certificate. A crash after it
//     leaves a certificate that nobody holds; the next call renews again.
//  3. The file is replaced. A crash leaves the old one or the new one whole.
func (a *app) renew(ctx context.Context, cl *client) error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	locked := false
	err = access.Change(ctx, path, 0, func(f *access.File) (bool, error) {
		locked = true
		c, err := f.Get(cl.context.Name)
		if err != nil || c.Certificate != cl.context.Certificate {
			return false, nil //nolint:nilerr // another tuskctl renewed it, or took the context out
		}
		fresh, err := cl.renewed(ctx)
		if err != nil {
			return false, err
		}
		c.Certificate, c.Key = fresh.Certificate, fresh.Key
		return true, nil
	})
	if !locked && errors.Is(err, errs.Busy) {
		return nil
	}
	return err
}

// renewed asks the controller for a certificate of the same identity and gives
// the context with it. Only the new certificate and key of it count.
func (c *client) renewed(ctx context.Context) (access.Context, error) {
	key, err := pki.NewKey()
	if err != nil {
		return access.Context{}, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return access.Context{}, err
	}
	answer, err := c.enroll.Renew(ctx, &tuskvaultv1.RenewRequest{Csr: csr})
	if err != nil {
		return access.Context{}, err
	}
	fresh, err := pki.NewIdentity(key, answer.GetCertificateChain(), c.identity.Root.Raw, time.Now())
	if err != nil {
		return access.Context{}, err
	}
	if old := c.identity.Peer; fresh.Peer.String() != old.String() || fresh.Peer.Repository != old.Repository {
		return access.Context{}, fmt.Errorf("the controller gave a certificate of %s to %s: %w", fresh.Peer, old, errs.Unauthenticated)
	}
	text, err := fresh.PEM()
	if err != nil {
		return access.Context{}, err
	}
	return access.FromIdentity(c.context.Name, c.context.Address, text)
}
