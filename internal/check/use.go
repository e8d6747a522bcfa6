package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Standing says what a pack counts for when it is asked what is needed of it.
type Standing byte

// The standings of packs.
const (
	// Stays: what is in it is there.
	Stays Standing = iota
	// Condemned: it will go. What is needed of it has to be copied, unless it is in a
	// pack that stays; two that are condemned never vouch for each other.
	Condemned
	// Ignored: nothing is said of it, and it vouches for nothing.
	Ignored
)

// UseOptions say of what the use is to be found out.
type UseOptions struct {
	// Repository is opened, Domain one of its domains.
	Repository *repo.Repository
	Domain     seal.DomainID
	// Dir is a folder for sorted files, this call's alone; it is made when missing.
	Dir string
	// Listed is called when all packs are listed and before Snapshots is: whoever
	// knows which packs are being written must look after the listing, and before
	// the snapshots.
	Listed func(ctx context.Context) error
	// Snapshots calls fn for every snapshot of the domain that counts.
	Snapshots func(ctx context.Context, fn func(repo.InstanceID, repo.JobID) error) error
	// Standing tells what a pack counts for. nil: all stay.
	Standing func(p *PackUse) Standing
	// Bad tells whether a place is known to be damaged. nil: none is.
	Bad func(p pack.ID, offset int64) bool
}

// PackUse is one pack, and what of it is needed.
type PackUse struct {
	ID   pack.ID
	Size int64
	// Meta is what the pack's trailer says, authenticated.
	pack.Meta
	// Frames and FrameBytes are all that is in it, LiveFrames and LiveBytes what
	// snapshots need of it. A chunk that lies in several packs of one uploader that
	// stay is needed in one of them only: the largest.
	Frames, LiveFrames    int32
	FrameBytes, LiveBytes int64
	// Standing is what it counted for.
	Standing Standing
	// Hurt tells that something in it is needed, known to be damaged, and nowhere else.
	Hurt bool
}

// Use is what snapshots need of the packs of a domain.
type Use struct {
	// Packs by id, without those whose directory cannot be read.
	Packs []PackUse
	// Damaged says what is wrong with those, and with whatever else was not as it
	// should be and did not matter.
	Damaged []Finding
	// Snapshots were read, Lists are the distinct chunk lists in them, Chunks the
	// distinct chunks, lists among them.
	Snapshots, Lists, Chunks int64
	// Missing chunks are needed and in no pack that counts.
	Missing int64
	// CopyFrames, of CopyBytes, are needed and in condemned packs only: see EachCopy.
	CopyFrames, CopyBytes int64

	dir    string
	packs  []packState
	at     []int32 // number of a pack -> position in Packs, -1 for those not in it
	copies *sorted
}

// copySize is the length of a record of what has to be copied: uploader 16, pack
// 4, offset 4, length 4, name 32.
const copySize = 16 + 4 + 4 + 4 + nameSize

// maxSeenLists bounds the claims of lists that are remembered so as not to be
// sorted again for each snapshot that shares them: 20 MiB.
const maxSeenLists = 1 << 18

// Uses finds out what of the packs of a domain snapshots need: the snapshots'
// references name chunk lists, these name chunks, and directories of packs say
// where they are. Index files are not asked. The caller closes what it gets.
//
// Nothing is guessed: a snapshot or a chunk list that cannot be read is an error
// (errs.Corrupt), since nobody knows then what is needed. A pack whose directory
// cannot be read counts as one that is not there. Memory does not grow with the
// number of chunks: see bounds.go.
func Uses(ctx context.Context, o UseOptions) (*Use, error) {
	u, err := uses(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("find out what is needed in domain %s: %w", o.Domain, err)
	}
	return u, nil
}

// Close removes what it has sorted.
func (u *Use) Close() error { return os.RemoveAll(u.dir) }

func uses(ctx context.Context, o UseOptions) (_ *Use, err error) {
	c, err := newChecker(o.Repository.Store(), Options{Repository: o.Repository, Dir: o.Dir})
	if err != nil {
		return nil, err
	}
	d := &domain{checker: c, id: o.Domain, count: c.domainCount(o.Domain), numbers: map[pack.ID]uint32{}, absentFindings: map[uint32]int{},
		badFrames: map[uint32]*badFrames{}, indexed: &sorted{size: indexedSize}, bad: newSorter(c.dir, "bad", placeSize)}
	c.domains[o.Domain] = &domainRecord{present: true}
	u := &user{domain: d, o: o, use: &Use{dir: c.dir}}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.use.Close())
		}
	}()
	rd, err := o.Repository.Domain(ctx, o.Domain)
	if err != nil {
		return nil, err
	}
	d.keys = openKeys(rd)
	if err := d.list(ctx); err != nil {
		return nil, err
	}
	if o.Listed != nil {
		if err := o.Listed(ctx); err != nil {
			return nil, err
		}
	}
	for _, step := range []func(context.Context) error{u.readPacks, u.readSnapshots, u.readLists, u.match} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	u.use.Damaged, u.use.packs = c.report.Findings, d.packs
	return u.use, nil
}

// user is one call of Uses.
type user struct {
	*domain
	o   UseOptions
	use *Use
}

// readPacks reads all directories.
func (u *user) readPacks(ctx context.Context) (err error) {
	frames := newSorter(u.dir, "places", placeSize)
	u.use.at = make([]int32, len(u.packs))
	err = u.eachDirectory(ctx, func(n uint32, dir *pack.Directory, err error) error {
		u.use.at[n] = -1
		if err != nil {
			return u.lostPack(ctx, n, err)
		}
		p := PackUse{ID: dir.ID, Size: dir.Size, Meta: dir.Meta, Frames: int32(len(dir.Entries))}
		for _, e := range dir.Entries {
			p.FrameBytes += int64(e.Length)
		}
		if u.o.Standing != nil {
			p.Standing = u.o.Standing(&p)
		}
		u.use.at[n] = int32(len(u.use.Packs))
		u.use.Packs = append(u.use.Packs, p)
		if p.Standing == Ignored {
			return nil
		}
		return u.addFrames(n, dir, frames)
	})
	if err != nil {
		return err
	}
	u.places, err = frames.finish(ctx)
	return err
}

// readSnapshots takes in the lists that snapshots name.
func (u *user) readSnapshots(ctx context.Context) error {
	seen := map[[listNeedSize]byte]struct{}{}
	return u.o.Snapshots(ctx, func(instance repo.InstanceID, job repo.JobID) error {
		s, err := u.repo.ReadSnapshot(ctx, instance, job)
		if err != nil {
			return err
		}
		if s.Header.Domain != u.id {
			return fmt.Errorf("snapshot %s: is of domain %s: %w", job, s.Header.Domain, errs.Corrupt)
		}
		refs, err := s.OpenReferences(u.keys.roots.Refs())
		if err != nil {
			return err
		}
		u.use.Snapshots++
		var record [listNeedSize]byte
		copy(record[:], u.id[:])
		for _, l := range refs.Lists {
			copy(record[16:], l.Name[:])
			binary.BigEndian.PutUint32(record[48:], l.Entries)
			binary.BigEndian.PutUint64(record[52:], uint64(l.Bytes))
			if _, ok := seen[record]; ok {
				continue
			}
			if len(seen) < maxSeenLists {
				seen[record] = struct{}{}
			}
			if err := u.checker.lists.add(record[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// readLists reads each distinct list once.
func (u *user) readLists(ctx context.Context) error {
	needs, err := u.checker.lists.finish(ctx)
	if err != nil {
		return err
	}
	from, err := needs.open()
	if err != nil {
		return err
	}
	defer from.close()
	u.lists.namesOnly = true
	if err := u.takeClaims(ctx, from); err != nil {
		return err
	}
	if err := u.domain.readLists(ctx); err != nil {
		return err
	}
	u.use.Lists = int64(u.lists.count())
	for list, finding := range u.lists.lost {
		why := "it is not there"
		if finding >= 0 && finding < len(u.report.Findings) {
			why = u.report.Findings[finding].Object + ": " + u.report.Findings[finding].Detail
		}
		return fmt.Errorf("chunk list %s, which a snapshot names: %s: %w", u.lists.claim(list).Name, why, errs.Corrupt)
	}
	return nil
}

// FrameCopy is a frame that has to be copied.
type FrameCopy struct {
	// Pack it is in, at Offset, Length bytes long; Uploader of the pack.
	Pack     pack.ID
	Uploader repo.InstanceID
	Offset   int64
	Length   uint32
	// Name of the chunk.
	Name seal.Name
}

// EachCopy calls fn for every frame that is needed and lies in condemned packs
// only: those of one uploader together, then those of one pack, by offset.
func (u *Use) EachCopy(ctx context.Context, fn func(FrameCopy) error) error {
	return u.copies.each(ctx, func(b []byte) error {
		p := readPlace(b[16:])
		return fn(FrameCopy{Pack: u.packs[p.pack].id, Uploader: repo.InstanceID(b[:16]), Offset: int64(p.offset), Length: p.length, Name: seal.Name(b[28:])})
	})
}
