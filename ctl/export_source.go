package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/export"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// exportSource gives a snapshot's streams from a controller. Each stream that is
// open has a lane to the controller of its own; lanes are used again. A lane that
// breaks is opened anew and goes on with the chunk after the last that was
// given, for as long as patience lasts: an export of hours survives a restart.
type exportSource struct {
	client tuskvaultv1.ExportServiceClient
	what   *tuskvaultv1.ExportBegin
	now    func() time.Time

	mu   sync.Mutex
	idle []*exportLane
}

// exportLane is one stream to the controller.
type exportLane struct {
	stream   grpc.BidiStreamingClient[tuskvaultv1.ExportRequest, tuskvaultv1.ExportResponse]
	cancel   context.CancelFunc
	sequence uint64
}

// spansAtOnce is the wire's bound for a question.
const spansAtOnce = 4096

func newExportSource(client tuskvaultv1.ExportServiceClient, what *tuskvaultv1.ExportBegin, now func() time.Time) *exportSource {
	return &exportSource{client: client, what: what, now: now}
}

// open opens a lane, which lives as long as ctx. It is told why by its first answer.
func (s *exportSource) open(ctx context.Context, content bool) (*exportLane, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := s.client.Export(ctx)
	if err == nil {
		b := &tuskvaultv1.ExportBegin{Snapshot: s.what.GetSnapshot(), Databases: s.what.GetDatabases(), AllDatabases: s.what.GetAllDatabases(),
			Globals: s.what.GetGlobals(), Passwords: s.what.GetPasswords(), WantContent: content}
		err = stream.Send(&tuskvaultv1.ExportRequest{Message: &tuskvaultv1.ExportRequest_Begin{Begin: b}})
		if errors.Is(err, io.EOF) { // Recv says why
			err = nil
		}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &exportLane{stream: stream, cancel: cancel}, nil
}

// begin asks for the content. timeout bounds the wait for the first of it.
func (s *exportSource) begin(ctx context.Context, timeout time.Duration) (id string, content *repo.Content, err error) {
	waiting, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(timeout, func() { cancel(fmt.Errorf("no answer within %s (--timeout): %w", timeout, errs.Timeout)) })
	defer late.Stop()
	lane, err := s.open(waiting, true)
	if err != nil {
		return "", nil, err
	}
	var packed bytes.Buffer
	for last := false; !last; {
		m, err := lane.stream.Recv()
		if err != nil {
			lane.cancel()
			if cause := context.Cause(waiting); errors.Is(cause, errs.Timeout) {
				err = cause
			}
			return "", nil, err
		}
		late.Stop()
		c := m.GetContent()
		if c == nil || packed.Len()+len(c.GetData()) > repo.MaxSealedContent {
			lane.cancel()
			return "", nil, fmt.Errorf("export: the controller's answer is no content, or has more than %d bytes: %w", repo.MaxSealedContent, errs.Invalid)
		}
		packed.Write(c.GetData())
		id, last = c.GetSnapshotId(), c.GetLast()
	}
	// What "latest" meant must not change when a lane is opened anew.
	s.what.Snapshot = id
	s.idle = append(s.idle, lane)
	content, err = repo.DecodeContent(packed.Bytes())
	return id, content, err
}

// Stream gives the chunks of a stream in order; see export.Source.
func (s *exportSource) Stream(ctx context.Context, st repo.Stream) iter.Seq2[export.Chunk, error] {
	return func(yield func(export.Chunk, error) bool) {
		left := slices.Clone(st.Spans)
		heard := s.now()
		for len(left) > 0 {
			n, err := s.ask(ctx, left[:min(len(left), spansAtOnce)], yield)
			if n > 0 {
				heard = s.now()
			}
			left = after(left, n)
			switch {
			case err == nil:
				continue
			case errors.Is(err, errStopped):
				return
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case errors.Is(err, errs.Unavailable) && s.now().Sub(heard) < patience:
				select {
				case <-ctx.Done():
				case <-time.After(retryEvery):
				}
				continue
			}
			yield(export.Chunk{}, err)
			return
		}
	}
}

// after drops the first n entries of spans.
func after(spans []repo.Span, n uint32) []repo.Span {
	for n > 0 && n >= spans[0].Count {
		n -= spans[0].Count
		spans = spans[1:]
	}
	if n > 0 {
		spans[0].First += n
		spans[0].Count -= n
	}
	return spans
}

// errStopped says that whoever asked for chunks wants no more.
var errStopped = errors.New("stopped")

// ask asks one question and gives the answer's chunks; n counts those that were
// given whole.
func (s *exportSource) ask(ctx context.Context, spans []repo.Span, yield func(export.Chunk, error) bool) (n uint32, err error) {
	lane, err := s.lane(ctx)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, lane.cancel)
	defer stop()
	lane.sequence++
	q := &tuskvaultv1.ExportRead{Sequence: lane.sequence}
	want := uint32(0)
	for _, p := range spans {
		q.Spans = append(q.Spans, &tuskvaultv1.ExportSpan{List: p.List, First: p.First, Count: p.Count})
		want += p.Count
	}
	_ = lane.stream.Send(&tuskvaultv1.ExportRequest{Message: &tuskvaultv1.ExportRequest_Read{Read: q}}) // when it fails, Recv says why
	var joined []byte                                                                                   // pieces of a chunk so far
	for last := false; !last; {
		m, err := lane.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("export: the controller ended the stream: %w", errs.Unavailable)
		}
		c := m.GetChunks()
		if err == nil && (c == nil || c.GetSequence() != lane.sequence) {
			err = fmt.Errorf("export: the controller answers question %d instead of %d: %w", c.GetSequence(), lane.sequence, errs.Invalid)
		}
		if err == nil {
			n, joined, err = give(c, n, joined, yield)
		}
		if err != nil {
			lane.cancel()
			return n, err
		}
		last = c.GetLast()
	}
	if n != want || joined != nil {
		lane.cancel()
		return n, fmt.Errorf("export: the controller gave %d chunks of %d: %w", n, want, errs.Invalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, lane)
	return n, nil
}

// give gives the chunks of one message, joining those that came in pieces.
func give(c *tuskvaultv1.ExportChunks, n uint32, joined []byte, yield func(export.Chunk, error) bool) (uint32, []byte, error) {
	for _, p := range c.GetChunks() {
		plain := p.GetData()
		if joined != nil || p.GetMore() {
			if len(joined)+len(plain) > seal.LargestPlain {
				return n, joined, fmt.Errorf("export: a chunk of more than %d bytes: %w", seal.LargestPlain, errs.Invalid)
			}
			joined = append(joined, plain...)
			plain = joined
		}
		if p.GetMore() {
			continue
		}
		joined = nil
		n++
		if !yield(export.Chunk{Kind: seal.Kind(p.GetKind()), First: p.GetFirst(), Last: p.GetLast(), Plain: plain}, nil) {
			return n, nil, errStopped
		}
	}
	return n, joined, nil
}

// lane gives an idle lane or opens one.
func (s *exportSource) lane(ctx context.Context) (*exportLane, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		l := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return l, nil
	}
	s.mu.Unlock()
	// It outlives this stream: others use it after it. The connection's end ends it.
	return s.open(context.WithoutCancel(ctx), false)
}
