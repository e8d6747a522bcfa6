package catalog

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Key gives what is known of the key with this id.
func (tx *Tx) Key(id repo.ID) (Key, error) {
	return get(tx, bucketKeys, id[:], "key "+id.String(), fromKey)
}

// PutKey writes what is known of a key.
func (tx *Tx) PutKey(k Key) error {
	if k.ID.IsZero() {
		return fmt.Errorf("key %q: without id: %w", k.Name, errs.Invalid)
	}
	return tx.put(bucketKeys, k.ID[:], toKey(k))
}

// DeleteKey forgets a key; one that does not exist is no error.
func (tx *Tx) DeleteKey(id repo.ID) error { return tx.delete(bucketKeys, id[:]) }
