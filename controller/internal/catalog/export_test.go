package catalog

import (
	"context"

	"go.etcd.io/bbolt"
)

// OpenWith opens a file as a program would that knows a later version and a step
// to it from each version since the first. step changes the file from one version to the next.
func OpenWith(ctx context.Context, path string, version uint32, step func(from uint32, tx *bbolt.Tx) error) (*Catalog, error) {
	var steps []migration
	for v := uint32(1); v < version; v++ {
		steps = append(steps, migration{from: v, apply: func(tx *bbolt.Tx) error { return step(v, tx) }})
	}
	return open(ctx, path, Options{Detached: true}, steps, version)
}

// Bolt gives the file under a transaction.
func (tx *Tx) Bolt() *bbolt.Tx { return tx.bolt }
