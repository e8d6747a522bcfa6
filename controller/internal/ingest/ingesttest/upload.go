package ingesttest

import (
	"context"
	"io"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// stream is a call without a wire.
type stream[Req, Res any] struct {
	grpc.ServerStream
	ctx context.Context
	in  chan *Req
	out chan *Res
}

func newStream[Req, Res any](ctx context.Context) *stream[Req, Res] {
	return &stream[Req, Res]{ctx: ctx, in: make(chan *Req, 64), out: make(chan *Res, 1024)}
}

func (s *stream[Req, Res]) Context() context.Context { return s.ctx }

func (s *stream[Req, Res]) Recv() (*Req, error) {
	select {
	case m, ok := <-s.in:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *stream[Req, Res]) Send(m *Res) error {
	select {
	case s.out <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *stream[Req, Res]) SendAndClose(*Res) error { return nil }

// Upload is an agent's side of a backup, without a wire: it asks for each chunk
// and sends those that are missing. It is a repotest.Sink. One goroutine at a
// time may use it, and must close it.
type Upload struct {
	// Sent counts the chunks that were missing.
	Sent int

	server     *ingest.Server
	ref        *tuskvaultv1.AttemptRef
	ctx        context.Context // with the agent as the peer
	cancel     context.CancelFunc
	stream     *stream[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse]
	ended      chan error
	asked      uint64
	packFrames int
	epoch      uint32
}

// NewUpload begins the upload of an attempt, that closes a pack after packFrames chunks.
func NewUpload(ctx context.Context, s *ingest.Server, agent repo.AgentID, job repo.JobID, f repo.Fence, sealEpoch uint32, packFrames int) (*Upload, error) {
	u := &Upload{server: s, ref: &tuskvaultv1.AttemptRef{JobId: job.String(), Epoch: f.Epoch, Counter: f.Counter}, ended: make(chan error, 1), packFrames: packFrames, epoch: sealEpoch}
	u.ctx, u.cancel = context.WithCancel(rpc.WithPeer(ctx, pki.Peer{Kind: pki.Agent, Agent: agent}))
	u.stream = newStream[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse](u.ctx)
	go func() { u.ended <- s.Upload(u.stream) }() // Close waits for it
	u.stream.in <- &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Begin{Begin: &tuskvaultv1.UploadBegin{Attempt: u.ref}}}
	_, err := u.next()
	return u, err
}

// next gives the next answer that is no credit.
func (u *Upload) next() (*tuskvaultv1.UploadResponse, error) {
	for {
		select {
		case m := <-u.stream.out:
			if m.GetCredit() == nil {
				return m, nil
			}
		case err := <-u.ended:
			u.ended <- err
			if err == nil {
				err = io.EOF
			}
			return nil, err
		}
	}
}

// Put asks for a chunk and sends it if it is missing.
func (u *Upload) Put(name seal.Name, frame []byte) error {
	u.asked++
	u.stream.in <- &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Have{Have: &tuskvaultv1.UploadHave{Sequence: u.asked, Names: name[:]}}}
	for {
		m, err := u.next()
		if err != nil {
			return err
		}
		if m.GetHave() == nil {
			continue
		}
		if m.GetHave().GetMissing()[0]&1 == 0 {
			return nil
		}
		u.Sent++
		hash := seal.HashFrame(frame)
		u.stream.in <- &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Put{Put: &tuskvaultv1.UploadPut{Frames: [][]byte{frame}, FrameHashes: hash[:]}}}
		if u.Sent%u.packFrames == 0 {
			return u.Flush()
		}
		return nil
	}
}

// Flush waits until what was sent is durable.
func (u *Upload) Flush() error {
	u.stream.in <- &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Flush{Flush: &tuskvaultv1.UploadFlush{}}}
	for {
		m, err := u.next()
		if err != nil || m.GetAck().GetFlushed() {
			return err
		}
	}
}

// Commit sends the sealed parts of the snapshot.
func (u *Upload) Commit(references, content []byte) error {
	ctx, cancel := context.WithCancel(u.ctx)
	defer cancel()
	s := newStream[tuskvaultv1.CommitRequest, tuskvaultv1.CommitResponse](ctx)
	s.in <- &tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Begin{Begin: &tuskvaultv1.CommitBegin{Attempt: u.ref, ReferencesBytes: int64(len(references)),
		ContentBytes: int64(len(content)), Kind: string(repo.KindLogical), SealEpoch: u.epoch, Complete: true}}}
	s.in <- &tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_References{References: references}}
	s.in <- &tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Content{Content: content}}
	close(s.in)
	return u.server.Commit(s)
}

// Close ends the upload and gives how it ended.
func (u *Upload) Close() error {
	close(u.stream.in)
	for {
		select {
		case <-u.stream.out:
		case err := <-u.ended:
			u.cancel()
			return err
		}
	}
}
