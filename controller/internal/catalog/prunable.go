package catalog

import (
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// PutPruneNeed notes that something of a domain was purged. What was noted before
// is added to: the earlier time stays, numbers become sums.
func (tx *Tx) PutPruneNeed(domain seal.DomainID, n PruneNeed) error {
	if domain == (seal.DomainID{}) || n.Since.IsZero() {
		return fmt.Errorf("note what may be pruned of domain %s: without domain or time: %w", domain, errs.Invalid)
	}
	old, err := tx.pruneNeed(domain)
	switch {
	case err == nil:
		n.Snapshots, n.Bytes = n.Snapshots+old.Snapshots, n.Bytes+old.Bytes
		if old.Since.Before(n.Since) {
			n.Since = old.Since
		}
	case !errors.Is(err, errs.NotFound):
		return err
	}
	n.Domain = domain
	return tx.put(bucketPrunable, domain[:], toPruneNeed(n))
}

func (tx *Tx) pruneNeed(domain seal.DomainID) (PruneNeed, error) {
	return get(tx, bucketPrunable, domain[:], "what may be pruned of domain "+domain.String(), fromPruneNeed)
}

// PruneNeeds gives the domains of which something was purged since their last
// prune, by id.
func (tx *Tx) PruneNeeds() ([]PruneNeed, error) {
	var out []PruneNeed
	c := tx.cursor(bucketPrunable)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		n, err := decode(bucketPrunable, k, v, fromPruneNeed)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// DropPruneNeed removes what was noted of a domain once a prune that began with
// asOf has ended; what came since stays, and so does the whole note then.
func (tx *Tx) DropPruneNeed(domain seal.DomainID, asOf PruneNeed) error {
	now, err := tx.pruneNeed(domain)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	case now.Snapshots != asOf.Snapshots || now.Bytes != asOf.Bytes || !now.Since.Equal(asOf.Since):
		return nil
	}
	return tx.delete(bucketPrunable, domain[:])
}

// DropPruning forgets all that is noted about pruning a domain: it is erased.
func (tx *Tx) DropPruning(domain seal.DomainID) error {
	prunes, err := tx.Prunes()
	if err != nil {
		return err
	}
	for _, p := range prunes {
		if p.Domain == domain {
			if err := tx.DeletePrune(p.ID); err != nil {
				return err
			}
		}
	}
	return tx.delete(bucketPrunable, domain[:])
}
