package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// readDirectories reads what every pack says about itself, a few at once.
func (d *domain) readDirectories(ctx context.Context) (err error) {
	frames := newSorter(d.dir, "places", placeSize)
	err = d.eachDirectory(ctx, func(n uint32, dir *pack.Directory, err error) error { return d.directoryRead(ctx, n, dir, err, frames) })
	if err != nil {
		return err
	}
	d.places, err = frames.finish(ctx)
	return err
}

// eachDirectory reads the directory of every pack and calls fn with each, or
// with what is wrong with it, in the order of the packs.
func (d *domain) eachDirectory(ctx context.Context, fn func(n uint32, dir *pack.Directory, err error) error) error {
	for first := 0; first < len(d.packs); first += readers {
		batch := min(readers, len(d.packs)-first)
		dirs, failed := make([]*pack.Directory, batch), make([]error, batch)
		group, groupCtx := errgroup.WithContext(ctx)
		for i := range batch {
			group.Go(func() error {
				dirs[i], failed[i] = d.directory(groupCtx, uint32(first+i))
				return nil
			})
		}
		_ = group.Wait() // each error is in failed
		for i := range batch {
			if err := fn(uint32(first+i), dirs[i], failed[i]); err != nil {
				return err
			}
		}
		d.tell(func(p *Progress) { p.PacksChecked += int64(batch) })
	}
	return nil
}

// directory reads and authenticates one directory.
func (d *domain) directory(ctx context.Context, n uint32) (*pack.Directory, error) {
	p := d.packs[n]
	dir, err := pack.ReadDirectory(ctx, d.opener(d.packKey(n)), p.size, p.id)
	switch {
	case err != nil:
		return nil, err
	case dir.Domain != d.id:
		return nil, fmt.Errorf("pack %s: is of domain %s: %w", p.id.Short(), dir.Domain, errs.Corrupt)
	case d.keys != nil:
		return dir, pack.VerifyMAC(dir, d.keys.roots.Pack())
	}
	return dir, nil
}

// directoryRead takes in what was read of one pack.
func (d *domain) directoryRead(ctx context.Context, n uint32, dir *pack.Directory, err error, frames *sorter) error {
	d.report.PacksChecked++
	if err != nil {
		return d.lostPack(ctx, n, err)
	}
	if err := d.addFrames(n, dir, frames); err != nil {
		return err
	}
	d.count.Frames += int64(len(dir.Entries))
	d.report.ChunksChecked += int64(len(dir.Entries))
	return d.wantEpoch(ctx, dir.Epoch, d.packKey(n))
}

// addFrames adds the places of a pack's frames.
func (d *domain) addFrames(n uint32, dir *pack.Directory, frames *sorter) error {
	record := make([]byte, 0, placeSize)
	for _, e := range dir.Entries {
		record = append(record[:0], e.Name[:]...)
		if err := frames.add((place{n, uint32(e.Offset), e.Length}).append(record)); err != nil {
			return err
		}
		d.count.FrameBytes += int64(e.Length)
	}
	return nil
}

// lostPack makes a finding of a pack whose directory cannot be relied on. One
// that was deleted since it was listed is as one that was never there.
func (d *domain) lostPack(ctx context.Context, n uint32, err error) error {
	key := d.packKey(n)
	if d.gone(ctx, key, err) {
		d.packs[n].finding, d.vanished = packGone, true
		return nil
	}
	if fatal := d.fatal(ctx, err); fatal != nil {
		return fatal
	}
	finding := d.add(Finding{Object: key, Problem: Damaged, Detail: reason(err)})
	d.packs[n].finding = int32(finding)
	d.badPack(d.packs[n].id)
	return nil
}

// badFrames are the bad frames of one pack.
type badFrames struct {
	whole  bool
	frames []BadFrame
}

// badPlace notes a frame that is not what it should be, once, and gives the
// finding of its pack.
func (d *domain) badPlace(n, offset uint32, name []byte, detail string) (int, error) {
	b := d.badFrames[n]
	if b == nil {
		b = &badFrames{}
		d.badFrames[n] = b
	}
	chunks := int64(1)
	for _, f := range b.frames {
		if f.Offset == int64(offset) {
			chunks = 0 // a list that was read before its pack's frames were
		}
	}
	finding := d.add(Finding{Object: d.packKey(n), Problem: Damaged, Chunks: chunks, Detail: detail})
	if chunks == 0 {
		return finding, nil
	}
	if len(b.frames) < MaxBadFrames && d.toldApart < maxDomainFrames {
		d.toldApart++
		b.frames = append(b.frames, BadFrame{Name: seal.Name(name), Offset: int64(offset)})
	} else {
		b.whole = true
	}
	record := append(make([]byte, 0, placeSize), name...)
	// Where a place has its length, a bad one has its finding.
	return finding, d.bad.add(place{n, offset, uint32(int32(finding))}.append(record))
}

// badPack notes a pack in which nothing may be relied on.
func (d *domain) badPack(id pack.ID) { d.marked(BadPack{Domain: d.id, Pack: id, Whole: true}) }

func (d *domain) marked(b BadPack) {
	if len(d.report.BadPacks) < MaxBadPacks {
		d.report.BadPacks = append(d.report.BadPacks, b)
	}
}

// markBad puts the packs with bad frames into the report.
func (d *domain) markBad() {
	for n, b := range d.badFrames {
		p := BadPack{Domain: d.id, Pack: d.packs[n].id, Whole: b.whole}
		if !b.whole {
			p.Frames = b.frames
			slices.SortFunc(p.Frames, func(x, y BadFrame) int { return cmp.Compare(x.Offset, y.Offset) })
		}
		d.marked(p)
	}
}
