package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The records about chunk lists. A list is a number: its position among the
// distinct claims that references make of lists of the domain.
const (
	// claimSize: name 32, entries 4, plain bytes 8: what references say of a list.
	claimSize = 32 + 4 + 8
	// listPlaceSize: pack 4, offset 4, length 4, list 4.
	listPlaceSize = 4 + 4 + 4 + 4
	// neededSize: name 32, kind 1, plain length 4, list 4, position 2: one entry.
	neededSize = 32 + 1 + 4 + 4 + 2
)

// maxPlaces bounds the copies of one chunk that are looked at: usually there is
// one.
const maxPlaces = 64

// chunkLists are the lists that snapshots of a domain name. Their claims are in
// memory, 44 bytes each: a list stands for a few hundred chunks.
type chunkLists struct {
	claims []byte
	// state of each list: listUnread, listGood or the reason of what is wrong with it.
	lost   map[uint32]int // list -> finding
	good   []uint64       // bitmap
	needed *sorted        // entries of all lists, by name
	// namesOnly makes needed records of nothing but names, those of the lists among
	// them: who asks what is needed does not ask by whom.
	namesOnly bool
}

func (l *chunkLists) take(claim []byte) error {
	if l.count() >= maxLists {
		return fmt.Errorf("more than %d chunk lists: %w", maxLists, errs.Exhausted)
	}
	l.claims = append(l.claims, claim...)
	return nil
}

func (l *chunkLists) count() int { return len(l.claims) / claimSize }

func (l *chunkLists) claim(n uint32) repo.ListRef {
	b := l.claims[int(n)*claimSize:]
	return repo.ListRef{Name: seal.Name(b[:32]), Entries: binary.BigEndian.Uint32(b[32:]), Bytes: int64(binary.BigEndian.Uint64(b[36:]))}
}

func (l *chunkLists) isGood(n uint32) bool { return l.good[n/64]>>(n%64)&1 != 0 }
func (l *chunkLists) setGood(n uint32)     { l.good[n/64] |= 1 << (n % 64) }

func (l *chunkLists) remove() error { return l.needed.remove() }

// readLists reads every list that snapshots of the domain name, in the order of
// the packs, each from the first copy that is whole.
func (d *domain) readLists(ctx context.Context) error {
	l := &d.lists
	l.lost, l.good = map[uint32]int{}, make([]uint64, l.count()/64+1)
	if l.count() == 0 || d.keys == nil {
		return nil
	}
	places, err := d.placesOfLists(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = places.remove() }() // the folder goes with the check
	size := neededSize
	if l.namesOnly {
		size = nameSize
	}
	needed := newSorter(d.dir, "needed", size)
	var batch []listPlace
	flush := func() error {
		err := d.readListBatch(ctx, batch, needed)
		batch = batch[:0]
		return err
	}
	err = places.each(ctx, func(b []byte) error {
		p := listPlace{place: readPlace(b), list: binary.BigEndian.Uint32(b[12:])}
		if l.isGood(p.list) {
			return nil
		}
		if batch = append(batch, p); len(batch) < readers {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	l.needed, err = needed.finish(ctx)
	return err
}

// listPlace is one copy of a list.
type listPlace struct {
	place
	list  uint32
	frame []byte
	err   error
}

// placesOfLists finds the lists in the directories. One that is in none is lost.
func (d *domain) placesOfLists(ctx context.Context) (*sorted, error) {
	claims := &sorted{size: claimSize, memory: d.lists.claims}
	places := newSorter(d.dir, "listplaces", listPlaceSize)
	missing := newSorter(d.dir, "listmissing", nameSize+4)
	n := uint32(0)
	err := joinOn(ctx, claims, d.places, nameSize, maxPlaces, func(claim []byte, frames [][]byte, _ bool) error {
		list := n
		n++
		for _, f := range frames {
			record := readPlace(f[nameSize:]).append(make([]byte, 0, listPlaceSize))
			if err := places.add(binary.BigEndian.AppendUint32(record, list)); err != nil {
				return err
			}
		}
		if len(frames) > 0 {
			d.count.ReferencedBytes += int64(readPlace(frames[0][nameSize:]).length)
			return nil
		}
		return missing.add(binary.BigEndian.AppendUint32(append(make([]byte, 0, nameSize+4), claim[:nameSize]...), list))
	})
	if err != nil {
		return nil, err
	}
	lost, err := missing.finish(ctx)
	if err != nil {
		return nil, err
	}
	err = joinOn(ctx, lost, d.indexed, prefixSize, maxPlaces, func(l []byte, entries [][]byte, _ bool) error {
		d.lists.lost[binary.BigEndian.Uint32(l[nameSize:])] = d.missingChunk(l[:nameSize], entries)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, lost.remove())
	}
	if err := lost.remove(); err != nil {
		return nil, err
	}
	return places.finish(ctx)
}

// missingChunk gives the finding of a chunk that is in no directory: that of the
// pack in which an index file says it was, or one of the domain's packs.
func (d *domain) missingChunk(name []byte, entries [][]byte) int {
	if f := d.packOf(entries); f != notBad {
		return f
	}
	return d.add(Finding{Object: repo.PackPrefix(d.id), Problem: Missing, Chunks: 1,
		Detail: fmt.Sprintf("a chunk that a snapshot needs is in no pack: %s", seal.Name(name))})
}

// readListBatch reads a few lists at once and takes them in, in order.
func (d *domain) readListBatch(ctx context.Context, batch []listPlace, needed *sorter) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range batch {
		p := &batch[i]
		group.Go(func() error {
			p.frame, p.err = blob.ReadRange(groupCtx, d.store, d.packKey(p.pack), int64(p.offset), int64(p.length))
			return nil
		})
	}
	_ = group.Wait() // each error is in its place
	for i := range batch {
		if err := d.takeList(ctx, &batch[i], needed); err != nil {
			return err
		}
		batch[i].frame = nil
	}
	return nil
}

// takeList opens a list and takes its entries in.
func (d *domain) takeList(ctx context.Context, p *listPlace, needed *sorter) error {
	l := &d.lists
	if l.isGood(p.list) {
		return nil // another copy in the same batch
	}
	ref := l.claim(p.list)
	entries, err := d.openList(p, ref)
	if errors.Is(err, errs.NotFound) || errors.Is(err, errs.Corrupt) || errors.Is(err, errs.Unsupported) || err != nil && d.fatal(ctx, err) == nil {
		d.vanished = d.vanished || d.gone(ctx, d.packKey(p.pack), err)
		finding, err := d.badPlace(p.pack, p.offset, ref.Name[:], reason(err))
		l.lost[p.list] = finding
		return err
	}
	if err != nil {
		return err
	}
	if reason := differs(entries, ref); reason != "" {
		l.lost[p.list] = d.add(Finding{Object: d.packKey(p.pack), Problem: Contradictory, Chunks: 1, Detail: reason})
		return nil
	}
	l.setGood(p.list)
	delete(l.lost, p.list)
	if l.namesOnly {
		return addNames(needed, ref.Name, entries)
	}
	for i, e := range entries {
		b := append(make([]byte, 0, neededSize), e.Name[:]...)
		b = append(b, byte(e.Kind))
		b = binary.BigEndian.AppendUint32(b, e.Length)
		b = binary.BigEndian.AppendUint32(b, p.list)
		if err := needed.add(binary.BigEndian.AppendUint16(b, uint16(i))); err != nil {
			return err
		}
	}
	return nil
}

// addNames adds the names of a list and of what it lists.
func addNames(needed *sorter, list seal.Name, entries []repo.ListEntry) error {
	if err := needed.add(list[:]); err != nil {
		return err
	}
	for i := range entries {
		if err := needed.add(entries[i].Name[:]); err != nil {
			return err
		}
	}
	return nil
}

func (d *domain) openList(p *listPlace, ref repo.ListRef) ([]repo.ListEntry, error) {
	if p.err != nil {
		return nil, p.err
	}
	plain, err := d.keys.opener.Open(nil, p.frame, seal.KindList, ref.Name)
	if err != nil {
		return nil, err
	}
	return repo.DecodeList(plain)
}

// differs tells how a list is not what the references say of it.
func differs(entries []repo.ListEntry, ref repo.ListRef) string {
	var bytes int64
	for _, e := range entries {
		bytes += int64(e.Length)
	}
	if len(entries) == int(ref.Entries) && bytes == ref.Bytes {
		return ""
	}
	return fmt.Sprintf("list chunk %s has %d entries of %d bytes, a snapshot says %d of %d", ref.Name, len(entries), bytes, ref.Entries, ref.Bytes)
}
