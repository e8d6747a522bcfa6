package offline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/export"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// segmentBytes is the aim for one read of the store, segmentGap how many bytes
	// between two chunks are read and thrown away rather than paid for with another.
	segmentBytes = 2 << 20
	segmentGap   = 64 << 10
	// segmentsAhead is how many reads a stream has under way: with the one that is
	// being used, some 10 MiB a stream.
	segmentsAhead = 4
	// keptLists bounds the chunk lists kept in memory, of at most half a megabyte each.
	keptLists = 16
)

// Source gives the streams of a snapshot.
func (r *Reader) Source(ctx context.Context, s *Snapshot) (export.Source, error) {
	d, err := r.domain(ctx, s.Domain)
	if err != nil {
		return nil, err
	}
	o, err := d.opener(s.sealEpoch)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", s.ID, err)
	}
	return &source{domain: d, opener: o, refs: s.refs}, nil
}

// source is the chunks of one snapshot.
type source struct {
	domain *domain
	opener *seal.Opener
	refs   *repo.References

	mu    sync.Mutex
	lists []keptList // the one used last is last
}

type keptList struct {
	at      uint32
	entries []repo.ListEntry
}

// list gives a decoded chunk list.
func (s *source) list(ctx context.Context, at uint32) ([]repo.ListEntry, error) {
	s.mu.Lock()
	for i, l := range s.lists {
		if l.at == at {
			s.lists = append(slices.Delete(s.lists, i, i+1), l)
			s.mu.Unlock()
			return l.entries, nil
		}
	}
	s.mu.Unlock()
	if int64(at) >= int64(len(s.refs.Lists)) {
		return nil, fmt.Errorf("list %d of a snapshot that has %d: %w", at, len(s.refs.Lists), errs.Invalid)
	}
	ref := s.refs.Lists[at]
	plain, err := s.domain.anywhere(ctx, s.opener, seal.KindList, ref.Name, nil)
	if err != nil {
		return nil, fmt.Errorf("list %d: %w", at, err)
	}
	entries, err := repo.DecodeList(plain)
	if err == nil && len(entries) != int(ref.Entries) {
		err = fmt.Errorf("%d entries, the references say %d: %w", len(entries), ref.Entries, errs.Corrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("list %d: %w", at, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = append(s.lists, keptList{at, entries})
	if len(s.lists) > keptLists {
		s.lists = slices.Delete(s.lists, 0, 1)
	}
	return entries, nil
}

// segment is some neighbouring chunks, read as one range.
type segment struct {
	list    uint32
	first   uint32
	entries []repo.ListEntry
	places  []index.Location
	bytes   []byte
	err     error
	read    chan struct{} // closed when bytes or err are set
	// ends is why no more can be found after the segments before; it has no chunks.
	ends error
}

func (g *segment) end() int64 {
	l := g.places[len(g.places)-1]
	return l.Offset + int64(l.Length)
}

func (g *segment) takes(l index.Location) bool {
	return l.Pack == g.places[0].Pack && l.Offset >= g.end() && l.Offset-g.end() <= segmentGap && l.Offset+int64(l.Length)-g.places[0].Offset <= segmentBytes
}

// Stream gives the chunks of a stream in order; see export.Source.
func (s *source) Stream(ctx context.Context, st repo.Stream) iter.Seq2[export.Chunk, error] {
	return func(yield func(export.Chunk, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		group, gctx := errgroup.WithContext(ctx)
		segments := make(chan *segment, segmentsAhead)
		group.Go(func() error {
			defer close(segments)
			s.plan(gctx, group, st.Spans, segments)
			return nil
		})
		more, err := s.deliver(gctx, segments, yield)
		if err == nil && more {
			err = ended(ctx)
		}
		cancel(errLeft)
		_ = group.Wait() // what went wrong is in the segments
		if more && err != nil {
			yield(export.Chunk{}, err)
		}
	}
}

// errLeft is the cause with which reading ends when nobody wants more.
var errLeft = fmt.Errorf("read chunks: finished: %w", errs.Canceled)

// ended gives the reason why ctx has ended, nil while it has not.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// plan finds chunks and starts reading them, neighbours together. What it cannot
// find comes as the last segment, behind all that it could.
func (s *source) plan(ctx context.Context, group *errgroup.Group, spans []repo.Span, out chan<- *segment) {
	start := func(g *segment) bool {
		select {
		case out <- g:
		case <-ctx.Done():
			return false
		}
		group.Go(func() error {
			defer close(g.read)
			if len(g.places) > 0 {
				start := g.places[0].Offset
				g.bytes, g.err = blob.ReadRange(ctx, s.domain.store, repo.PackObject(s.domain.ID(), g.places[0].Pack), start, g.end()-start)
			}
			return nil // deliver says what is wrong
		})
		return true
	}
	for _, span := range spans {
		if err := s.planSpan(ctx, span, start); err != nil {
			start(&segment{ends: err, read: make(chan struct{})})
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *source) planSpan(ctx context.Context, span repo.Span, start func(*segment) bool) error {
	entries, err := s.list(ctx, span.List)
	if err != nil {
		return err
	}
	if end := int64(span.First) + int64(span.Count); end > int64(len(entries)) {
		return fmt.Errorf("entries %d to %d of list %d, which has %d: %w", span.First, end, span.List, len(entries), errs.Invalid)
	}
	g := &segment{list: span.List, first: span.First, read: make(chan struct{})}
	for i, e := range entries[span.First:][:span.Count] {
		places, err := s.domain.set.Lookup(nil, e.Name)
		if err != nil {
			return err
		}
		// A chunk that the index does not know is a segment of its own, without a place.
		if len(g.entries) > 0 && (len(places) == 0 || len(g.places) == 0 || !g.takes(places[0])) {
			if !start(g) {
				return nil
			}
			g = &segment{list: span.List, first: span.First + uint32(i), read: make(chan struct{})}
		}
		g.entries = append(g.entries, e)
		if len(places) > 0 {
			g.places = append(g.places, places[0])
		}
	}
	start(g)
	return nil
}

// deliver opens chunks in order. more is false when the consumer left.
func (s *source) deliver(ctx context.Context, segments <-chan *segment, yield func(export.Chunk, error) bool) (more bool, err error) {
	var plain []byte
	for g := range segments {
		<-g.read // ends soon after ctx
		switch {
		case g.ends != nil:
			return true, g.ends
		case g.err != nil && (errors.Is(g.err, errs.Unavailable) || ctx.Err() != nil):
			return true, g.err
		}
		for i, e := range g.entries {
			if plain, err = s.open(ctx, g, i, plain); err == nil && len(plain) != int(e.Length) {
				err = fmt.Errorf("%d bytes, the list says %d: %w", len(plain), e.Length, errs.Corrupt)
			}
			if err != nil {
				return true, fmt.Errorf("chunk %d of list %d: %w", int(g.first)+i, g.list, err)
			}
			if !yield(export.Chunk{Kind: e.Kind, First: e.First, Last: e.Last, Plain: plain}, nil) {
				return false, nil
			}
		}
	}
	return true, nil
}

// open opens one chunk of a segment, from elsewhere if it is not right there.
func (s *source) open(ctx context.Context, g *segment, i int, buf []byte) ([]byte, error) {
	e := g.entries[i]
	failed := g.err
	if g.err == nil && i < len(g.places) {
		l := g.places[i]
		frame := g.bytes[l.Offset-g.places[0].Offset:][:l.Length]
		plain, err := s.opener.Open(buf[:0], frame, e.Kind, e.Name)
		if err == nil {
			return plain, nil
		}
		failed = fmt.Errorf("pack %s at %d: %w", l.Pack, l.Offset, err)
	}
	return s.domain.anywhere(ctx, s.opener, e.Kind, e.Name, failed)
}
