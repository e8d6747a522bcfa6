package repo

import (
	"strings"
	"time"
)

// ShortLock is for how long at most keys, domains, authorities and the catalog log
// are locked: what can be erased on purpose, or replaced, must be free to go in
// the foreseeable future. Their locks are extended as long as they are needed.
const ShortLock = 30 * 24 * time.Hour

// LockTime tells for how long an object of this key is locked in a store that locks
// objects for at most so long.
//
// Index files are a cache, which is made again from the packs, and are replaced
// all the time: they are not locked.
func LockTime(key string, most time.Duration) time.Duration {
	switch {
	case strings.HasPrefix(key, IndexesPrefix):
		return 0
	case strings.HasPrefix(key, KeysPrefix), strings.HasPrefix(key, DomainsPrefix), strings.HasPrefix(key, CAPrefix), strings.HasPrefix(key, CatalogPrefix):
		return min(most, ShortLock)
	}
	return most
}

// LockedPrefixes are the parts of a store whose objects are locked, what is lost
// first when it is not extended coming first.
func LockedPrefixes() []string {
	return []string{"repository.", KeysPrefix, DomainsPrefix, CAPrefix, EpochsPrefix, CatalogPrefix, SnapshotsPrefix, PacksPrefix}
}
