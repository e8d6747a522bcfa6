package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// SnapshotInfo is what a listing knows of a snapshot object.
type SnapshotInfo struct {
	// Header is not verified: ReadSnapshot does that.
	Header SnapshotHeader
	// Key and Size of the object; Modified is the store's time of it, or zero.
	Key      string
	Size     int64
	Modified time.Time
	// Err is set, and Header zero, when the object has no header that can be read.
	Err error
}

// ListSnapshots calls fn for each snapshot object (abort markers too: see
// Header.State) of an instance, or of all with a zero instance, in order of
// their keys. It reads headers only and needs no key. A damaged object is
// given to fn with Err set and does not end the list: one torn object must not
// hide all others. What ends it is returned.
func (r *Repository) ListSnapshots(ctx context.Context, instance InstanceID, fn func(SnapshotInfo) error) error {
	prefix := SnapshotsPrefix
	if !instance.IsZero() {
		prefix = SnapshotPrefix(instance)
	}
	return r.store.List(ctx, prefix, "", func(info blob.Info) error {
		found, err := readHeader(ctx, r.store, info)
		if err != nil {
			return fmt.Errorf("list snapshots: %w", err)
		}
		return fn(found)
	})
}

// readHeader reads and checks one header. Its error is that of the store; damage
// is in the info.
func readHeader(ctx context.Context, store blob.Store, info blob.Info) (SnapshotInfo, error) {
	found := SnapshotInfo{Key: info.Key, Size: info.Size, Modified: info.Modified}
	instance, job, err := ParseSnapshotObject(info.Key)
	if err != nil {
		found.Err = err
		return found, nil
	}
	head, err := blob.ReadRange(ctx, store, info.Key, 0, min(info.Size, SnapshotHeaderSize))
	if errors.Is(err, errs.Corrupt) || errors.Is(err, errs.NotFound) {
		found.Err = err
		return found, nil
	}
	if err != nil {
		return found, err
	}
	h, err := DecodeSnapshotHeader(head)
	switch {
	case err != nil:
		found.Err = fmt.Errorf("%s: %w", info.Key, err)
	case h.Instance != instance || h.Job != job || h.Size() != info.Size:
		found.Err = fmt.Errorf("%s: %d bytes, its header is that of %s with %d: %w",
			info.Key, info.Size, SnapshotObject(h.Instance, h.Job), h.Size(), errs.Corrupt)
	default:
		found.Header = h
	}
	return found, nil
}

// FindSnapshot finds the instance of a snapshot by a walk over all keys of
// snapshots. errs.NotFound when there is none.
func (r *Repository) FindSnapshot(ctx context.Context, job JobID) (InstanceID, error) {
	var found InstanceID
	errFound := errors.New("found")
	err := r.store.List(ctx, SnapshotsPrefix, "", func(info blob.Info) error {
		instance, j, err := ParseSnapshotObject(info.Key)
		if err == nil && j == job {
			found = instance
			return errFound
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return found, nil
	case err != nil:
		return found, fmt.Errorf("find snapshot %s: %w", job, err)
	}
	return found, fmt.Errorf("snapshot %s: %w", job, errs.NotFound)
}

// ReadSnapshot reads a snapshot whole and verifies its ids, the hashes of both
// parts and the commit record's MAC. An abort marker is errs.NotFound.
func (r *Repository) ReadSnapshot(ctx context.Context, instance InstanceID, job JobID) (*Snapshot, error) {
	s, _, err := r.ReadSnapshotObject(ctx, instance, job)
	return s, err
}

// ReadSnapshotObject is ReadSnapshot that gives the object's bytes too, for an
// agent to take apart by DecodeSnapshot. s is within raw.
func (r *Repository) ReadSnapshotObject(ctx context.Context, instance InstanceID, job JobID) (s *Snapshot, raw []byte, err error) {
	key := SnapshotObject(instance, job)
	raw, err = blob.ReadAll(ctx, r.store, key, MaxSnapshotBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("read snapshot %s: %w", job, err)
	}
	h, err := DecodeSnapshotHeader(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, err)
	}
	d, err := r.Domain(ctx, h.Domain)
	if err != nil {
		return nil, nil, fmt.Errorf("read snapshot %s: %w", job, err)
	}
	s, err = d.decode(raw, instance, job)
	if err != nil {
		return nil, nil, err
	}
	if s.Header.State != SnapshotCommitted {
		return nil, nil, fmt.Errorf("snapshot %s: was given up: %w", job, errs.NotFound)
	}
	return s, raw, nil
}

// CheckSnapshot checks the structure of one snapshot object without any key: the
// header fits the key, lengths add up, both parts have their hashes. With the
// domain's K_refs it opens the references part too, which says what the snapshot
// needs; without (nil), references are nil, as they are for an abort marker. The
// commit record's MAC is not checked. What is wrong is errs.Corrupt and names
// the object.
func CheckSnapshot(ctx context.Context, store blob.Store, key string, refsKey *seal.Key) (SnapshotHeader, *References, error) {
	instance, job, err := ParseSnapshotObject(key)
	if err != nil {
		return SnapshotHeader{}, nil, err
	}
	raw, err := blob.ReadAll(ctx, store, key, MaxSnapshotBytes)
	if err != nil {
		return SnapshotHeader{}, nil, err
	}
	s, err := DecodeSnapshot(raw)
	if err != nil {
		return SnapshotHeader{}, nil, fmt.Errorf("%s: %w", key, err)
	}
	if s.Header.Instance != instance || s.Header.Job != job {
		return s.Header, nil, fmt.Errorf("%s: holds %s: %w", key, SnapshotObject(s.Header.Instance, s.Header.Job), errs.Corrupt)
	}
	if refsKey == nil || s.Header.State != SnapshotCommitted {
		return s.Header, nil, nil
	}
	refs, err := s.OpenReferences(*refsKey)
	if err != nil {
		return s.Header, nil, fmt.Errorf("%s: %w", key, err)
	}
	return s.Header, refs, nil
}
