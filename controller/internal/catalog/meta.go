package catalog

import (
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Meta gives what the catalog knows of itself.
func (tx *Tx) Meta() (Meta, error) {
	return get(tx, bucketMeta, []byte(keyMeta), "catalog meta record", fromMeta)
}

// PutMeta replaces it.
func (tx *Tx) PutMeta(m Meta) error { return tx.put(bucketMeta, []byte(keyMeta), toMeta(m)) }

// NextFence gives out the next fencing number. It is used only if the
// transaction is committed, and then never again, in this epoch or any other.
func (tx *Tx) NextFence() (repo.Fence, error) {
	m, err := tx.Meta()
	if err != nil {
		return repo.Fence{}, err
	}
	m.Counter++
	return repo.Fence{Epoch: m.Epoch, Counter: m.Counter}, tx.PutMeta(m)
}

// Totals gives sums over all records.
func (tx *Tx) Totals() (Totals, error) {
	if tx.bucket(bucketMeta).Get([]byte(keyTotals)) == nil {
		return Totals{}, nil
	}
	return get(tx, bucketMeta, []byte(keyTotals), "catalog totals", fromTotals)
}

// Counts tells how many agents, instances and jobs there are.
func (tx *Tx) Counts() (agents, instances, jobs int) {
	n := func(b bucket) int { return tx.bucket(b).Stats().KeyN }
	return n(bucketAgents), n(bucketInstances), n(bucketJobs)
}
