package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// FirstOperator is the name of the admin that init makes.
const FirstOperator = "admin"

// Initialized tells what init made.
type Initialized struct {
	// Repository is the new repository's id.
	Repository repo.RepositoryID
	// Context is the file with which the first admin reaches the controller.
	Context string
	// KeyFile is the key file that was made, empty when a secret was given.
	KeyFile string
	// SameFileSystem tells that the key file and the store share a file system: what
	// loses one loses the other.
	SameFileSystem bool
}

// Init makes a repository and the state folder of its first controller.
//
// Durable steps:
//  1. unlock.key, unless a secret is named; one that is there is used again.
//  2. The repository in the store: repository.json, then its first key.
//  3. epochs/1 in the store.
//  4. The root and the issuing authority, sealed, in the store.
//  5. catalog.db with the first operator.
//  6. admin-context.yaml.
//  7. controller.yaml, which says that init is done.
//
// It refuses with errs.Exists a state folder with a catalog or a controller.yaml
// and a store that holds anything, and touches neither. A crash before step 7
// leaves folders that run and init refuses by name; they hold nothing yet and
// are to be removed by hand.
func Init(ctx context.Context, c Config) (*Initialized, error) {
	if err := refuseExisting(&c); err != nil {
		return nil, err
	}
	unlock, err := lockFolder(c.lockFile())
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := &Initialized{Context: c.contextFile()}
	if c.Unlock.IsZero() {
		if err := makeKeyFile(c.keyFile()); err != nil {
			return nil, err
		}
		out.KeyFile = c.keyFile()
		if c.Unlock, err = config.ParseSecret("file:" + c.keyFile()); err != nil {
			return nil, err
		}
	}
	r, err := makeRepository(ctx, &c)
	if err != nil {
		return nil, err
	}
	out.Repository = r.ID()
	now := time.Now()
	epoch, err := r.ClaimEpoch(ctx)
	if err != nil {
		return nil, err
	}
	issuer, err := makeAuthority(ctx, r, epoch, now)
	if err != nil {
		return nil, err
	}
	if err := makeCatalog(ctx, &c, r, epoch, issuer, now); err != nil {
		return nil, err
	}
	out.SameFileSystem = out.KeyFile != "" && sameFileSystem(c.StateDir, c.Store)
	return out, writeDecisions(&c)
}

func refuseExisting(c *Config) error {
	for _, path := range []string{c.catalogFile(), DecisionsFile(c.StateDir), c.contextFile()} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("init: %s is there, and init touches nothing that exists: %w", path, errs.Exists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("init: %w", err)
		}
	}
	return nil
}

func makeKeyFile(path string) error {
	if _, err := pki.ReadSecretFile(path); err == nil {
		return nil // of an init that went no further
	}
	if err := durable.WriteFile(path, seal.NewKeyFile().Text()); err != nil {
		return fmt.Errorf("init: write key file: %w", err)
	}
	return nil
}

func makeRepository(ctx context.Context, c *Config) (*repo.Repository, error) {
	u, err := unlocker(c.Unlock)
	if err != nil {
		return nil, err
	}
	store, err := openStore(c.Store, true)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return repo.Init(ctx, store, repo.Options{Unlocker: u, Name: c.Name})
}

// makeCatalog makes the catalog with the first operator, and that operator's context.
func makeCatalog(ctx context.Context, c *Config, r *repo.Repository, epoch uint64, issuer *pki.Issuer, now time.Time) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return err
	}
	chain, err := issuer.IssueOperator(csr, FirstOperator, now, pki.LeafLife)
	if err != nil {
		return err
	}
	meta := catalog.Meta{Repository: r.ID(), Epoch: epoch, Name: c.Name, Created: now}
	// Nothing exports yet: the change waits in the outbox for the first start.
	cat, err := catalog.Create(ctx, c.catalogFile(), meta, catalog.Options{Detached: true})
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	operator := catalog.Operator{Name: FirstOperator, Role: catalog.RoleAdmin, Created: now, CreatedBy: "init",
		Certificates: []catalog.Certificate{{Fingerprint: sha256.Sum256(chain.Leaf.Raw), Issued: now, Expires: chain.Leaf.NotAfter}}}
	err = cat.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error { return tx.PutOperator(operator) })
	if err := errors.Join(err, cat.Close()); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	identity, err := pki.NewIdentity(key, chain.Certificates, issuer.Root().Raw, now)
	if err != nil {
		return err
	}
	pem, err := identity.PEM()
	if err != nil {
		return err
	}
	operatorContext, err := access.FromIdentity(c.Name, reachable(c.Listen), pem)
	if err != nil {
		return err
	}
	return (&access.File{Current: c.Name, Contexts: []access.Context{operatorContext}}).Save(c.contextFile())
}

// reachable turns a listening address into one to connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// writeDecisions notes what run must know and init was told.
func writeDecisions(c *Config) error {
	d := struct {
		Store  string `yaml:"store"`
		Listen string `yaml:"listen"`
		Name   string `yaml:"name"`
		Unlock string `yaml:"unlock"`
	}{c.Store, c.Listen, c.Name, c.Unlock.Reference()}
	b, err := yaml.Marshal(d)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return durable.WriteFile(DecisionsFile(c.StateDir), append([]byte("# Written by init. A file named by --config, the environment and flags win over it.\n"), b...))
}

// sameFileSystem tells whether a folder and a local store are on one file system.
func sameFileSystem(folder, store string) bool {
	u, err := parseStore(store)
	if err != nil {
		return false
	}
	var a, b syscall.Stat_t
	return syscall.Stat(folder, &a) == nil && syscall.Stat(u.folder, &b) == nil && a.Dev == b.Dev
}

// lockFolder makes sure that one process at a time uses a state folder. The
// kernel lets go of the lock when the process ends, however it ends.
func lockFolder(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // the lock is what matters
		return nil, fmt.Errorf("lock state folder: another controller uses it (%s): %w", path, errs.Busy)
	}
	return func() { _ = f.Close() }, nil // closing lets go of the lock
}
