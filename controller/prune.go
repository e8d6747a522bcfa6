package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/blob/place"
)

// prune makes what deletes what no snapshot needs.
func (w *wired) prune(cat *catalog.Catalog) error {
	c := &w.controller.config
	where, err := place.Parse(c.Store)
	if err != nil {
		return err
	}
	var ballast *prune.Ballast
	if where.Folder != "" { // a bucket is never full
		ballast = prune.NewBallast(w.repository.Store(), int64(c.Prune.Ballast))
	}
	adopt := &reconciler{repository: w.repository, catalog: cat, beside: true}
	w.pruner = prune.NewRunner(prune.Deps{Repository: w.repository, Catalog: cat, Chunks: w.ingest, Trail: w.trail, Adopt: adopt.adoptAll, Clear: w.marks.Clear,
		Ballast: ballast, Dir: c.pruneFolder(), Epoch: w.meta.Epoch, Log: w.controller.log},
		prune.Options{MinAge: c.Prune.MinAge, Budget: int64(c.Prune.RepackBytes), Interval: c.Prune.Interval})
	return nil
}

// adoptAll records what is in the store and not in the catalog, before it is
// found out what is needed. An object of which nobody can tell what it needs is
// errs.Corrupt: nothing may be deleted beside it.
func (r *reconciler) adoptAll(ctx context.Context) error {
	found, err := r.run(ctx)
	if err == nil && len(found.damaged) > 0 {
		err = fmt.Errorf("what the catalog does not know and cannot be read: %w", errors.Join(found.damaged...))
	}
	return err
}
