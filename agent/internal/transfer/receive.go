package transfer

import (
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// receive takes the controller's answers until it ends the stream. It never
// blocks but on the connection, so that a full pipe of ours cannot stop the
// controller from answering.
func (s *Stream) receive(ready chan<- struct{}) error {
	began := false
	for {
		m, err := s.rpc.Recv()
		if errors.Is(err, io.EOF) {
			return s.end()
		}
		if err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		if r := m.GetReady(); r != nil && !began {
			began = true
			s.mu.Lock()
			s.credit = r.GetWindowBytes()
			s.mu.Unlock()
			if r.GetWindowBytes() < int64(s.u.frames.largest) {
				return fmt.Errorf("upload: the controller's window of %d bytes does not take one chunk: %w", r.GetWindowBytes(), errs.Unsupported)
			}
			close(ready)
			continue
		}
		if !began {
			return fmt.Errorf("upload: the controller's first message is not ready: %w", errs.Invalid)
		}
		if err := s.handle(m); err != nil {
			return err
		}
		select {
		case s.wake <- struct{}{}:
		default: // it is awake, or will be
		}
	}
}

// end judges a stream that the controller ended without an error: fine only
// after we have closed our half, with everything settled.
func (s *Stream) end() error {
	s.u.mu.Lock()
	closed := s.u.closed
	s.u.mu.Unlock()
	if !closed {
		return fmt.Errorf("upload: the controller ended the stream: %w", errs.Unavailable)
	}
	close(s.ended)
	return nil
}

func (s *Stream) handle(m *tuskvaultv1.UploadResponse) error {
	switch {
	case m.GetHave() != nil:
		return s.answer(m.GetHave())
	case m.GetCredit() != nil:
		n := m.GetCredit().GetBytes()
		if n <= 0 {
			return fmt.Errorf("upload: credit of %d bytes: %w", n, errs.Invalid)
		}
		s.mu.Lock()
		s.credit += n
		s.mu.Unlock()
		return nil
	case m.GetAck() != nil:
		n := m.GetAck().GetDurableFrames()
		s.mu.Lock()
		defer s.mu.Unlock()
		if n < s.durable {
			return fmt.Errorf("upload: %d frames are durable after %d were: %w", n, s.durable, errs.Invalid)
		}
		s.u.durable.Add(int64(n - s.durable))
		s.durable = n
		s.flushed = s.flushed || m.GetAck().GetFlushed()
		return nil
	}
	return fmt.Errorf("upload: a message of no known kind: %w", errs.Unsupported)
}

// answer gives missing chunks to the sealers and the memory of others back.
func (s *Stream) answer(h *tuskvaultv1.UploadHaveResult) error {
	s.mu.Lock()
	if len(s.questions) == 0 || s.questions[0].sequence != h.GetSequence() || len(h.GetMissing()) != (len(s.questions[0].items)+7)/8 {
		s.mu.Unlock()
		return fmt.Errorf("upload: answer %d does not fit the question: %w", h.GetSequence(), errs.Invalid)
	}
	q := s.questions[0]
	s.questions = s.questions[1:]
	s.mu.Unlock()
	var present int64
	for i, it := range q.items {
		if h.GetMissing()[i/8]>>(i%8)&1 == 1 {
			s.u.toSeal <- it // holds as many as there are plain buffers: never blocks
			continue
		}
		present++
		s.u.plains.put(it.plain)
	}
	s.mu.Lock()
	s.settled += present
	s.mu.Unlock()
	return nil
}
