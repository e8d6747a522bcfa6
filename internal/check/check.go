package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Whole is the sample of everything, in millionths.
const Whole = 1_000_000

// Options say what to check. The zero value, with Dir, checks everything that
// can be checked without keys.
type Options struct {
	// Repository is the opened repository, in the store that is checked: it has the
	// keys. nil checks without any.
	Repository *repo.Repository
	// Unlockers are tried on every key object, so that one which opens nothing any
	// more is found. Without them (or without Repository) only the structure of keys
	// is checked.
	Unlockers []seal.Unlocker
	// Known is what somebody else knows of the repository; nil when nobody does.
	Known Known

	// Dir is a folder for sorted files and for the note of how far the check is. It
	// is made when missing, and is this check's alone.
	Dir string
	// Resume goes on after an interruption when Dir has a note of a check with the
	// same repository, ReadData, Sample and Seed (or Seed 0). What is short is done
	// again; frames that were read are not read again.
	Resume bool

	// ReadData opens the chunks that are read and recomputes their names. It needs
	// Repository.
	ReadData bool
	// Sample is the part of the packs whose frames are read, in millionths: 50,000 is
	// 5 %. 0 reads none, so that only directories vouch for frames.
	Sample int
	// Seed chooses the sample: the same seed, the same packs. 0 takes a random one,
	// which the report names.
	Seed uint64

	// BytesPerSecond bounds what is read from the store; 0 means no bound.
	BytesPerSecond int64
	// Progress is told how far the check is, from one goroutine at a time, at most a
	// few times a second and at each new phase. It must return soon.
	Progress func(Progress)
}

// Known is what a controller's catalog knows of a repository. A check compares
// it with the store both ways.
type Known interface {
	// Head is the newest record of the catalog log that is known to have been
	// written, with number 0 when none is.
	Head(ctx context.Context) (repo.Witness, error)
	// Snapshots calls fn for each snapshot that must be in the store.
	Snapshots(ctx context.Context, fn func(KnownSnapshot) error) error
	// Snapshot tells whether a snapshot that is in the store is known, or is being
	// made just now.
	Snapshot(ctx context.Context, id repo.JobID) (bool, error)
	// Leaving tells whether a snapshot that Snapshots gave may be gone from the store by
	// now: it is being deleted, or not known any more.
	Leaving(ctx context.Context, id repo.JobID) (bool, error)
	// Erased tells whether a domain is erased: what the store has not let go of it
	// yet need not be whole.
	Erased(ctx context.Context, id seal.DomainID) (bool, error)
	// Unindexed tells whether a pack is known to be in no index file yet.
	Unindexed(ctx context.Context, id pack.ID) (bool, error)
}

// KnownSnapshot is a snapshot as a catalog has it.
type KnownSnapshot struct {
	Instance repo.InstanceID
	ID       repo.JobID
	// Hash is the SHA-256 of the object, Size its length in bytes.
	Hash [32]byte
	Size int64
}

// Run checks a repository. It writes nothing to the store. The report is worth
// something only when the error is nil: a store that does not answer
// (errs.Unavailable), a full disk under Dir (errs.Exhausted) or the end of ctx
// end the check without a verdict, and a later Run with Resume goes on.
// errs.NotFound means that the store holds nothing, errs.Unsupported that it is
// of a later format, errs.Invalid that the options make no sense.
func Run(ctx context.Context, store blob.Store, o Options) (*Report, error) {
	if err := o.check(store); err != nil {
		return nil, fmt.Errorf("check repository: %w", err)
	}
	c, err := newChecker(store, o)
	if err != nil {
		return nil, fmt.Errorf("check repository: %w", err)
	}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("check repository: %w", err)
	}
	return c.report, nil
}

func (o *Options) check(store blob.Store) error {
	switch {
	case o.Dir == "":
		return fmt.Errorf("no folder to work in: %w", errs.Invalid)
	case o.Sample < 0 || o.Sample > Whole:
		return fmt.Errorf("sample of %d millionths: %w", o.Sample, errs.Invalid)
	case o.BytesPerSecond < 0:
		return fmt.Errorf("%d bytes a second: %w", o.BytesPerSecond, errs.Invalid)
	case o.ReadData && o.Repository == nil:
		return fmt.Errorf("chunks cannot be opened without keys: %w", errs.Invalid)
	case o.Repository != nil && o.Repository.Store().Features().Location != store.Features().Location:
		return fmt.Errorf("repository is in another store: %w", errs.Invalid)
	}
	return nil
}

// now is in whole microseconds, as it is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func randomSeed() uint64 {
	for {
		if s := rand.Uint64(); s != 0 {
			return s
		}
	}
}
