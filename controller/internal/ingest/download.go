package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

type downloadStream = grpc.BidiStreamingServer[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse]

// Download serves one download stream: positions of the granted snapshot in,
// frames out, in order. Nothing that the agent sends names a snapshot, a pack or
// a chunk: positions are looked up in what the snapshot itself refers to.
func (s *Server) Download(stream downloadStream) error {
	m, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	begin := m.GetBegin()
	if begin == nil {
		return fmt.Errorf("download: first message is not begin: %w", errs.Invalid)
	}
	g, err := s.authorize(stream.Context(), begin.GetAttempt(), KindRestore)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	dom, err := s.domain(stream.Context(), g.Domain)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if least := int64(seal.MaxFrame(dom.maxPlain)); begin.GetWindowBytes() < least {
		return fmt.Errorf("download: a window of %d bytes does not take the largest chunk: %w", begin.GetWindowBytes(), errs.Invalid)
	}
	d := &download{
		s: s, stream: stream, grant: g, dom: dom,
		view:     view{s: s, dom: dom, instance: g.SnapshotInstance, shared: g.Shared, copied: new(fromCopies)},
		credit:   newCredit(begin.GetWindowBytes()),
		requests: make(chan *tuskvaultv1.DownloadRange, requestsAhead),
		segments: make(chan *segment, segmentsAhead),
		limit:    min(segmentBytes, begin.GetWindowBytes()),
		released: make(chan struct{}, 1),
	}
	if err := s.watch(stream.Context(), begin.GetAttempt(), KindRestore, func(ctx context.Context) error {
		leave, err := s.enterDownload(g.Job)
		if err != nil {
			return err
		}
		defer leave()
		return d.run(ctx, begin.GetWantSnapshot())
	}); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	return nil
}

// enterDownload counts a download stream of an attempt in.
func (s *Server) enterDownload(job repo.JobID) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.downloads[job] >= jobStreams {
		return nil, fmt.Errorf("job %s has %d streams already: %w", job, s.downloads[job], errs.Exhausted)
	}
	s.downloads[job]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.downloads[job]--; s.downloads[job] == 0 {
			delete(s.downloads, job)
		}
	}, nil
}

const (
	// requestsAhead is how many ranges wait to be looked at; the agent's next one
	// stays in the connection.
	requestsAhead = 16
	// segmentsAhead is how many reads of the store a stream has under way: at 50 ms
	// each and segmentBytes that is 80 MB/s a stream.
	segmentsAhead = 4
	// segmentBytes is the aim for one read of the store and one message.
	segmentBytes = 1 << 20
	// segmentGap is how many bytes between two frames are read and thrown away
	// rather than paid for with another request.
	segmentGap = 64 << 10
	// readAheadTotal bounds the segments in memory over all streams; a stream may
	// always have one beside it, so that none waits for another's agent.
	readAheadTotal = 40 << 20
	// pieceBytes is the size of the pieces of a snapshot object.
	pieceBytes = 512 << 10
)

// download is one stream.
type download struct {
	s        *Server
	stream   downloadStream
	grant    Grant
	dom      *domain
	view     view
	refs     *repo.References
	credit   *credit
	requests chan *tuskvaultv1.DownloadRange
	segments chan *segment // in order, each being read
	limit    int64         // bytes of one segment
	holding  atomic.Int64  // segments in memory
	released chan struct{} // tells plan that there is one less
	// packs are the sizes of those that were asked about, 0 for missing; plan's alone.
	packs map[pack.ID]int64
}

func (d *download) run(ctx context.Context, wantSnapshot bool) error {
	defer d.tell(ctx)
	from, err := d.s.snapshotStore(ctx, d.grant)
	if err != nil {
		return err
	}
	header, err := d.s.snapshotHeader(ctx, from, d.grant)
	if err != nil {
		return err
	}
	if wantSnapshot {
		if err := d.sendSnapshot(ctx, from, header.Size()); err != nil {
			return err
		}
	}
	if d.refs, err = d.s.references(ctx, from, d.grant, d.dom, header); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// receive ends with the stream: when the others fail, the handler returns
	// before it does.
	received := make(chan error, 1)
	d.s.calls.Add(1)
	go func() {
		defer d.s.calls.Done()
		received <- d.receive(ctx)
	}()
	group.Go(func() error { return d.plan(ctx) })
	group.Go(func() error { return d.send(ctx) })
	group.Go(func() error {
		select {
		case err := <-received:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	err = group.Wait()
	d.drain()
	return err
}

// drain gives the memory of what was read ahead and never sent back. plan has
// closed the channel, and every read ends soon after its context.
func (d *download) drain() {
	for g := range d.segments {
		<-g.read
		d.release(g)
	}
}

// receive takes ranges and credit until the agent has no more.
func (d *download) receive(ctx context.Context) error {
	defer close(d.requests)
	for sequence := uint64(1); ; {
		m, err := d.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case m.GetRange() != nil:
			if m.GetRange().GetSequence() != sequence {
				return fmt.Errorf("question %d, expected %d: %w", m.GetRange().GetSequence(), sequence, errs.Invalid)
			}
			sequence++
			select {
			case d.requests <- m.GetRange():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case m.GetCredit() != nil:
			if err := d.credit.add(m.GetCredit().GetBytes()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("message of no known kind: %w", errs.Unsupported)
		}
	}
}

// snapshotHeader reads the header of the granted snapshot, and sees that it is it.
func (s *Server) snapshotHeader(ctx context.Context, from blob.Store, g Grant) (repo.SnapshotHeader, error) {
	key := repo.SnapshotObject(g.SnapshotInstance, g.Snapshot)
	b, err := blob.ReadRange(ctx, from, key, 0, repo.SnapshotHeaderSize)
	if err != nil {
		return repo.SnapshotHeader{}, fmt.Errorf("snapshot %s: %w", g.Snapshot, err)
	}
	h, err := repo.DecodeSnapshotHeader(b)
	if err != nil {
		return h, fmt.Errorf("snapshot %s: %w", g.Snapshot, err)
	}
	switch {
	case h.State != repo.SnapshotCommitted:
		return h, fmt.Errorf("snapshot %s: it was given up: %w", g.Snapshot, errs.NotFound)
	case h.Job != g.Snapshot || h.Instance != g.SnapshotInstance || h.Domain != g.Domain:
		return h, fmt.Errorf("object %s: is snapshot %s of domain %s: %w", key, h.Job, h.Domain, errs.Corrupt)
	}
	return h, nil
}

// references opens the references part of the granted snapshot. Its seal binds it
// to the snapshot and the domain.
func (s *Server) references(ctx context.Context, from blob.Store, g Grant, d *domain, h repo.SnapshotHeader) (*repo.References, error) {
	if v, ok := s.cache.find(refsKey{g.Snapshot}); ok {
		return v.(*repo.References), nil
	}
	sealed, err := blob.ReadRange(ctx, from, repo.SnapshotObject(g.SnapshotInstance, g.Snapshot), repo.SnapshotHeaderSize, h.ReferencesBytes)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", g.Snapshot, err)
	}
	refs, err := repo.OpenReferences(sealed, d.keys.Refs(), d.id, g.Snapshot)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", g.Snapshot, err)
	}
	s.cache.keep(refsKey{g.Snapshot}, refs, int64(len(refs.Lists))*costListRef)
	return refs, nil
}

// sendSnapshot sends the snapshot object.
func (d *download) sendSnapshot(ctx context.Context, from blob.Store, size int64) (err error) {
	r, err := from.Open(ctx, repo.SnapshotObject(d.grant.SnapshotInstance, d.grant.Snapshot), 0, size)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", d.grant.Snapshot, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf := make([]byte, pieceBytes)
	for left := size; left > 0; {
		piece := buf[:min(left, pieceBytes)]
		if _, err := io.ReadFull(r, piece); err != nil {
			return fmt.Errorf("snapshot %s: read %d bytes before its end: %w: %w", d.grant.Snapshot, left, errs.Corrupt, err)
		}
		left -= int64(len(piece))
		// Send has encoded the message when it returns: the buffer may be reused.
		if err := d.stream.Send(&tuskvaultv1.DownloadResponse{Message: &tuskvaultv1.DownloadResponse_Snapshot{
			Snapshot: &tuskvaultv1.SnapshotPiece{Data: piece, Last: left == 0}}}); err != nil {
			return err
		}
	}
	return nil
}

// credit counts the bytes that the agent lets us send.
type credit struct {
	mu    sync.Mutex
	bytes int64
	more  chan struct{}
}

// maxCredit bounds what an agent may grant; it only has to keep the sum from
// overflowing, since memory is bounded by what is read ahead.
const maxCredit = 1 << 40

func newCredit(bytes int64) *credit {
	return &credit{bytes: min(bytes, maxCredit), more: make(chan struct{}, 1)}
}

func (c *credit) add(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n <= 0 || n > maxCredit-c.bytes {
		return fmt.Errorf("credit of %d bytes: %w", n, errs.Invalid)
	}
	c.bytes += n
	select {
	case c.more <- struct{}{}:
	default: // told already
	}
	return nil
}

// take waits for n bytes. One goroutine at a time may call it.
func (c *credit) take(ctx context.Context, n int64) error {
	for {
		c.mu.Lock()
		if c.bytes >= n {
			c.bytes -= n
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
