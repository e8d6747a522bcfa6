// Package repo is the repository format: the self-describing, sealed,
// deduplicated store of snapshots that can be read with a store and a key
// alone. docs/FORMAT.md is its normative text. It knows no transport and no
// server; the disk nouns live here.
package repo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// ID is a random 128-bit identifier.
type ID [16]byte

// NewID makes a random one.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	return id
}

// String gives 32 hex digits.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// Short gives the first 8 hex digits, for people.
func (i ID) Short() string { return hex.EncodeToString(i[:4]) }

// IsZero tells whether the id was never set.
func (i ID) IsZero() bool { return i == ID{} }

// ParseID reads 32 hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if b, err := hex.DecodeString(s); err != nil || len(b) != len(id) {
		return id, fmt.Errorf("id %q: not 32 hex digits: %w", s, errs.Invalid)
	} else {
		copy(id[:], b)
	}
	return id, nil
}

// The ids that cross package borders. All are 128 random bits.
type (
	// RepositoryID names a repository.
	RepositoryID = ID
	// JobID names a job, and the snapshot that a backup job makes.
	JobID = ID
	// InstanceID names an instance.
	InstanceID = ID
	// AgentID names an agent.
	AgentID = ID
)

// Fence is the fencing number of an attempt. Later attempts compare greater.
type Fence struct {
	// Epoch of the controller that leased the attempt.
	Epoch uint64
	// Counter within the epoch.
	Counter uint64
}

// Less tells whether f is older than g.
func (f Fence) Less(g Fence) bool {
	return f.Epoch < g.Epoch || f.Epoch == g.Epoch && f.Counter < g.Counter
}

// String gives "EPOCH.COUNTER".
func (f Fence) String() string { return fmt.Sprintf("%d.%d", f.Epoch, f.Counter) }
