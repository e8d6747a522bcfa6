package catalog

import (
	"context"

	"go.etcd.io/bbolt"
)

// OpenWith opens a file as a program would that knows a later version and steps
// to it. step changes the file from one version to the next.
func OpenWith(ctx context.Context, path string, version uint32, step func(from uint32, tx *bbolt.Tx) error) (*Catalog, error) {
	steps := migrations()
	for v := uint32(SchemaVersion); v < version; v++ {
		steps = append(steps, migration{from: v, apply: func(tx *bbolt.Tx) error { return step(v, tx) }})
	}
	return open(ctx, path, Options{Detached: true}, steps, version)
}

// Bolt gives the file under a transaction.
func (tx *Tx) Bolt() *bbolt.Tx { return tx.bolt }

// BucketNames lists every bucket of the file.
func BucketNames() (names []string) {
	for _, b := range allBuckets() {
		names = append(names, string(b))
	}
	return names
}
