package transfertest

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// uploadStream is one stream. Frames become durable at a flush, not before.
type uploadStream struct {
	c      *Controller
	rpc    grpc.BidiStreamingServer[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse]
	send   sync.Mutex
	credit int64
	put    uint64
	open   map[seal.Name][]byte
	late   chan lateAnswer // in order
}

// lateAnswer is an answer on its way.
type lateAnswer struct {
	at time.Time
	m  *tuskvaultv1.UploadResponse
}

// Upload implements the service.
func (c *Controller) Upload(rpc grpc.BidiStreamingServer[tuskvaultv1.UploadRequest, tuskvaultv1.UploadResponse]) error {
	s := &uploadStream{c: c, rpc: rpc, credit: c.Window, open: map[seal.Name][]byte{}, late: make(chan lateAnswer, 1<<16)}
	var answering sync.WaitGroup
	answering.Go(s.answerLate)
	defer answering.Wait()
	defer close(s.late)
	for {
		m, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.message(m)
		}
		if err == nil {
			err = s.handle(m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *uploadStream) answerLate() {
	for a := range s.late {
		timer := time.NewTimer(time.Until(a.at))
		select {
		case <-timer.C:
			_ = s.answer(a.m) // when it fails, the stream has ended
		case <-s.rpc.Context().Done():
			timer.Stop()
		}
	}
}

func (s *uploadStream) answer(m *tuskvaultv1.UploadResponse) error {
	s.send.Lock()
	defer s.send.Unlock()
	return s.rpc.Send(m)
}

func (s *uploadStream) handle(m *tuskvaultv1.UploadRequest) error {
	switch {
	case m.GetBegin() != nil:
		return s.answer(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Ready{Ready: &tuskvaultv1.UploadReady{WindowBytes: s.c.Window}}})
	case m.GetHave() != nil:
		a := s.have(m.GetHave())
		if s.c.Latency == 0 {
			return s.answer(a)
		}
		s.late <- lateAnswer{time.Now().Add(s.c.Latency), a}
		return nil
	case m.GetPut() != nil:
		return s.take(m.GetPut())
	case m.GetFlush() != nil:
		s.c.mu.Lock()
		for n, f := range s.open {
			s.c.frames[n] = f
		}
		s.c.mu.Unlock()
		clear(s.open)
		return s.answer(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Ack{Ack: &tuskvaultv1.UploadAck{DurableFrames: s.put, Flushed: true}}})
	}
	return fmt.Errorf("unknown message: %w", errs.Unsupported)
}

func (s *uploadStream) have(h *tuskvaultv1.UploadHave) *tuskvaultv1.UploadResponse {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	n := len(h.GetNames()) / 32
	missing := make([]byte, (n+7)/8)
	for i := range n {
		if _, ok := s.c.frames[seal.Name(h.GetNames()[32*i:][:32])]; !ok {
			missing[i/8] |= 1 << (i % 8)
		}
	}
	return &tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Have{Have: &tuskvaultv1.UploadHaveResult{Sequence: h.GetSequence(), Missing: missing}}}
}

func (s *uploadStream) take(p *tuskvaultv1.UploadPut) error {
	var bytes int64
	for i, f := range p.GetFrames() {
		bytes += int64(len(f))
		h, err := seal.ParseHeader(f)
		if err != nil {
			return err
		}
		if hash := hashOf(f); string(hash[:]) != string(p.GetFrameHashes()[32*i:][:32]) {
			return fmt.Errorf("frame %d: wrong hash: %w", i, errs.Corrupt)
		}
		s.open[h.Name] = f
		s.put++
		s.c.mu.Lock()
		s.c.received[h.Name]++
		s.c.mu.Unlock()
	}
	if s.credit -= bytes; s.credit < 0 {
		return fmt.Errorf("%d bytes beyond the window: %w", -s.credit, errs.Invalid)
	}
	s.credit += bytes
	return s.answer(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Credit{Credit: &tuskvaultv1.UploadCredit{Bytes: bytes}}})
}
