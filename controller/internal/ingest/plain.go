package ingest

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// SnapshotRef names a snapshot.
type SnapshotRef struct {
	ID       repo.JobID
	Instance repo.InstanceID
	Domain   seal.DomainID
}

// PlainReader reads the chunks of one snapshot in plain. Its keys stay in it. One
// goroutine at a time may use it.
type PlainReader struct {
	s      *Server
	grant  Grant
	dom    *domain
	refs   *repo.References
	opener *seal.Opener
}

// OpenPlain opens a snapshot for reading in plain. Whoever calls it has decided
// that the one who asks may.
func (s *Server) OpenPlain(ctx context.Context, ref SnapshotRef) (*PlainReader, error) {
	dom, err := s.domain(ctx, ref.Domain)
	if err != nil {
		return nil, err
	}
	// Shared asks for no more than care: of several copies the instance's own is
	// tried first.
	r := &PlainReader{s: s, dom: dom, grant: Grant{Domain: ref.Domain, Shared: true, Snapshot: ref.ID, SnapshotInstance: ref.Instance}}
	from, err := s.snapshotStore(ctx, r.grant)
	if err != nil {
		return nil, err
	}
	header, err := s.snapshotHeader(ctx, from, r.grant)
	if err != nil {
		return nil, err
	}
	if r.refs, err = s.references(ctx, from, r.grant, dom, header); err != nil {
		return nil, err
	}
	keys, err := dom.ReadGrant(repo.EpochsUpTo(header.SealEpoch))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", ref.ID, err)
	}
	r.opener = seal.NewOpener(dom.id, keys.Name, keys.Refs, keys.Seal, dom.maxPlain)
	return r, nil
}

// Read gives the chunks of spans in order, verified; plain is valid until fn
// returns. It reads ahead of fn as a download does, within the same bound over
// all streams. Damage is errs.Corrupt and names chunk and pack.
func (r *PlainReader) Read(ctx context.Context, spans []repo.Span, fn func(e repo.ListEntry, plain []byte) error) error {
	leave, err := r.s.enter()
	if err != nil {
		return err
	}
	defer leave()
	d := &download{
		s: r.s, grant: r.grant, dom: r.dom, refs: r.refs,
		view:     view{s: r.s, dom: r.dom, instance: r.grant.SnapshotInstance, shared: r.grant.Shared, copied: new(fromCopies)},
		credit:   newCredit(maxCredit), // whoever reads holds the stream back by not returning from fn
		requests: make(chan *tuskvaultv1.DownloadRange, requestsAhead),
		segments: make(chan *segment, segmentsAhead),
		limit:    segmentBytes,
		released: make(chan struct{}, 1),
	}
	group, ctx := errgroup.WithContext(ctx)
	reading, done := context.WithCancel(ctx)
	group.Go(func() error { return d.plan(reading) })
	group.Go(func() error { return d.ask(reading, spans) })
	group.Go(func() error {
		defer done()
		return r.open(reading, d, fn)
	})
	group.Go(func() error {
		select {
		case <-r.s.stopping:
			return errStopping
		case <-reading.Done():
			return nil
		}
	})
	err = group.Wait()
	d.drain()
	return err
}

// ask puts spans where plan looks for what an agent asks.
func (d *download) ask(ctx context.Context, spans []repo.Span) error {
	defer close(d.requests)
	for i, s := range spans {
		select {
		case d.requests <- &tuskvaultv1.DownloadRange{Sequence: uint64(i + 1), List: s.List, First: s.First, Count: s.Count}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// open opens the chunks of segments as they are read.
func (r *PlainReader) open(ctx context.Context, d *download, fn func(repo.ListEntry, []byte) error) error {
	v := d.ownView() // plan uses the other
	var plain []byte
	return d.eachSegment(ctx, func(g *segment) (err error) {
		plain, err = r.openSegment(ctx, v, g, plain, fn)
		return err
	})
}

func (r *PlainReader) openSegment(ctx context.Context, v *view, g *segment, plain []byte, fn func(repo.ListEntry, []byte) error) ([]byte, error) {
	entries, err := v.list(ctx, r.refs.Lists[g.list]) // plan has just decoded it
	if err != nil {
		return plain, fmt.Errorf("list %d: %w", g.list, damaged(err))
	}
	for i, frame := range g.frames {
		e := entries[int(g.first)+i]
		if plain, err = r.opener.Open(plain[:0], frame, e.Kind, e.Name); err == nil && len(plain) != int(e.Length) {
			err = fmt.Errorf("%d bytes, the list says %d: %w", len(plain), e.Length, errs.Corrupt)
		}
		if err != nil {
			return plain, fmt.Errorf("%s, in pack %s: %w", g.position(i), g.places[i].Pack, err)
		}
		if err := fn(e, plain); err != nil {
			return plain, err
		}
	}
	return plain, nil
}
