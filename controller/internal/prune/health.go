package prune

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
)

// Health is what is to be told of prunes in the status of the repository.
type Health struct {
	// Packs and Bytes are condemned and not deleted, since Since; zero when none are.
	Packs, Bytes int64
	Since        time.Time
	// Problem says what keeps prunes from going on, for people; empty when nothing does.
	Problem string
}

// Health tells how prunes are.
func (r *Runner) Health(ctx context.Context) (h Health, err error) {
	if err := r.load(ctx); err != nil {
		return h, err
	}
	err = r.pruner.Catalog.View(ctx, func(tx *catalog.Tx) error {
		prunes, err := tx.Prunes()
		if err != nil {
			return err
		}
		for _, one := range prunes {
			h.Packs, h.Bytes = h.Packs+one.Packs, h.Bytes+one.Bytes
			if h.Since.IsZero() || one.Condemned.Before(h.Since) {
				h.Since = one.Condemned
			}
			if one.Phase != catalog.PruneCondemned || now().Sub(one.Condemned) < r.pruner.o.MinAge+stuckAfter {
				continue
			}
			why, err := waiting(tx, one, r.pruner.o.MinAge, now())
			if err != nil {
				return err
			}
			if why != "" {
				h.Problem = fmt.Sprintf("domain %s has waited since %s for %s", one.Domain, one.Condemned.Format(time.RFC3339), why)
			}
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, problem := range r.problems {
		if r.pruner.erased(ctx, id) {
			delete(r.problems, id)
			continue
		}
		h.Problem = fmt.Sprintf("domain %s: %s", id, problem)
	}
	return h, err
}
