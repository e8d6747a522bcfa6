package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// listNeedSize is the length of a record of the lists that snapshots name:
// domain 16, name 32, entries 4, plain bytes 8.
const listNeedSize = 16 + 32 + 4 + 8

// seenSize is the length of a record of the snapshots that the store has, or
// that somebody knows: instance 16, job 16, then hash 32 and size 8.
const seenSize = 16 + 16 + 32 + 8

// checkSnapshots reads every snapshot object and abort marker.
func (c *checker) checkSnapshots(ctx context.Context) error {
	c.phase(PhaseSnapshots)
	seen := newSorter(c.dir, "seen", seenSize)
	err := c.store.List(ctx, repo.SnapshotsPrefix, "", func(info blob.Info) error {
		instance, job, err := repo.ParseSnapshotObject(info.Key)
		if err != nil {
			return nil // it is a finding already
		}
		if len(c.snapshots) >= maxSnapshots {
			return fmt.Errorf("more than %d snapshots: %w", maxSnapshots, errs.Exhausted)
		}
		purged, err := c.purged(ctx, job)
		if err != nil {
			return err
		}
		raw, err := blob.ReadAll(ctx, c.store, info.Key, repo.MaxSnapshotBytes)
		if erased, err := c.ofErased(ctx, job, raw); err != nil || erased {
			return err
		}
		if err == nil {
			hash := sha256.Sum256(raw)
			if err := seen.add(seenRecord(instance, job, hash, info.Size)); err != nil {
				return err
			}
			err = c.checkSnapshot(ctx, info.Key, raw, purged)
		}
		c.report.SnapshotsChecked++
		return c.snapshotFailed(ctx, info.Key, err)
	})
	if err != nil || c.o.Known == nil {
		return err
	}
	return c.compareSnapshots(ctx, seen)
}

// ofErased tells whether a snapshot object is of an erased domain. One that is
// known is not, whatever its header says.
func (c *checker) ofErased(ctx context.Context, job repo.JobID, raw []byte) (bool, error) {
	if c.o.Known == nil || len(raw) < repo.SnapshotHeaderSize {
		return false, nil
	}
	h, err := repo.DecodeSnapshotHeader(raw[:repo.SnapshotHeaderSize])
	if err != nil {
		return false, nil //nolint:nilerr // whatever is wrong with it is found when it is read whole
	}
	erased, err := c.erased(ctx, h.Domain)
	if err != nil || !erased {
		return false, err
	}
	known, err := c.o.Known.Snapshot(ctx, job)
	if err != nil {
		return false, fmt.Errorf("look up snapshot %s: %w", job, err)
	}
	return !known, nil
}

func seenRecord(instance repo.InstanceID, job repo.JobID, hash [32]byte, size int64) []byte {
	b := append(append(append(make([]byte, 0, seenSize), instance[:]...), job[:]...), hash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(size))
}

// snapshotFailed makes a finding of a snapshot that cannot be read, which hurts
// all of it.
func (c *checker) snapshotFailed(ctx context.Context, key string, err error) error {
	if err == nil || c.gone(ctx, key, err) {
		return nil
	}
	if fatal := c.fatal(ctx, err); fatal != nil {
		return fatal
	}
	c.lostSnapshot(key, Damaged, reason(err))
	return nil
}

// lostSnapshot makes a finding of a snapshot of which nothing can be restored.
func (c *checker) lostSnapshot(key string, problem Problem, detail string) {
	n := c.add(Finding{Object: key, Problem: problem, Detail: detail})
	if instance, job, err := repo.ParseSnapshotObject(key); err == nil {
		c.hurts(n, Effect{Snapshot: job, Instance: instance})
		c.hurtSnapshot(instance, job, true, 0)
	}
}

// checkSnapshot checks one object's bytes and takes in what it needs, unless it
// is purged.
func (c *checker) checkSnapshot(ctx context.Context, key string, raw []byte, purged bool) error {
	s, err := repo.DecodeSnapshot(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	h := s.Header
	switch {
	case repo.SnapshotObject(h.Instance, h.Job) != key:
		return fmt.Errorf("%s: holds %s: %w", key, repo.SnapshotObject(h.Instance, h.Job), errs.Corrupt)
	case !c.id.IsZero() && s.Commit.Repository != c.id:
		return fmt.Errorf("%s: was made in repository %s: %w", key, s.Commit.Repository, errs.Corrupt)
	}
	if err := c.wantEpoch(ctx, h.Fence.Epoch, key); err != nil {
		return err
	}
	known, err := c.domainKnows(ctx, h.Domain, h.SealEpoch)
	if err != nil {
		return err
	}
	if !known {
		n := c.add(Finding{Object: repo.DomainPrefix(h.Domain), Problem: Missing,
			Detail: fmt.Sprintf("%s needs the domain's record of seal epoch %d, which is not there or damaged", key, h.SealEpoch)})
		c.hurts(n, Effect{Snapshot: h.Job, Instance: h.Instance})
		c.hurtSnapshot(h.Instance, h.Job, true, 0)
	}
	if c.repo != nil && known {
		if err := c.openSnapshot(ctx, key, s, purged); err != nil {
			return err
		}
	}
	if s.Commit.LogNumber > c.newestNamed.number {
		c.newestNamed.number, c.newestNamed.key = s.Commit.LogNumber, key
	}
	return nil
}

// openSnapshot verifies who wrote a snapshot, and takes in its lists unless it is
// purged.
func (c *checker) openSnapshot(ctx context.Context, key string, s *repo.Snapshot, purged bool) error {
	h := s.Header
	d, err := c.repo.Domain(ctx, h.Domain)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if err := s.VerifyCommit(d.Keys().Commit()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if h.State != repo.SnapshotCommitted || purged {
		return nil
	}
	refs, err := s.OpenReferences(d.Keys().Refs())
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, l := range refs.Lists {
		b := append(append(make([]byte, 0, listNeedSize), h.Domain[:]...), l.Name[:]...)
		b = binary.BigEndian.AppendUint32(b, l.Entries)
		if err := c.lists.add(binary.BigEndian.AppendUint64(b, uint64(l.Bytes))); err != nil {
			return err
		}
	}
	if c.domains[h.Domain] == nil {
		c.domains[h.Domain] = &domainRecord{}
	}
	c.snapshots = append(c.snapshots, snapshotRef{domain: h.Domain, instance: h.Instance, job: h.Job})
	count := c.domainCount(h.Domain)
	count.Snapshots++
	count.PlainBytes += refs.Bytes
	count.ChunkRefs += refs.Chunks
	return nil
}

// purged tells whether a snapshot that is in the store is being deleted, as one
// whose object is locked can be for long: what it needs may be gone before it.
func (c *checker) purged(ctx context.Context, id repo.JobID) (bool, error) {
	if c.o.Known == nil {
		return false, nil
	}
	known, err := c.o.Known.Snapshot(ctx, id)
	if err == nil && known {
		known, err = c.o.Known.Leaving(ctx, id)
	}
	if err != nil {
		return false, fmt.Errorf("look up snapshot %s: %w", id, err)
	}
	return known, nil
}

// erased tells whether somebody knows that a domain is erased.
func (c *checker) erased(ctx context.Context, id seal.DomainID) (bool, error) {
	if c.o.Known == nil {
		return false, nil
	}
	erased, err := c.o.Known.Erased(ctx, id)
	if err != nil {
		return false, fmt.Errorf("look up domain %s: %w", id, err)
	}
	return erased, nil
}

// compareSnapshots compares the snapshots in the store with those that somebody
// knows of, both ways.
func (c *checker) compareSnapshots(ctx context.Context, seen *sorter) error {
	known := newSorter(c.dir, "known", seenSize)
	err := c.o.Known.Snapshots(ctx, func(k KnownSnapshot) error {
		return known.add(seenRecord(k.Instance, k.ID, k.Hash, k.Size))
	})
	if err != nil {
		return fmt.Errorf("list known snapshots: %w", err)
	}
	inStore, err := seen.finish(ctx)
	if err != nil {
		return err
	}
	inCatalog, err := known.finish(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(inStore.remove(), inCatalog.remove()) }() // the folder goes with the check
	err = joinOn(ctx, inCatalog, inStore, 32, 1, func(k []byte, s [][]byte, _ bool) error {
		return c.compareSnapshot(ctx, k, s)
	})
	if err != nil {
		return err
	}
	return joinOn(ctx, inStore, inCatalog, 32, 1, func(s []byte, k [][]byte, _ bool) error {
		if len(k) > 0 {
			return nil
		}
		return c.strangeSnapshot(ctx, repo.SnapshotObject(repo.ID(s[:16]), repo.ID(s[16:32])), repo.ID(s[16:32]))
	})
}

// compareSnapshot compares one that the catalog has with the object in the store.
func (c *checker) compareSnapshot(ctx context.Context, known []byte, inStore [][]byte) error {
	key := repo.SnapshotObject(repo.ID(known[:16]), repo.ID(known[16:32]))
	if len(inStore) == 1 {
		if !bytes.Equal(inStore[0], known) && !c.found(key, Damaged) {
			c.lostSnapshot(key, Contradictory, "it is not the object that the catalog has recorded")
		}
		return nil
	}
	// It may have come since the listing, or be one that could not be read, or have
	// been purged.
	_, err := c.store.Stat(ctx, key)
	if errors.Is(err, errs.NotFound) {
		leaving, err := c.o.Known.Leaving(ctx, repo.ID(known[16:32]))
		if err == nil && !leaving {
			c.lostSnapshot(key, Missing, "the catalog has recorded it")
		}
		return err
	}
	return c.fatal(ctx, err)
}

// strangeSnapshot looks at one in the store that was not in the catalog's list.
// Abort markers are in no list.
func (c *checker) strangeSnapshot(ctx context.Context, key string, id repo.JobID) error {
	head, err := blob.ReadRange(ctx, c.store, key, 0, repo.SnapshotHeaderSize)
	if err != nil {
		return c.fatal(ctx, err)
	}
	if h, err := repo.DecodeSnapshotHeader(head); err != nil || h.State != repo.SnapshotCommitted {
		return nil
	}
	known, err := c.o.Known.Snapshot(ctx, id)
	if err != nil {
		return fmt.Errorf("look up snapshot %s: %w", id, err)
	}
	if !known {
		c.add(Finding{Object: key, Problem: Contradictory, Harmless: true, Detail: "the catalog does not know this snapshot"})
	}
	return nil
}
