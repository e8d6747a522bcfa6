package catalog

import (
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Snapshot gives the snapshot with this id.
func (tx *Tx) Snapshot(id repo.JobID) (Snapshot, error) {
	return get(tx, bucketSnapshots, id[:], "snapshot "+id.String(), fromSnapshot)
}

// FindSnapshot gives the snapshot with this id or unique prefix of one.
func (tx *Tx) FindSnapshot(prefix string) (Snapshot, error) {
	key, err := findPrefix(tx, bucketSnapshots, "snapshot", prefix, len(repo.ID{}))
	if err != nil {
		return Snapshot{}, err
	}
	return get(tx, bucketSnapshots, key, "snapshot "+prefix, fromSnapshot)
}

// PutSnapshot writes the record of a snapshot that exists in the store.
func (tx *Tx) PutSnapshot(s Snapshot) error {
	if s.ID.IsZero() || s.Instance.IsZero() || s.Committed.IsZero() {
		return fmt.Errorf("snapshot %s: without id, instance or time: %w", s.ID, errs.Invalid)
	}
	totals, err := tx.Totals()
	if err != nil {
		return err
	}
	var wasTime, wasInstance []byte
	old, err := tx.Snapshot(s.ID)
	switch {
	case err == nil && old.Instance != s.Instance:
		return fmt.Errorf("snapshot %s: its instance cannot change: %w", s.ID, errs.Invalid)
	case err == nil:
		wasTime, wasInstance = snapshotTimeKey(old), snapshotInstanceKey(old)
		totals = totals.less(old)
	case !errors.Is(err, errs.NotFound):
		return err
	}
	err = errors.Join(tx.move(indexSnapshotTimes, wasTime, snapshotTimeKey(s)), tx.move(indexSnapshotInstances, wasInstance, snapshotInstanceKey(s)),
		tx.put(bucketMeta, []byte(keyTotals), toTotals(totals.with(s))))
	if err != nil {
		return err
	}
	return tx.put(bucketSnapshots, s.ID[:], toSnapshot(s))
}

// DeleteSnapshot removes the record of a snapshot that is not in the store any
// more, with its drills; one that does not exist is NotFound.
func (tx *Tx) DeleteSnapshot(id repo.JobID) error {
	old, err := tx.Snapshot(id)
	if err != nil {
		return err
	}
	totals, err := tx.Totals()
	if err != nil {
		return err
	}
	err = errors.Join(tx.move(indexSnapshotTimes, snapshotTimeKey(old), nil), tx.move(indexSnapshotInstances, snapshotInstanceKey(old), nil),
		tx.put(bucketMeta, []byte(keyTotals), toTotals(totals.less(old))))
	if err != nil {
		return err
	}
	return errors.Join(tx.dropDrills(id), tx.delete(bucketSnapshots, id[:]))
}

func (t Totals) with(s Snapshot) Totals {
	return Totals{Snapshots: t.Snapshots + 1, PlainBytes: t.PlainBytes + s.PlainBytes, StoredBytes: t.StoredBytes + s.StoredBytes}
}

func (t Totals) less(s Snapshot) Totals {
	return Totals{Snapshots: t.Snapshots - 1, PlainBytes: t.PlainBytes - s.PlainBytes, StoredBytes: t.StoredBytes - s.StoredBytes}
}

func snapshotTimeKey(s Snapshot) []byte { return join(newest(s.Committed), s.ID[:]) }

func snapshotInstanceKey(s Snapshot) []byte {
	return join(s.Instance[:], newest(s.Committed), s.ID[:])
}

// Snapshots lists all snapshots, newest first.
func (tx *Tx) Snapshots(page Page, keep func(Snapshot) bool) ([]Snapshot, string, error) {
	return list(tx, indexSnapshotTimes, nil, page, tx.snapshotAt, keep)
}

// SnapshotsOf lists the snapshots of an instance, newest first.
func (tx *Tx) SnapshotsOf(instance repo.InstanceID, page Page) ([]Snapshot, string, error) {
	return list(tx, indexSnapshotInstances, instance[:], page, tx.snapshotAt, nil)
}

func (tx *Tx) snapshotAt(k, _ []byte) (Snapshot, error) {
	return get(tx, bucketSnapshots, tail(k), "snapshot", fromSnapshot)
}
