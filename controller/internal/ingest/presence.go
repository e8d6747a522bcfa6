package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// presence answers which chunks of a range are missing: known to no index, or
// only in packs that the store does not have whole. Nothing is read but the sizes
// of packs, each once a stream. What is there may still be damaged.
func (d *download) presence(ctx context.Context, r *tuskvaultv1.DownloadRange, names []seal.Name) error {
	g := d.segment(r, r.GetFirst())
	for i, name := range names {
		there, err := d.present(ctx, name)
		if err != nil {
			return fmt.Errorf("chunk %d of list %d: %w", int(r.GetFirst())+i, r.GetList(), err)
		}
		if !there {
			g.missing = append(g.missing, r.GetFirst()+uint32(i))
		}
	}
	close(g.read)
	d.holding.Add(1) // release takes it back; the answer has no frames to hold memory for
	select {
	case d.segments <- g:
		return nil
	case <-ctx.Done():
		d.release(g)
		return context.Cause(ctx)
	}
}

func (d *download) present(ctx context.Context, name seal.Name) (bool, error) {
	places, err := d.view.surely(ctx, name)
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, l := range places {
		whole, err := d.hasPack(ctx, l)
		if whole || err != nil {
			return whole, err
		}
	}
	return false, nil
}

// hasPack tells whether the store has a pack up to the end of a chunk. The sizes
// are kept for as long as the stream lives: a snapshot names a bounded number of packs.
func (d *download) hasPack(ctx context.Context, l index.Location) (bool, error) {
	size, ok := d.packs[l.Pack]
	if !ok {
		info, err := d.s.store.Stat(ctx, repo.PackObject(d.dom.id, l.Pack))
		switch {
		case err == nil:
			size = info.Size
		case errors.Is(err, errs.NotFound):
			size = d.sizeElsewhere(ctx, l.Pack)
		default:
			if size = d.sizeElsewhere(ctx, l.Pack); size == 0 {
				return false, fmt.Errorf("pack %s: %w", l.Pack, err)
			}
		}
		if d.packs == nil {
			d.packs = map[pack.ID]int64{}
		}
		d.packs[l.Pack] = size
	}
	return l.Offset+int64(l.Length) <= size, nil
}
