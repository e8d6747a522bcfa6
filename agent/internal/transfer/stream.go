package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

const (
	// questionNames is how many names make a question at once. Small, since the
	// chunks of a question wait in memory: two questions of eight workers fit the
	// standard budget together with what the workers fill.
	questionNames = 16
	// questionIdle is how long a name waits for others.
	questionIdle = 5 * time.Millisecond
	// putBytes is the aim for one message of frames: below the largest pooled
	// buffer of grpc (1 MiB), so that sending allocates nothing large.
	putBytes = 768 << 10
)

// Stream is one upload stream.
type Stream struct {
	u   *Uploader
	rpc grpc.BidiStreamingClient[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse]

	puts    chan *item         // from Put; closed by the uploader's end
	sealed  chan *item         // from the sealers; holds as many as there can be frames
	flushes chan chan struct{} // asks for a flush; the channel inside is closed when it is done
	wake    chan struct{}      // the receiver changed what the loop waits for
	ended   chan struct{}      // closed when the controller has ended the stream well

	mu        sync.Mutex
	questions []question // unanswered, oldest first
	settled   int64      // chunks put that were found present
	credit    int64      // bytes that may be sent
	durable   uint64     // frames acknowledged
	flushed   bool       // the newest flush is acknowledged
}

// question is a have that was sent.
type question struct {
	sequence uint64
	items    []*item
}

// Stream opens an upload stream. Each worker has one of its own: a Stream is for
// one goroutine at a time. It lives until the uploader ends.
func (u *Uploader) Stream(ctx context.Context) (*Stream, error) {
	u.mu.Lock()
	n, closed := len(u.streams), u.closed
	u.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("open upload stream: the upload has ended: %w", errs.Conflict)
	}
	// Each stream may have two buffers out that are being filled; with fewer
	// of them than that, streams could wait for each other for ever.
	if 2*(n+1) > u.plains.count {
		return nil, fmt.Errorf("open upload stream: %d streams do not fit a memory of %d bytes: %w", n+1, u.plains.count*u.plains.size, errs.Invalid)
	}
	rpc, err := u.client.Upload(u.ctx)
	if err != nil {
		return nil, fmt.Errorf("open upload stream: %w", err)
	}
	begin := &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Begin{Begin: &tuskvaultv1.UploadBegin{Attempt: attemptRef(u.job)}}}
	if err := rpc.Send(begin); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("open upload stream: %w", err)
	}
	s := &Stream{
		u:       u,
		rpc:     rpc,
		puts:    make(chan *item, questionNames),
		sealed:  make(chan *item, u.frames.most()),
		flushes: make(chan chan struct{}),
		wake:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
	}
	ready := make(chan struct{})
	u.group.Go(func() error { return s.receive(ready) })
	select {
	case <-ready:
	case <-u.ctx.Done():
		return nil, fmt.Errorf("open upload stream: %w", context.Cause(u.ctx))
	case <-ctx.Done():
		return nil, fmt.Errorf("open upload stream: %w", context.Cause(ctx))
	}
	u.group.Go(s.run)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams = append(u.streams, s)
	return s, nil
}

func attemptRef(j job.Job) *tuskvaultv1.AttemptRef {
	return &tuskvaultv1.AttemptRef{JobId: j.ID.String(), Epoch: j.Fence.Epoch, Counter: j.Fence.Counter}
}

// Put takes ownership of plain, which must come from Buffer, whatever it
// returns, and passes it on: it returns before the chunk is asked for, sealed or
// sent. A failure of an earlier chunk may be reported by a later call.
func (s *Stream) Put(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	u := s.u
	if len(plain) == 0 || cap(plain) != u.plains.size {
		// Taking a foreign buffer back would break the budget.
		return fmt.Errorf("put chunk %x: %d bytes in a buffer of %d: %w", name[:8], len(plain), cap(plain), errs.Invalid)
	}
	u.chunks.Add(1)
	u.plainBytes.Add(int64(len(plain)))
	if !u.recent.add(name) {
		u.plains.put(plain)
		return nil
	}
	select {
	case s.puts <- &item{kind: kind, name: name, plain: plain, stream: s}:
		return nil
	case <-u.ctx.Done():
		u.plains.put(plain)
		return context.Cause(u.ctx)
	case <-ctx.Done():
		u.plains.put(plain)
		return context.Cause(ctx)
	}
}

// PutCopy is Put for bytes that the caller keeps: a chunk list, an archive.
func (s *Stream) PutCopy(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	if len(plain) > s.u.plains.size {
		return fmt.Errorf("put chunk %x: %d bytes, more than %d: %w", name[:8], len(plain), s.u.plains.size, errs.Invalid)
	}
	b, err := s.u.Buffer(ctx)
	if err != nil {
		return err
	}
	return s.Put(ctx, kind, name, append(b, plain...))
}

// Flush waits until everything put on this stream before is durable and
// findable. A chunk that the job had put before is its first stream's matter.
func (s *Stream) Flush(ctx context.Context) error {
	done, err := s.askFlush(ctx)
	if err != nil {
		return err
	}
	return s.awaitFlush(ctx, done)
}

func (s *Stream) askFlush(ctx context.Context) (chan struct{}, error) {
	done := make(chan struct{})
	select {
	case s.flushes <- done:
		return done, nil
	case <-s.u.ctx.Done():
		return nil, context.Cause(s.u.ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Stream) awaitFlush(ctx context.Context, done chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-s.u.ctx.Done():
		return context.Cause(s.u.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
