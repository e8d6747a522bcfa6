package check

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// looks is how often a domain is looked at of which something was deleted
// meanwhile: one prune deletes once.
const looks = 3

// structure reads index files, directories and lists and compares them. When
// something is wrong and something was deleted meanwhile, a prune may be the
// reason of both: what is needed may have been copied to where it was not looked
// for, and snapshots that needed the rest may be gone. Then all of it is done
// again with the snapshots that are still there.
func (d *domain) structure(ctx context.Context) error {
	for look := 1; ; look++ {
		before := d.mark()
		if err := d.structureOnce(ctx); err != nil {
			return err
		}
		if look == looks || d.report.Harm == before.report.Harm {
			return nil
		}
		if forgotten, err := d.forgotten(ctx); err != nil || !forgotten && !d.vanished {
			return err
		}
		if err := d.forgetSince(before); err != nil {
			return err
		}
		if err := d.claimAgain(ctx); err != nil {
			return err
		}
	}
}

// forgotten tells whether a snapshot of the domain was purged since it was read:
// what it needed may have been deleted before that was listed.
func (d *domain) forgotten(ctx context.Context) (bool, error) {
	for _, ref := range d.snapshots {
		if ref.domain != d.id {
			continue
		}
		if purged, err := d.purged(ctx, ref.job); err != nil || purged {
			return purged, err
		}
		_, err := d.store.Stat(ctx, repo.SnapshotObject(ref.instance, ref.job))
		if errors.Is(err, errs.NotFound) {
			return true, nil
		}
		if err := d.fatal(ctx, err); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (d *domain) structureOnce(ctx context.Context) error {
	d.bad = newSorter(d.dir, "bad", placeSize)
	d.lost = newSorter(d.dir, "lost", nameSize+4)
	d.wanted = newSorter(d.dir, "wanted", wantedSize)
	if err := d.list(ctx); err != nil {
		return err
	}
	d.phase(PhaseIndex)
	if err := d.scanIndexes(ctx); err != nil {
		return err
	}
	d.phase(PhasePacks)
	if err := d.readDirectories(ctx); err != nil {
		return err
	}
	if err := d.compareIndexes(ctx); err != nil {
		return err
	}
	d.phase(PhaseChunks)
	if err := d.readLists(ctx); err != nil {
		return err
	}
	return d.checkChunks(ctx)
}

// marked is the state of a check before the structure of a domain is looked at.
type marked struct {
	report Report
	count  DomainCount
}

func (d *domain) mark() marked { return marked{report: *d.report, count: *d.count} }

// forgetSince takes back what was found since a mark. Nothing of it is in a note.
func (d *domain) forgetSince(m marked) error {
	for _, f := range d.report.Findings[len(m.report.Findings):] {
		delete(d.checker.numbers, f.Object+"\x00"+string(f.Problem))
	}
	*d.report, *d.count = m.report, m.count
	err := errors.Join(d.places.remove(), d.indexed.remove(), d.lists.remove())
	d.indexes, d.packs, d.absent, d.lists, d.vanished, d.toldApart = nil, nil, nil, chunkLists{}, false, 0
	d.numbers, d.absentFindings, d.badFrames = map[pack.ID]uint32{}, map[uint32]int{}, map[uint32]*badFrames{}
	d.places, d.indexed = nil, nil
	return err
}

// claimAgain takes in the lists of the snapshots that are still there and not purged.
func (d *domain) claimAgain(ctx context.Context) error {
	claims := newSorter(d.dir, "claims", claimSize)
	for _, ref := range d.snapshots {
		if ref.domain != d.id {
			continue
		}
		if purged, err := d.purged(ctx, ref.job); err != nil {
			return err
		} else if purged {
			continue
		}
		s, err := d.repo.ReadSnapshot(ctx, ref.instance, ref.job)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		refs, err := s.OpenReferences(d.keys.roots.Refs())
		if err != nil {
			return err
		}
		for _, l := range refs.Lists {
			b := binary.BigEndian.AppendUint32(append(make([]byte, 0, claimSize), l.Name[:]...), l.Entries)
			if err := claims.add(binary.BigEndian.AppendUint64(b, uint64(l.Bytes))); err != nil {
				return err
			}
		}
	}
	sorted, err := claims.finish(ctx)
	if err != nil {
		return err
	}
	return errors.Join(sorted.each(ctx, d.lists.take), sorted.remove())
}
