package transfer

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

const (
	// rangeEntries is the largest number of chunks asked for at once.
	rangeEntries = 256
	// rangesAhead is how many ranges are prepared before there is room to ask for them.
	rangesAhead = 4
)

// lane is a stream to the controller with its share of the memory. One iterator
// uses it at a time.
type lane struct {
	d        *Downloader
	rpc      grpc.BidiStreamingClient[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse]
	cancel   context.CancelCauseFunc
	budget   *classPool    // of opened chunks
	sequence uint64        // of the newest range
	broken   bool          // nothing can be sent any more
	credit   atomic.Int64  // bytes opened and not yet granted anew
	opened   chan struct{} // tells the sender that there is credit
}

// slot is the place of one chunk in the order of delivery.
type slot struct {
	list, position uint32
	entry          repo.ListEntry
	frame          []byte
	plain          []byte
	err            error
	opened         chan struct{} // closed when plain or err is set
	lane           *lane
}

// open opens the chunk and lets the controller send as many bytes again.
func (s *slot) open(o *seal.Opener) {
	defer close(s.opened)
	n := int64(len(s.frame))
	plain, err := o.Open(s.plain[:0], s.frame, s.entry.Kind, s.entry.Name)
	s.frame = nil
	switch {
	case err != nil:
		s.err = fmt.Errorf("chunk %d of list %d: %w", s.position, s.list, err)
	case len(plain) != int(s.entry.Length):
		s.err = fmt.Errorf("chunk %d of list %d: %d bytes, the list says %d: %w", s.position, s.list, len(plain), s.entry.Length, errs.Corrupt)
	default:
		s.plain = plain
	}
	s.lane.credit.Add(n)
	select {
	case s.lane.opened <- struct{}{}:
	default: // the sender knows already
	}
}

// lane gives an idle lane or a new one.
func (d *Downloader) lane() (*lane, error) {
	d.mu.Lock()
	if n := len(d.idle); n > 0 {
		l := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		return l, nil
	}
	d.mu.Unlock()
	ctx, cancel := context.WithCancelCause(d.ctx)
	rpc, err := d.begin(ctx, false)
	if err != nil {
		cancel(err)
		return nil, err
	}
	maxPlain := max(d.job.Grant.Cut.Max, repo.MaxListBytes)
	return &lane{d: d, rpc: rpc, cancel: cancel, opened: make(chan struct{}, 1), budget: newClassPool(d.share()-d.window(), maxPlain)}, nil
}

// Stream gives the chunks of spans in order, reading ahead within its share of
// the memory. It ends after the first error. Several may be open at once, up to
// Options.Streams; one more waits for one to end. Leaving the loop early is fine.
func (d *Downloader) Stream(ctx context.Context, spans []repo.Span) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if err := d.open.Acquire(ctx, 1); err != nil {
			yield(Chunk{}, fmt.Errorf("wait for a download stream: %w", context.Cause(ctx)))
			return
		}
		defer d.open.Release(1)
		l, err := d.lane()
		if err != nil {
			yield(Chunk{}, fmt.Errorf("open download stream: %w", err))
			return
		}
		more, err := l.run(ctx, spans, yield)
		if more && err == nil && l.broken {
			l.cancel(errLeft)
			return
		}
		if more && err == nil {
			d.mu.Lock()
			d.idle = append(d.idle, l)
			d.mu.Unlock()
			return
		}
		if more {
			yield(Chunk{}, err)
		}
	}
}

// errLeft is the cause with which a run ends whose consumer left.
var errLeft = fmt.Errorf("download: the consumer left: %w", errs.Canceled)

// run delivers the chunks of spans. more is false when the consumer left; then,
// and after an error, the lane is closed.
func (l *lane) run(ctx context.Context, spans []repo.Span, yield func(Chunk, error) bool) (more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	group, ctx := errgroup.WithContext(ctx)
	r := &run{
		lane:     l,
		ctx:      ctx,
		ranges:   make(chan span, rangesAhead),
		asked:    make(chan span, rangesAhead),
		received: make(chan struct{}),
		slots:    make(chan *slot, l.budget.most()), // each slot is charged to the budget: never blocks
	}
	group.Go(func() error { return r.plan(spans) })
	group.Go(r.send)
	group.Go(r.receive)
	more, err = r.deliver(yield)
	if !more || err != nil {
		l.cancel(errLeft) // what receive waits for
		cancel(errLeft)
	}
	failed := group.Wait()
	cancel(errLeft)
	if err == nil && more {
		err = failed
	}
	return more, err
}

// run is one delivery over a lane.
type run struct {
	*lane
	ctx      context.Context
	ranges   chan span     // planned; closed after the last
	asked    chan span     // sent to the controller; closed after the last
	received chan struct{} // closed when every frame has arrived
	slots    chan *slot    // in order; closed after the last
}

// span is a range of chunks with what the list says of them.
type span struct {
	sequence uint64
	list     uint32
	first    uint32
	entries  []repo.ListEntry
}

// deliver hands the chunks out in order.
func (r *run) deliver(yield func(Chunk, error) bool) (more bool, err error) {
	for {
		var s *slot
		var ok bool
		select {
		case s, ok = <-r.slots:
		case <-r.ctx.Done():
			return true, context.Cause(r.ctx)
		}
		if !ok {
			return true, nil
		}
		select {
		case <-s.opened:
		case <-r.ctx.Done():
			return true, context.Cause(r.ctx)
		}
		if s.err != nil {
			return true, s.err
		}
		if !yield(Chunk{Entry: s.entry, Plain: s.plain}, nil) {
			return false, nil
		}
		r.budget.put(s.plain)
	}
}

// plan looks the spans up and cuts them into ranges.
func (r *run) plan(spans []repo.Span) error {
	defer close(r.ranges)
	for _, sp := range spans {
		entries, err := r.d.entries(r.ctx, sp.List)
		if err != nil {
			return err
		}
		if uint64(sp.First)+uint64(sp.Count) > uint64(len(entries)) {
			return fmt.Errorf("entries %d to %d of list %d, which has %d: %w", sp.First, uint64(sp.First)+uint64(sp.Count), sp.List, len(entries), errs.Corrupt)
		}
		wanted := entries[sp.First:][:sp.Count]
		for first := sp.First; len(wanted) > 0; {
			n := min(len(wanted), rangeEntries)
			select {
			case r.ranges <- span{list: sp.List, first: first, entries: wanted[:n]}:
			case <-r.ctx.Done():
				return context.Cause(r.ctx)
			}
			wanted, first = wanted[n:], first+uint32(n)
		}
	}
	return nil
}

// send asks for ranges and grants credit until every frame has arrived. Credit
// that is left over then is granted by the lane's next run.
func (r *run) send() error {
	ranges := r.ranges
	var out chan span // set while a range that was asked for waits to be taken
	var asked span
	for {
		take := ranges
		if out != nil {
			take = nil
		}
		select {
		case sp, ok := <-take:
			if !ok {
				close(r.asked)
				ranges = nil
				break
			}
			r.sequence++
			sp.sequence = r.sequence
			r.tell(rangeRequest(sp.sequence, sp.list, sp.first, uint32(len(sp.entries))))
			asked, out = sp, r.asked
		case out <- asked:
			out = nil
		case <-r.opened:
			if n := r.credit.Swap(0); n > 0 {
				r.tell(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Credit{
					Credit: &tuskvaultv1.DownloadCredit{Bytes: n}}})
			}
		case <-r.received:
			return nil
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

// tell sends a message. When the controller has ended the stream, receive finds
// out why as soon as it expects a frame; if it expects none any more, all is
// well but for the lane, which is not used again.
func (r *run) tell(m *tuskvaultv1.DownloadRequest) {
	if !r.broken {
		r.broken = r.rpc.Send(m) != nil
	}
}

func rangeRequest(sequence uint64, list, first, count uint32) *tuskvaultv1.DownloadRequest {
	return &tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Range{
		Range: &tuskvaultv1.DownloadRange{Sequence: sequence, List: list, First: first, Count: count}}}
}

// receive takes the frames of the ranges that were asked for, in order, and has
// them opened as the budget allows.
func (r *run) receive() error {
	for {
		select {
		case sp, ok := <-r.asked:
			if !ok {
				close(r.slots)
				close(r.received)
				return nil
			}
			if err := r.receiveRange(sp); err != nil {
				return err
			}
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

func (r *run) receiveRange(sp span) error {
	var frames [][]byte // of the newest message, not yet taken
	for i, e := range sp.entries {
		for len(frames) == 0 {
			m, err := r.rpc.Recv()
			if err != nil {
				return fmt.Errorf("download: %w", ended(err))
			}
			if m.GetFrames().GetSequence() != sp.sequence {
				return fmt.Errorf("download: frames of question %d, expected those of %d: %w", m.GetFrames().GetSequence(), sp.sequence, errs.Invalid)
			}
			frames = m.GetFrames().GetFrames()
		}
		frame := frames[0]
		frames = frames[1:]
		r.d.fetched.Add(int64(len(frame)))
		if int(e.Length) > r.budget.largest {
			return fmt.Errorf("chunk %d of list %d: %d bytes, the largest chunk is %d: %w", int(sp.first)+i, sp.list, e.Length, r.budget.largest, errs.Corrupt)
		}
		plain, err := r.budget.get(r.ctx, int(e.Length))
		if err != nil {
			return err
		}
		s := &slot{list: sp.list, position: sp.first + uint32(i), entry: e, frame: frame, plain: plain, opened: make(chan struct{}), lane: r.lane}
		select {
		case r.d.toOpen <- s:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
		r.slots <- s
	}
	if len(frames) != 0 {
		return fmt.Errorf("download: %d frames too many for question %d: %w", len(frames), sp.sequence, errs.Invalid)
	}
	return nil
}
