package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// segment is some neighbouring chunks of an answer, read as one range.
type segment struct {
	sequence uint64
	list     uint32
	first    uint32 // position of the first chunk in its list
	isList   bool   // it is the list chunk itself
	names    []seal.Name
	places   []index.Location
	frames   [][]byte
	missing  []uint32 // of an answer about presence
	err      error
	pooled   int64         // bytes of the shared bound on reading ahead
	read     chan struct{} // closed when frames or err are set
}

// bytes is the number of bytes of the frames.
func (g *segment) bytes() (n int64) {
	for _, l := range g.places {
		n += int64(l.Length)
	}
	return n
}

// end is where the range ends in its pack.
func (g *segment) end() int64 {
	l := g.places[len(g.places)-1]
	return l.Offset + int64(l.Length)
}

// takes tells whether a chunk can be read in the same range, which may have at
// most limit bytes.
func (g *segment) takes(l index.Location, limit int64) bool {
	return l.Pack == g.places[0].Pack && l.Offset >= g.end() && l.Offset-g.end() <= segmentGap &&
		l.Offset+int64(l.Length)-g.places[0].Offset <= limit
}

// plan turns ranges into segments and starts reading them.
func (d *download) plan(ctx context.Context) error {
	defer close(d.segments)
	for {
		select {
		case r, ok := <-d.requests:
			if !ok {
				return nil
			}
			if err := d.planRange(ctx, r); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *download) planRange(ctx context.Context, r *tuskvaultv1.DownloadRange) error {
	if uint64(r.GetList()) >= uint64(len(d.refs.Lists)) {
		return fmt.Errorf("list %d of a snapshot that has %d: %w", r.GetList(), len(d.refs.Lists), errs.Invalid)
	}
	ref := d.refs.Lists[r.GetList()]
	if r.GetListChunk() {
		g := d.segment(r, 0)
		g.isList = true
		return d.locate(ctx, g, []seal.Name{ref.Name})
	}
	end := uint64(r.GetFirst()) + uint64(r.GetCount())
	if r.GetCount() == 0 || end > uint64(ref.Entries) {
		return fmt.Errorf("entries %d to %d of list %d, which has %d: %w", r.GetFirst(), end, r.GetList(), ref.Entries, errs.Invalid)
	}
	entries, err := d.view.list(ctx, ref)
	if err != nil {
		return fmt.Errorf("list %d: %w", r.GetList(), err)
	}
	names := make([]seal.Name, r.GetCount())
	for i := range names {
		names[i] = entries[int(r.GetFirst())+i].Name
	}
	if r.GetPresence() {
		return d.presence(ctx, r, names)
	}
	return d.locate(ctx, d.segment(r, r.GetFirst()), names)
}

func (d *download) segment(r *tuskvaultv1.DownloadRange, first uint32) *segment {
	return &segment{sequence: r.GetSequence(), list: r.GetList(), first: first, read: make(chan struct{})}
}

// locate finds chunks and starts reading them, neighbours together.
func (d *download) locate(ctx context.Context, g *segment, names []seal.Name) error {
	for _, name := range names {
		places, err := d.view.surely(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", g.position(len(g.names)), damaged(err))
		}
		if len(g.names) > 0 && !g.takes(places[0], d.limit) {
			next := &segment{sequence: g.sequence, list: g.list, first: g.first + uint32(len(g.names)), read: make(chan struct{})}
			if err := d.start(ctx, g); err != nil {
				return err
			}
			g = next
		}
		g.names, g.places = append(g.names, name), append(g.places, places[0])
	}
	return d.start(ctx, g)
}

// position names a chunk of the answer for people.
func (g *segment) position(i int) string {
	if g.isList {
		return fmt.Sprintf("chunk of list %d", g.list)
	}
	return fmt.Sprintf("chunk %d of list %d", int(g.first)+i, g.list)
}

// start waits for credit and memory, then reads a segment in the background.
func (d *download) start(ctx context.Context, g *segment) error {
	if err := d.credit.take(ctx, g.bytes()); err != nil {
		return err
	}
	if err := d.hold(ctx, g); err != nil {
		return err
	}
	d.s.calls.Add(1)
	go func() { // the stream's call is counted until it ends
		defer d.s.calls.Done()
		defer close(g.read)
		g.frames, g.err = d.read(ctx, g)
	}()
	select {
	case d.segments <- g:
		return nil
	case <-ctx.Done():
		<-g.read // soon after ctx
		d.release(g)
		return context.Cause(ctx)
	}
}

// hold takes memory for a segment from what all streams share. When there is
// none, the stream waits until it holds no segment and goes on with one: it
// never waits for another stream, whose agent may not be reading.
func (d *download) hold(ctx context.Context, g *segment) error {
	for span := g.end() - g.places[0].Offset; ; {
		if d.s.ahead.TryAcquire(span) {
			g.pooled = span
			d.holding.Add(1)
			return nil
		}
		if d.holding.CompareAndSwap(0, 1) {
			return nil
		}
		select {
		case <-d.released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *download) release(g *segment) {
	if g.pooled > 0 {
		d.s.ahead.Release(g.pooled)
	}
	d.holding.Add(-1)
	select {
	case d.released <- struct{}{}:
	default: // told already
	}
}

// ownView is a view for another goroutine than plan's.
func (d *download) ownView() *view {
	return &view{s: d.s, dom: d.dom, instance: d.grant.SnapshotInstance, shared: d.grant.Shared, copied: d.view.copied}
}

// read reads and verifies a segment. What is not right there is looked for
// elsewhere, chunk by chunk.
func (d *download) read(ctx context.Context, g *segment) ([][]byte, error) {
	v := d.ownView() // plan uses the other
	silent := v.elsewhere(ctx) && v.copied.isSilent()
	if silent {
		if frames, err := v.segmentElsewhere(ctx, g); err == nil {
			return frames, nil
		}
	}
	start := g.places[0].Offset
	b, err := d.s.readRange(ctx, repo.PackObject(d.dom.id, g.places[0].Pack), start, g.end()-start)
	if err != nil && v.elsewhere(ctx) && !silent {
		v.copied.asked(err)
		if frames, err := v.segmentElsewhere(ctx, g); err == nil {
			return frames, nil
		}
	}
	if err != nil && (errors.Is(err, errs.Unavailable) || ctx.Err() != nil) {
		return nil, fmt.Errorf("%s: %w", g.position(0), err)
	}
	frames := make([][]byte, len(g.names))
	for i, l := range g.places {
		if err == nil {
			frame := b[l.Offset-start:][:l.Length]
			if d.s.verify(ctx, d.dom, l, g.names[i], frame) == nil {
				frames[i] = frame
				continue
			}
		}
		frame, err := v.frame(ctx, g.names[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.position(i), damaged(err))
		}
		frames[i] = frame
	}
	return frames, nil
}

// damaged makes Corrupt of a chunk that a snapshot names and that is not there.
func damaged(err error) error {
	if errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Corrupt) {
		return fmt.Errorf("%w: %w", errs.Corrupt, err)
	}
	return err
}

// send sends segments in order.
func (d *download) send(ctx context.Context) error {
	return d.eachSegment(ctx, func(g *segment) error {
		return d.stream.Send(&tuskvaultv1.DownloadResponse{Message: &tuskvaultv1.DownloadResponse_Frames{
			Frames: &tuskvaultv1.DownloadFrames{Sequence: g.sequence, Frames: g.frames, Missing: g.missing}}})
	})
}

// eachSegment calls fn for each segment in order, once it was read, and gives
// back the memory that it held. It ends with the first error of reading or of fn.
func (d *download) eachSegment(ctx context.Context, fn func(*segment) error) error {
	for {
		var g *segment
		var ok bool
		select {
		case g, ok = <-d.segments:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !ok {
			return nil
		}
		<-g.read // ends soon after ctx
		err := g.err
		if err == nil {
			err = fn(g)
		}
		d.release(g)
		if err != nil {
			return err
		}
	}
}
