package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// Admitted tells what AdminContext made.
type Admitted struct {
	// Operator is the admin's name.
	Operator string
	// Context is the file with which the admin reaches the controller.
	Context string
	// Kept is where the file that was there before is now; empty when there was none.
	Kept string
	// Expires is when the certificate does, unless it is renewed before.
	Expires time.Time
}

// AdminContext gives the first admin a new certificate and context, when the old
// ones have expired or are lost. It needs the state folder, which no controller
// may be using (errs.Busy), and the secret that opens the repository (errs.Denied
// when it is a wrong one). The admin's earlier certificates become void: a file
// that is lost may have been found by somebody.
//
// Durable steps:
//  1. One catalog transaction replaces the operator's certificates and audits
//     that. It waits in the outbox for the next start. A crash after it leaves an
//     admin without a certificate: the same command again makes one.
//  2. admin-context.yaml becomes admin-context.yaml.old.
//  3. admin-context.yaml is written.
func AdminContext(ctx context.Context, c Config) (*Admitted, error) {
	unlock, err := lockFolder(c.lockFile())
	if err != nil {
		return nil, err
	}
	defer unlock()
	repository, err := openRepository(ctx, &c)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, c.catalogFile(), catalog.Options{Detached: true})
	if err != nil {
		return nil, err
	}
	var made *newOperator
	err = func() error {
		meta, err := readMeta(ctx, cat, repository, &c)
		if err != nil {
			return err
		}
		if latest, err := repository.LatestEpoch(ctx); err != nil {
			return err
		} else if latest > meta.Epoch {
			return fmt.Errorf("epoch %d in %s: another controller has taken the store over, its epoch is %d: %w", meta.Epoch, c.StateDir, latest, errs.Conflict)
		}
		issuer, err := openAuthority(ctx, repository, meta.Epoch)
		if err != nil {
			return err
		}
		if made, err = makeOperator(issuer, FirstOperator, time.Now()); err != nil {
			return err
		}
		return cat.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error { return admit(tx, made, audit.New(cat, zap.NewNop())) })
	}()
	if err := errors.Join(err, cat.Close()); err != nil {
		return nil, fmt.Errorf("make admin context: %w", err)
	}
	out := &Admitted{Operator: FirstOperator, Context: c.contextFile(), Expires: made.certificate.Expires}
	entry, err := made.context(c.Name, addressFor(&c, made.identity))
	if err != nil {
		return nil, err
	}
	switch err := os.Rename(out.Context, out.Context+".old"); {
	case err == nil:
		out.Kept = out.Context + ".old"
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("make admin context: %w", err)
	}
	if err := durable.SyncFolder(c.StateDir); err != nil {
		return nil, err
	}
	return out, (&access.File{Current: entry.Name, Contexts: []access.Context{entry}}).Save(out.Context)
}

// admit makes the new certificate the operator's only one.
func admit(tx *catalog.Tx, made *newOperator, trail *audit.Service) error {
	operator, err := tx.Operator(made.name)
	if err != nil {
		return err
	}
	if !operator.Revoked.IsZero() {
		return fmt.Errorf("operator %s: was revoked at %s, ask another admin: %w", operator.Name, operator.Revoked.UTC().Format(time.RFC3339), errs.Denied)
	}
	operator.Certificates = []catalog.Certificate{made.certificate}
	if err := tx.PutOperator(operator); err != nil {
		return err
	}
	return trail.Append(tx, catalog.AuditRecord{Actor: "controller", Action: "operator.admin-context", Object: "operator " + operator.Name, Outcome: audit.OK,
		Detail: fmt.Sprintf("by user %d on the controller's host; certificate %s, those before it are void", os.Getuid(), pki.Fingerprint(made.certificate.Fingerprint))})
}

// addressFor gives the address for a new context: that of the context there is,
// which an admin may have mended, or else the one that the controller listens on.
func addressFor(c *Config, identity *pki.Identity) string {
	if f, err := access.Load(c.contextFile()); err == nil {
		if old, err := f.Get(""); err == nil {
			if id, err := pki.ParseIdentity(old.Identity()); err == nil && id.Root.Equal(identity.Root) {
				return old.Address
			}
		}
	}
	return reachable(c.Listen)
}
