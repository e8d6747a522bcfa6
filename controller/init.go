package controller

import (
	"context"
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
	"github.com/tuskvault/tuskvault/internal/blob/place"
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
//  1. init.unfinished, which names the store.
//  2. unlock.key, unless a secret is named; one that is there is used again.
//  3. The repository in the store: repository.json, then its first key.
//  4. The next epoch in the store.
//  5. The root and the issuing authority, sealed, in the store.
//  6. catalog.db with the first operator.
//  7. admin-context.yaml.
//  8. controller.yaml, which says that init is done.
//  9. init.unfinished goes.
//
// It refuses with errs.Exists a state folder with a catalog or a controller.yaml
// and a store that holds anything, and touches neither. A crash after step 1
// and before step 8 leaves a folder that run refuses, and that the same init
// makes whole: it makes catalog and context anew, and goes on with the repository
// if the key opens it and nobody has used it yet. What step 5 made before is
// left in the store, where an authority of an epoch without a catalog is good
// for nothing.
func Init(ctx context.Context, c Config) (*Initialized, error) {
	unlock, err := lockFolder(c.lockFile())
	if err != nil {
		return nil, err
	}
	defer unlock()
	again, err := begin(&c)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
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
	r, err := makeRepository(ctx, &c, again)
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
	if err := writeDecisions(&c); err != nil {
		return nil, err
	}
	return out, durable.Remove(UnfinishedFile(c.StateDir))
}

// begin refuses what exists, or takes up what an init of the same store left; it
// tells which.
func begin(c *Config) (again bool, err error) {
	if err := absent(DecisionsFile(c.StateDir)); err != nil {
		return false, err
	}
	text, err := os.ReadFile(UnfinishedFile(c.StateDir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := errors.Join(absent(c.catalogFile()), absent(c.contextFile())); err != nil {
			return false, err
		}
		return false, durable.WriteFile(UnfinishedFile(c.StateDir), []byte(c.Store))
	case err != nil:
		return false, err
	case string(text) != c.Store:
		return false, fmt.Errorf("an earlier init in %s with store %s did not finish, this one names %s: %w", c.StateDir, text, c.Store, errs.Conflict)
	}
	return true, errors.Join(durable.Remove(c.catalogFile()), durable.Remove(c.contextFile()))
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s is there, and init touches nothing that exists: %w", path, errs.Exists)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
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

// makeRepository makes the repository; again lets it go on with one that an
// earlier init has made and nobody has used.
func makeRepository(ctx context.Context, c *Config, again bool) (*repo.Repository, error) {
	u, err := unlocker(c.Unlock)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, c.Store, true)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	r, err := repo.Init(ctx, store, repo.Options{Unlocker: u, Name: c.Name})
	if !errors.Is(err, errs.Exists) {
		return r, err
	}
	if !again {
		// Nothing was made: the next init must not take this store for its own.
		return nil, errors.Join(err, durable.Remove(UnfinishedFile(c.StateDir)))
	}
	if r, openErr := repo.Open(ctx, store, u); openErr == nil {
		if head, headErr := r.LogHead(ctx); headErr == nil && head.Number == 0 {
			return r, nil
		}
	}
	return nil, err
}

// makeCatalog makes the catalog with the first operator, and that operator's context.
func makeCatalog(ctx context.Context, c *Config, r *repo.Repository, epoch uint64, issuer *pki.Issuer, now time.Time) error {
	made, err := makeOperator(issuer, FirstOperator, now)
	if err != nil {
		return err
	}
	meta := catalog.Meta{Repository: r.ID(), Epoch: epoch, Name: c.Name, Created: now}
	// Nothing exports yet: the change waits in the outbox for the first start.
	cat, err := catalog.Create(ctx, c.catalogFile(), meta, catalog.Options{Detached: true})
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	operator := catalog.Operator{Name: made.name, Role: catalog.RoleAdmin, Created: now, CreatedBy: "init", Certificates: []catalog.Certificate{made.certificate}}
	err = cat.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error { return tx.PutOperator(operator) })
	if err := errors.Join(err, cat.Close()); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	entry, err := made.context(c.Name, reachable(c.Listen))
	if err != nil {
		return err
	}
	return (&access.File{Current: entry.Name, Contexts: []access.Context{entry}}).Save(c.contextFile())
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
	p, err := place.Parse(store)
	if err != nil {
		return false
	}
	var a, b syscall.Stat_t
	return syscall.Stat(folder, &a) == nil && syscall.Stat(p.Folder, &b) == nil && a.Dev == b.Dev
}

// lockFolder makes sure that one process at a time uses a state folder.
func lockFolder(path string) (unlock func(), err error) {
	unlock, err = durable.Lock(path)
	if errors.Is(err, errs.Busy) {
		return nil, fmt.Errorf("lock state folder: another controller uses it (%s): %w", path, errs.Busy)
	} else if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	return unlock, nil
}
