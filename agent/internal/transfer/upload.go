package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Uploader is the upload side of one attempt of a backup. Its methods may be
// called concurrently.
//
// A chunk's way: Put hands it to its stream's loop, which gathers names into a
// question; the stream's receiver takes the answer, and gives missing chunks to
// the sealers, which all streams share; the sealed frame comes back to the
// loop, which sends it when the controller's credit allows.
type Uploader struct {
	client tuskvaultv1.ChunkServiceClient
	job    job.Job
	plains *plainPool
	frames *classPool
	sealer *seal.Sealer
	group  *errgroup.Group
	ctx    context.Context // of the group: ends with the first failure as its cause
	toSeal chan *item      // holds as many as there are plain buffers: never blocks
	recent recent

	mu      sync.Mutex
	streams []*Stream
	closed  bool

	chunks, plainBytes, newChunks, newPlainBytes, sentBytes, durable atomic.Int64
}

// item is a chunk under way.
type item struct {
	kind   seal.Kind
	name   seal.Name
	plain  []byte // until sealed
	frame  []byte // from then on
	hash   seal.FrameHash
	stream *Stream
}

// errFinished is the cause with which goroutines that only wait are ended.
var errFinished = fmt.Errorf("upload: finished: %w", errs.Canceled)

// WithUploader runs fn with an uploader for the attempt and returns when fn has
// returned and everything the uploader started is gone. The error is the first
// failure, with the controller's words when the controller refused. Chunks that
// were put and not flushed when fn returned nil are flushed; when fn fails they
// are dropped.
func WithUploader(ctx context.Context, conn grpc.ClientConnInterface, j job.Job, o Options, fn func(ctx context.Context, u *Uploader) error) error {
	maxPlain := max(j.Grant.Cut.Max, repo.MaxListBytes)
	key, ok := j.Grant.SealKeys[j.Grant.NewestEpoch]
	if !ok || j.Grant.Cut.Max <= 0 {
		return fmt.Errorf("upload of job %s: the grant has no seal key or no chunk size: %w", j.ID, errs.Invalid)
	}
	o = o.withDefaults(maxPlain)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errFinished)
	group, ctx := errgroup.WithContext(ctx)
	plains := newPlainPool(o.Memory-o.Memory/framesShare, maxPlain)
	u := &Uploader{
		client: tuskvaultv1.NewChunkServiceClient(conn),
		job:    j,
		plains: plains,
		frames: newClassPool(o.Memory/framesShare, seal.MaxFrame(maxPlain)),
		sealer: seal.NewSealer(j.Grant.Domain, j.Grant.NewestEpoch, key, j.Grant.RefsKey),
		group:  group,
		ctx:    ctx,
		toSeal: make(chan *item, plains.count),
	}
	for range o.Workers {
		group.Go(u.seal)
	}
	err := fn(ctx, u)
	if err == nil {
		err = u.close(ctx)
	}
	err = firstFailure(ctx, err)
	if err == nil {
		// Every stream has ended well. What is left only waits for more work.
		cancel(errFinished)
	} else {
		cancel(err)
	}
	_ = group.Wait() // the first failure is in err already; what ends later ends because of it
	return err
}

// firstFailure tells what failed first: when ctx had ended before err came up,
// and err only says so, that is the cause of ctx.
func firstFailure(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err != nil && cause != nil && errs.KindOf(err) == errs.Canceled && !errors.Is(err, cause) {
		return cause
	}
	return err
}

// Buffer gives an empty buffer with the capacity of the largest chunk and waits
// while the memory budget is used up. Fill it by append, within its capacity,
// then hand it to Put, or give it back with Release. A goroutine should hold no
// more than two: buffers that are being filled are what the budget cannot get back.
func (u *Uploader) Buffer(ctx context.Context) ([]byte, error) {
	p, err := u.plains.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for a chunk buffer: %w", err)
	}
	return p, nil
}

// Release gives a buffer back that was not put.
func (u *Uploader) Release(b []byte) { u.plains.put(b) }

// Stats tells what was moved so far.
func (u *Uploader) Stats() Stats {
	return Stats{
		Chunks:        u.chunks.Load(),
		PlainBytes:    u.plainBytes.Load(),
		NewChunks:     u.newChunks.Load(),
		NewPlainBytes: u.newPlainBytes.Load(),
		SentBytes:     u.sentBytes.Load(),
		DurableChunks: u.durable.Load(),
	}
}

// seal is one sealer: it compresses and seals missing chunks until there are no more.
func (u *Uploader) seal() error {
	scratch := make([]byte, 0, u.frames.largest)
	for {
		select {
		case it := <-u.toSeal:
			frame, err := u.sealer.Seal(scratch[:0], it.kind, it.name, it.plain)
			if err != nil {
				return fmt.Errorf("seal chunk %x: %w", it.name[:8], err)
			}
			kept, err := u.frames.get(u.ctx, len(frame))
			if err != nil {
				return nil // the upload has ended
			}
			u.newChunks.Add(1)
			u.newPlainBytes.Add(int64(len(it.plain)))
			u.plains.put(it.plain)
			it.plain, it.frame = nil, append(kept, frame...)
			it.hash = seal.HashFrame(it.frame)
			it.stream.sealed <- it // holds as many as there can be frames: never blocks
		case <-u.ctx.Done():
			return nil
		}
	}
}

// close flushes and ends every stream.
func (u *Uploader) close(ctx context.Context) error {
	if err := u.flushAll(ctx); err != nil {
		return err
	}
	u.mu.Lock()
	u.closed = true
	streams := u.streams
	u.mu.Unlock()
	for _, s := range streams {
		close(s.puts)
	}
	for _, s := range streams {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// flushAll flushes all streams at once, so that the controller can put their
// last chunks into one pack.
func (u *Uploader) flushAll(ctx context.Context) error {
	u.mu.Lock()
	streams := u.streams
	u.mu.Unlock()
	done := make([]chan struct{}, len(streams))
	for i, s := range streams {
		d, err := s.askFlush(ctx)
		if err != nil {
			return err
		}
		done[i] = d
	}
	for i, s := range streams {
		if err := s.awaitFlush(ctx, done[i]); err != nil {
			return err
		}
	}
	return nil
}
