package catalog

import (
	"errors"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// StoreFeatures gives what the store was last found to be able to do; NotFound
// before it was ever opened.
func (tx *Tx) StoreFeatures() (StoreFeatures, error) {
	return get(tx, bucketMeta, []byte(keyStore), "features of the store", fromStoreFeatures)
}

// PutStoreFeatures replaces it.
func (tx *Tx) PutStoreFeatures(f StoreFeatures) error {
	return tx.put(bucketMeta, []byte(keyStore), toStoreFeatures(f))
}

// LockRounds gives how far extending locks is, nothing before it ever ran.
func (tx *Tx) LockRounds() ([]LockRound, error) {
	rounds, err := get(tx, bucketMeta, []byte(keyLocks), "rounds of extending locks", fromLockRounds)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	return rounds, err
}

// PutLockRounds replaces it.
func (tx *Tx) PutLockRounds(rounds []LockRound) error {
	return tx.put(bucketMeta, []byte(keyLocks), toLockRounds(rounds))
}

func toStoreFeatures(f StoreFeatures) *catalogpb.StoreFeatures {
	return &catalogpb.StoreFeatures{Location: f.Location, AtomicCreate: f.AtomicCreate, Versions: f.Versions, Lock: f.Lock, Encryption: f.Encryption,
		StorageClass: f.StorageClass, SeparateDeletes: f.SeparateDeletes, Warnings: f.Warnings, Probed: stamp(f.Probed)}
}

func fromStoreFeatures(_ *decoder, f *catalogpb.StoreFeatures) StoreFeatures {
	return StoreFeatures{Location: f.GetLocation(), AtomicCreate: f.GetAtomicCreate(), Versions: f.GetVersions(), Lock: f.GetLock(), Encryption: f.GetEncryption(),
		StorageClass: f.GetStorageClass(), SeparateDeletes: f.GetSeparateDeletes(), Warnings: f.GetWarnings(), Probed: moment(f.GetProbed())}
}

func toLockRounds(rounds []LockRound) *catalogpb.LockRounds {
	return &catalogpb.LockRounds{Rounds: each(rounds, func(r LockRound) *catalogpb.LockRound {
		return &catalogpb.LockRound{Prefix: r.Prefix, Started: stamp(r.Started), After: r.After, Covered: stamp(r.Covered), Objects: r.Objects, Failed: r.Failed,
			CoveredObjects: r.CoveredObjects, CoveredFailed: r.CoveredFailed}
	})}
}

func fromLockRounds(_ *decoder, rounds *catalogpb.LockRounds) []LockRound {
	return each(rounds.GetRounds(), func(r *catalogpb.LockRound) LockRound {
		return LockRound{Prefix: r.GetPrefix(), Started: moment(r.GetStarted()), After: r.GetAfter(), Covered: moment(r.GetCovered()), Objects: r.GetObjects(), Failed: r.GetFailed(),
			CoveredObjects: r.GetCoveredObjects(), CoveredFailed: r.GetCoveredFailed()}
	})
}
