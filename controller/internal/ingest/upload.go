package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

type uploadStream = grpc.BidiStreamingServer[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse]

// Upload serves one upload stream; see chunk.proto. It ends with the first
// failure: an attempt has no use for a stream that lost a chunk.
func (s *Server) Upload(stream uploadStream) error {
	m, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if m.GetBegin() == nil {
		return fmt.Errorf("upload: first message is not begin: %w", errs.Invalid)
	}
	ref := m.GetBegin().GetAttempt()
	g, err := s.authorize(stream.Context(), ref, KindBackup)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	dom, err := s.domain(stream.Context(), g.Domain)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	err = s.watch(stream.Context(), ref, KindBackup, func(ctx context.Context) error {
		job, err := s.enterJob(g, dom)
		if err != nil {
			return err
		}
		defer s.leaveJob(job)
		window, err := s.openWindow(ctx, dom)
		if err != nil {
			return err
		}
		defer s.windows.Release(window)
		return s.upload(ctx, stream, g, job, window)
	})
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return nil
}

// openWindow reserves memory for what a stream may send before it is spooled.
func (s *Server) openWindow(ctx context.Context, d *domain) (int64, error) {
	least := max(windowLeast, int64(seal.MaxFrame(d.maxPlain)))
	if want := max(windowWanted, least); s.windows.TryAcquire(want) {
		return want, nil
	}
	if err := s.windows.Acquire(ctx, least); err != nil {
		return 0, fmt.Errorf("wait for an upload window: %w", context.Cause(ctx))
	}
	return least, nil
}

// upload is one stream. Its loop is the only goroutine that sends and that fills
// packs; packs are put by goroutines of their own.
type upload struct {
	s      *Server
	stream uploadStream
	grant  Grant
	dom    *domain
	job    *jobState
	view   view
	epoch  uint32 // of the seal key the attempt was given

	allowed int64 // bytes that the agent may still send
	spooled int64 // bytes spooled and not yet granted anew

	writer *pack.Writer // the open pack, nil when it is empty
	age    *time.Timer  // runs while there is an open pack
	frames uint64       // put on this stream
	first  uint64       // frames put before the open pack

	flights  []*flight    // packs not yet acknowledged, in order
	landed   chan *flight // holds all that can be under way: never blocks
	durable  uint64       // acknowledged
	flushing bool         // a flush was asked for and is not acknowledged
	arrived  bool         // counted among the job's streams that wait for a flush
	target   uint64       // what it must cover
}

func (s *Server) upload(ctx context.Context, stream uploadStream, g Grant, job *jobState, window int64) error {
	d := job.dom
	u := &upload{
		s: s, stream: stream, grant: g, dom: d, job: job,
		epoch:   g.SealEpoch,
		allowed: window,
		age:     time.NewTimer(pack.MaxAge),
		landed:  make(chan *flight, maxFlights),
	}
	u.age.Stop()
	if u.epoch == 0 {
		u.epoch = d.SealEpoch()
	}
	u.view = view{s: s, dom: d, job: u.job, instance: g.Instance, shared: g.Shared}
	err := u.send(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Ready{
		Ready: &tuskvaultv1.UploadReady{WindowBytes: window}}})
	if err == nil {
		err = u.run(ctx)
	}
	u.age.Stop()
	u.depart()
	if u.writer != nil {
		// Nothing of it was acknowledged. A spool file that cannot be removed now is
		// removed at the next start.
		err = errors.Join(err, u.writer.Abort())
		s.spool.Release(1)
	}
	return err
}

// received is a message or the end of the stream.
type received struct {
	m   *tuskvaultv1.UploadRequest
	err error
}

func (u *upload) run(ctx context.Context) error {
	messages := make(chan received) // unbuffered: one message is decoded ahead
	over := make(chan struct{})
	defer close(over)
	u.s.calls.Add(1)
	go func() { // ends with the stream, at the latest when the handler returns
		defer u.s.calls.Done()
		for {
			m, err := u.stream.Recv()
			select {
			case messages <- received{m, err}:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		var err error
		select {
		case r := <-messages:
			if errors.Is(r.err, io.EOF) {
				return u.finish(ctx)
			}
			if err = r.err; err == nil {
				err = u.handle(ctx, r.m)
			}
		case f := <-u.landed:
			err = u.land(f)
		case <-u.age.C:
			err = u.closePack(ctx)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (u *upload) handle(ctx context.Context, m *tuskvaultv1.UploadRequest) error {
	switch {
	case m.GetHave() != nil:
		return u.have(ctx, m.GetHave())
	case m.GetPut() != nil:
		return u.put(ctx, m.GetPut())
	case m.GetFlush() != nil:
		return u.flush(ctx)
	}
	return fmt.Errorf("message of no known kind: %w", errs.Unsupported)
}

// have answers which chunks are missing.
func (u *upload) have(ctx context.Context, h *tuskvaultv1.UploadHave) error {
	var name seal.Name
	names := h.GetNames()
	n := len(names) / len(name)
	if n == 0 || n > maxNames || len(names)%len(name) != 0 {
		return fmt.Errorf("question with %d bytes of names: %w", len(names), errs.Invalid)
	}
	missing := make([]byte, (n+7)/8)
	for i := range n {
		copy(name[:], names[i*len(name):])
		there, err := u.view.has(ctx, name)
		if err != nil {
			return fmt.Errorf("look up chunk %s: %w", name.Short(), err)
		}
		if !there {
			missing[i/8] |= 1 << (i % 8)
		}
	}
	return u.send(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Have{
		Have: &tuskvaultv1.UploadHaveResult{Sequence: h.GetSequence(), Missing: missing}}})
}

// put spools frames.
func (u *upload) put(ctx context.Context, p *tuskvaultv1.UploadPut) error {
	var hash seal.FrameHash
	frames, hashes := p.GetFrames(), p.GetFrameHashes()
	var bytes int64
	for _, f := range frames {
		bytes += int64(len(f))
	}
	switch {
	case len(frames) == 0 || len(hashes) != len(frames)*len(hash):
		return fmt.Errorf("put of %d frames with %d bytes of hashes: %w", len(frames), len(hashes), errs.Invalid)
	case bytes > maxPutBytes && len(frames) > 1:
		return fmt.Errorf("put of %d bytes at once: %w", bytes, errs.Invalid)
	case bytes > u.allowed:
		return fmt.Errorf("put of %d bytes, %d are allowed: %w", bytes, u.allowed, errs.Invalid)
	}
	u.allowed -= bytes
	for i, f := range frames {
		copy(hash[:], hashes[i*len(hash):])
		if err := u.check(f); err != nil {
			return fmt.Errorf("frame %d: %w", u.frames, err)
		}
		if err := u.spool(ctx, f, hash); err != nil {
			return fmt.Errorf("frame %d: %w", u.frames, err)
		}
	}
	return u.credit(bytes)
}

// check refuses frames that no agent of this attempt would make.
func (u *upload) check(frame []byte) error {
	h, err := seal.ParseHeader(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errs.Invalid, err)
	}
	switch {
	case h.FrameLength() != len(frame) || len(frame) > seal.MaxFrame(u.dom.maxPlain):
		return fmt.Errorf("%d bytes, its header says %d, the largest chunk is %d: %w", len(frame), h.FrameLength(), u.dom.maxPlain, errs.Invalid)
	case h.Kind < seal.KindRowsText || h.Kind > seal.KindList:
		return fmt.Errorf("chunk of kind %d: %w", h.Kind, errs.Invalid)
	case h.Kind != seal.KindList && h.Epoch != u.epoch:
		return fmt.Errorf("sealed in epoch %d, the attempt was given epoch %d: %w", h.Epoch, u.epoch, errs.Denied)
	}
	return nil
}

// spool adds a frame to the open pack, and closes it when it is full.
func (u *upload) spool(ctx context.Context, frame []byte, hash seal.FrameHash) error {
	if u.writer == nil {
		if err := u.s.spool.Acquire(ctx, 1); err != nil {
			return fmt.Errorf("wait for room in the spool: %w", context.Cause(ctx))
		}
		w, err := pack.Create(u.s.o.SpoolDir, u.meta())
		if err != nil {
			u.s.spool.Release(1)
			return err
		}
		u.writer, u.first = w, u.frames
		u.age.Reset(pack.MaxAge)
	}
	if err := u.writer.Add(frame, hash); err != nil {
		return err
	}
	u.frames++
	if u.writer.Full() {
		return u.closePack(ctx)
	}
	return nil
}

func (u *upload) meta() pack.Meta {
	return pack.Meta{
		Domain:         u.dom.id,
		Epoch:          u.s.o.Epoch,
		Job:            u.grant.Job,
		AttemptEpoch:   u.grant.Fence.Epoch,
		AttemptCounter: u.grant.Fence.Counter,
		Uploader:       u.grant.Instance,
		Created:        time.Now(),
	}
}

// credit lets the agent send as many bytes as were spooled.
func (u *upload) credit(bytes int64) error {
	u.spooled += bytes
	if u.spooled < creditStep && u.allowed >= int64(seal.MaxFrame(u.dom.maxPlain)) {
		return nil // the agent can send its largest chunk meanwhile
	}
	n := u.spooled
	u.spooled = 0
	u.allowed += n
	return u.send(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Credit{
		Credit: &tuskvaultv1.UploadCredit{Bytes: n}}})
}

func (u *upload) send(m *tuskvaultv1.UploadResponse) error { return u.stream.Send(m) }
