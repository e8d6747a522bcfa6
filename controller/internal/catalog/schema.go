package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// SchemaVersion is the version of the file's layout that this program writes.
// A file of an older version is migrated forward when it is opened, one of a
// newer version is refused.
const SchemaVersion = 4

// bucket names a bucket of the file. Names are stored, and are part of the
// catalog log: never reuse one for something else.
type bucket string

const (
	bucketMeta       bucket = "meta"       // "schema" be32, "meta" Meta, "totals" Totals, "check" Check, "scrub" Scrub, "prune" PruneRun, "store" StoreFeatures, "locks" LockRounds, "damaged/" domain pack DamagedPack, "copy/" name CopyState
	bucketAgents     bucket = "agents"     // agent id
	bucketInventory  bucket = "inventory"  // agent id
	bucketTokens     bucket = "tokens"     // token id
	bucketInstances  bucket = "instances"  // instance id
	bucketClusters   bucket = "clusters"   // name
	bucketOperators  bucket = "operators"  // name
	bucketJobs       bucket = "jobs"       // job id
	bucketAttempts   bucket = "attempts"   // job id, fence
	bucketLogs       bucket = "joblogs"    // job id, number
	bucketSnapshots  bucket = "snapshots"  // snapshot id
	bucketPacks      bucket = "packs"      // job id, pack id
	bucketAudit      bucket = "audit"      // number
	bucketDrills     bucket = "drills"     // snapshot id, job id
	bucketReports    bucket = "reports"    // snapshot id, job id: the signed report of the drill
	bucketPauses     bucket = "pauses"     // kind "/" subject
	bucketKeys       bucket = "keys"       // key id
	bucketErasures   bucket = "erasures"   // domain id
	bucketDistrusts  bucket = "distrusts"  // agent id
	bucketDistrusted bucket = "distrusted" // domain id, pack id
	bucketPrunable   bucket = "prunable"   // domain id
	bucketPrunes     bucket = "prunes"     // prune id
	bucketCondemned  bucket = "condemned"  // prune id, be32: packs
	bucketClock      bucket = "clock"      // "clock"
	bucketPermits    bucket = "permits"    // key of an object, or prefix
	bucketOutbox     bucket = "outbox"     // sequence
	bucketShipping   bucket = "shipping"   // "next"

	// Indexes; all can be made again from the buckets above.
	indexAgentNames        bucket = "agents.name"        // name -> agent id
	indexTokenTimes        bucket = "tokens.time"        // newest first, token id
	indexInstanceNames     bucket = "instances.name"     // AGENT/INSTANCE -> instance id
	indexJobTimes          bucket = "jobs.time"          // newest first, job id
	indexJobStates         bucket = "jobs.state"         // state, oldest first, job id
	indexJobInstances      bucket = "jobs.instance"      // instance id, newest first, job id
	indexSnapshotTimes     bucket = "snapshots.time"     // newest first, snapshot id
	indexSnapshotInstances bucket = "snapshots.instance" // instance id, newest first, snapshot id
	indexPacksOpen         bucket = "packs.open"         // state, job id, pack id: those not indexed
)

// recordBuckets lists the buckets of records of SchemaVersion, in the order in
// which a full record holds them.
func recordBuckets() []bucket {
	return []bucket{
		bucketMeta, bucketAgents, bucketInventory, bucketTokens, bucketInstances, bucketClusters, bucketOperators, bucketJobs,
		bucketAttempts, bucketLogs, bucketSnapshots, bucketPacks, bucketAudit, bucketDrills, bucketReports, bucketPauses, bucketKeys,
		bucketPrunable, bucketPrunes, bucketCondemned, bucketClock, bucketErasures, bucketDistrusts, bucketDistrusted, bucketPermits, bucketOutbox, bucketShipping,
	}
}

// indexBuckets lists the indexes of SchemaVersion; reindex makes each of them.
func indexBuckets() []bucket {
	return []bucket{
		indexAgentNames, indexTokenTimes, indexInstanceNames, indexJobTimes, indexJobStates, indexJobInstances,
		indexSnapshotTimes, indexSnapshotInstances, indexPacksOpen,
	}
}

// allBuckets lists every bucket of SchemaVersion.
func allBuckets() []bucket { return append(recordBuckets(), indexBuckets()...) }

// exported tells whether changes of the bucket go to the catalog log: those of
// every bucket of records but the few that are of the moment (packs of jobs under
// way), too much (job logs), or about this file itself. A record of a new type
// is therefore exported, and comes back in a rebuild, unless it is listed here.
func (b bucket) exported() bool {
	switch b {
	case bucketMeta, bucketLogs, bucketPacks, bucketOutbox, bucketShipping:
		return false
	}
	return slices.Contains(recordBuckets(), b)
}

const (
	keySchema = "schema"
	keyMeta   = "meta"
	keyTotals = "totals"
	keyCheck  = "check"
	keyClock  = "clock"
	keyScrub  = "scrub"
	keyPrune  = "prune"
	keyStore  = "store"
	keyLocks  = "locks"
	// keyDamaged is followed by domain and pack. These say what the store is found to
	// be, which a scrub finds again, and are not exported.
	keyDamaged = "damaged/"
)

// Migration brings a file from version From to From+1, inside one transaction
// that also writes the new version.
type migration struct {
	from  uint32
	apply func(*bbolt.Tx) error
}

// migrations lists one step a version from 1 on, oldest first.
func migrations() []migration {
	return []migration{
		{from: 1, apply: addBuckets(bucketDrills, bucketReports)},
		{from: 2, apply: addBuckets(bucketPauses, bucketKeys)},
		{from: 3, apply: addBuckets(bucketPrunable, bucketPrunes, bucketCondemned, bucketClock, bucketErasures, bucketDistrusts, bucketDistrusted, bucketPermits)},
	}
}

// addBuckets is the step to a version that has more buckets.
func addBuckets(names ...bucket) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		for _, name := range names {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	}
}

func readSchema(tx *bbolt.Tx) (uint32, error) {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return 0, fmt.Errorf("no bucket %s: %w", bucketMeta, errs.Corrupt)
	}
	v := meta.Get([]byte(keySchema))
	if len(v) != 4 {
		return 0, fmt.Errorf("no schema version: %w", errs.Corrupt)
	}
	return binary.BigEndian.Uint32(v), nil
}

func writeSchema(tx *bbolt.Tx, version uint32) error {
	meta, err := tx.CreateBucketIfNotExists([]byte(bucketMeta))
	if err != nil {
		return err
	}
	return meta.Put([]byte(keySchema), binary.BigEndian.AppendUint32(nil, version))
}

// migrate brings the file up to version want. In this order:
//
//  1. A copy of the file is written beside it as FILE.v<old> and synced, unless
//     an earlier try has left one. A crash leaves the old file as it is.
//  2. Each step changes the file and its version in one transaction. A crash
//     leaves the version of the last step that was committed; the next start
//     goes on from there.
func migrate(db *bbolt.DB, steps []migration, want uint32) error {
	var have uint32
	if err := db.View(func(tx *bbolt.Tx) (err error) { have, err = readSchema(tx); return err }); err != nil {
		return err
	}
	switch {
	case have == want:
		return nil
	case have > want:
		return fmt.Errorf("it was written by a newer version (schema %d, this program knows %d); run that version: %w", have, want, errs.Unsupported)
	case have == 0:
		return fmt.Errorf("schema version 0: %w", errs.Corrupt)
	}
	if err := copyAside(db, have); err != nil {
		return err
	}
	for v := have; v < want; v++ {
		step, err := stepFrom(steps, v)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			if err := step.apply(tx); err != nil {
				return err
			}
			return writeSchema(tx, v+1)
		})
		if err != nil {
			return fmt.Errorf("migrate from schema %d: %w", v, err)
		}
	}
	return nil
}

func stepFrom(steps []migration, v uint32) (migration, error) {
	for _, s := range steps {
		if s.from == v {
			return s, nil
		}
	}
	return migration{}, fmt.Errorf("no step from schema %d: %w", v, errs.Unsupported)
}

// copyAside keeps the file as it was before a migration.
func copyAside(db *bbolt.DB, version uint32) (err error) {
	path := fmt.Sprintf("%s.v%d", db.Path(), version)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy catalog before migrating: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(f); return err })
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copy catalog before migrating to %s: %w", path, errors.Join(err, os.Remove(part)))
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("copy catalog before migrating: %w", err)
	}
	return durable.SyncFolder(filepath.Dir(path))
}
