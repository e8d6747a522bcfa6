package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Controller is one controller program.
type Controller struct {
	config  Config
	logging *logging.Logging
	log     *zap.Logger
	started time.Time
}

// New makes a controller. Nothing is opened before Run.
func New(c Config, l *logging.Logging) *Controller {
	return &Controller{config: c, logging: l, log: l.Log}
}

// Run opens everything, serves until ctx ends, and closes in the reverse order:
// first no new call is taken, then sessions end, packs under way become durable,
// what was journaled is shipped to the store, and the catalog is closed last. It
// returns nil after a stop that was asked for, and errs.Conflict when another
// controller has taken the store over.
func (c *Controller) Run(ctx context.Context) (err error) {
	c.started = time.Now()
	unlock, err := lockFolder(c.config.lockFile())
	if err != nil {
		return err
	}
	defer unlock()
	repository, err := openRepository(ctx, &c.config)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, c.config.catalogFile(), catalog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	w, err := c.wire(ctx, repository, cat)
	if err != nil {
		return err
	}
	return w.run(ctx)
}

// openRepository opens the store and unlocks the repository in it.
func openRepository(ctx context.Context, c *Config) (*repo.Repository, error) {
	if c.Store == "" {
		return nil, fmt.Errorf("open repository: no store is named, in %s or by --store: %w", DecisionsFile(c.StateDir), errs.Invalid)
	}
	u, err := unlocker(c.Unlock)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, c.Store, false)
	if err != nil {
		return nil, err
	}
	return repo.Open(ctx, store, u)
}

// readMeta gives what the catalog knows of itself, once it is that of the repository.
func readMeta(ctx context.Context, cat *catalog.Catalog, r *repo.Repository, c *Config) (meta catalog.Meta, err error) {
	if err := cat.View(ctx, func(tx *catalog.Tx) (err error) { meta, err = tx.Meta(); return err }); err != nil {
		return meta, err
	}
	if meta.Repository != r.ID() {
		return meta, fmt.Errorf("open catalog %s: it is of repository %s, the store holds %s: %w", c.catalogFile(), meta.Repository.Short(), r.ID().Short(), errs.Conflict)
	}
	return meta, nil
}
