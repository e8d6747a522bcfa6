package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// readFrames reads the frames of the packs of the sample, a few packs at once.
// What they were found to be is taken in in the order of the packs, so that a
// position tells how far the check is.
func (d *domain) readFrames(ctx context.Context) error {
	wanted, err := d.wanted.finish(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = wanted.remove() }() // the folder goes with the check
	from, err := wanted.open()
	if err != nil {
		return err
	}
	defer from.close()
	var batch []*packRead
	flush := func() error {
		err := d.readBatch(ctx, batch)
		batch = nil
		return err
	}
	for n := range d.packs {
		p := d.packs[n]
		done, counted := d.note.done(d.id, p.id)
		if p.finding != notBad || done || !sampled(d.report.Seed, d.o.Sample, p.id) {
			continue
		}
		r := &packRead{number: uint32(n), counted: counted}
		if r.wants, err = wantsOf(from, uint32(n)); err != nil {
			return err
		}
		if batch = append(batch, r); len(batch) == frameReaders {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// want is what a list tells of a frame.
type want struct {
	offset uint32
	kind   seal.Kind
	plain  uint32
}

// maxWants bounds what is remembered of one pack: as much as it can have frames.
const maxWants = pack.MaxCount

// wantsOf gives what lists tell of the frames of a pack, by offset. Packs must
// be asked for in order.
func wantsOf(from *reader, number uint32) ([]want, error) {
	var out []want
	for from.head != nil {
		b := from.head
		n := binary.BigEndian.Uint32(b)
		if n > number {
			return out, nil
		}
		if n == number && len(out) < maxWants {
			out = append(out, want{offset: binary.BigEndian.Uint32(b[4:]), kind: seal.Kind(b[8]), plain: binary.BigEndian.Uint32(b[9:])})
		}
		if err := from.next(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// packRead is the reading of one pack's frames.
type packRead struct {
	number  uint32
	counted bool // by the part of the check that was interrupted
	wants   []want

	frames, bytes int64
	bad           []badRead
	lies          []badRead // chunks that are not what a list says
	err           error
}

type badRead struct {
	offset uint32
	name   seal.Name
	detail string
}

func (d *domain) readBatch(ctx context.Context, batch []*packRead) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, r := range batch {
		group.Go(func() error {
			r.err = d.readPack(groupCtx, r)
			return nil
		})
	}
	_ = group.Wait() // each error is in its reading
	for _, r := range batch {
		if err := d.packRead(ctx, r); err != nil {
			return err
		}
	}
	d.tell(func(p *Progress) { p.PacksRead, p.BytesRead = d.report.PacksRead, d.report.BytesRead })
	return d.note.saveSometimes(d.report)
}

// readPack reads the frames of one pack and judges each.
func (d *domain) readPack(ctx context.Context, r *packRead) error {
	dir, err := d.directory(ctx, r.number)
	if err != nil {
		return err
	}
	return eachChunk(ctx, d.opener(d.packKey(r.number)), dir, d.dataOpener(), func(e pack.Entry, h seal.Header, plain []byte, damage error) {
		r.frames++
		r.bytes += int64(e.Length)
		wants := r.wantsAt(uint32(e.Offset))
		if damage != nil {
			r.bad = append(r.bad, badRead{uint32(e.Offset), e.Name, reason(damage)})
			return
		}
		for _, w := range wants {
			if w.kind != h.Kind || int(w.plain) != len(plain) {
				r.lies = append(r.lies, badRead{uint32(e.Offset), e.Name, fmt.Sprintf("chunk %s at %d is of kind %d and has %d bytes, a list says %d and %d",
					e.Name, e.Offset, h.Kind, len(plain), w.kind, w.plain)})
			}
		}
	})
}

// dataOpener gives what opens chunks, nil when they are not to be opened.
func (d *domain) dataOpener() *seal.Opener {
	if d.keys == nil || !d.o.ReadData {
		return nil
	}
	return d.keys.opener
}

// eachChunk reads all frames of a pack in order and tells for each what is wrong
// with it, or nil. With an opener chunks are opened, which recomputes their
// names; header and plain are then what was found, valid until fn returns.
func eachChunk(ctx context.Context, open pack.OpenFunc, dir *pack.Directory, o *seal.Opener, fn func(e pack.Entry, h seal.Header, plain []byte, damage error)) error {
	var plain []byte
	return pack.EachFrame(ctx, open, dir, func(e pack.Entry, frame []byte, damage error) (err error) {
		var h seal.Header
		if damage == nil && o != nil {
			if h, damage = seal.ParseHeader(frame); damage == nil {
				var opened []byte
				if opened, damage = o.Open(plain[:0], frame, h.Kind, e.Name); damage == nil {
					plain = opened
				}
			}
		}
		fn(e, h, plain, damage)
		return nil
	})
}

// wantsAt takes what lists tell of the frame at an offset; offsets must rise.
func (r *packRead) wantsAt(offset uint32) []want {
	for len(r.wants) > 0 && r.wants[0].offset < offset {
		r.wants = r.wants[1:]
	}
	n := 0
	for n < len(r.wants) && r.wants[n].offset == offset {
		n++
	}
	return r.wants[:n]
}

// packRead takes in what was read of one pack.
func (d *domain) packRead(ctx context.Context, r *packRead) error {
	if r.err != nil {
		if err := d.lostPack(ctx, r.number, r.err); err != nil {
			return err
		}
		if d.packs[r.number].finding == packGone {
			if pruned, err := d.pruned(ctx, r.number); err != nil || pruned {
				return err
			}
			d.packs[r.number].finding = int32(d.add(Finding{Object: d.packKey(r.number), Problem: Missing, Detail: "it was there when its directory was read"}))
			d.badPack(d.packs[r.number].id)
		}
		return d.loseAll(ctx, r.number)
	}
	for _, b := range r.bad {
		if _, err := d.badPlace(r.number, b.offset, b.name[:], b.detail); err != nil {
			return err
		}
	}
	for _, b := range r.lies {
		finding := d.add(Finding{Object: d.packKey(r.number), Problem: Contradictory, Chunks: 1, Detail: b.detail})
		if err := d.loseChunk(b.name[:], finding); err != nil {
			return err
		}
	}
	if !r.counted {
		d.report.PacksRead++
		d.report.FramesRead += r.frames
		d.report.BytesRead += r.bytes
		d.note.passed(d.id, d.packs[r.number].id, len(r.bad)+len(r.lies) > 0)
	}
	return nil
}

// pruned tells whether a pack that is gone was deleted in order: the index file
// that named it goes first. Whatever was still needed of it was copied before.
func (d *domain) pruned(ctx context.Context, number uint32) (bool, error) {
	covered := d.packs[number].covered
	if covered == 0 {
		return true, nil // of a job under way, or nobody's
	}
	_, err := d.store.Stat(ctx, repo.IndexObject(d.id, d.indexes[covered-1].id))
	if errors.Is(err, errs.NotFound) {
		return true, nil
	}
	return false, d.fatal(ctx, err)
}

// loseAll notes that every frame of a pack is bad: its directory was good a while
// ago, and now it cannot be read.
func (d *domain) loseAll(ctx context.Context, number uint32) error {
	return d.places.each(ctx, func(b []byte) error {
		p := readPlace(b[nameSize:])
		if p.pack != number {
			return nil
		}
		record := append(make([]byte, 0, placeSize), b[:nameSize]...)
		return d.bad.add(place{p.pack, p.offset, uint32(d.packs[number].finding)}.append(record))
	})
}
