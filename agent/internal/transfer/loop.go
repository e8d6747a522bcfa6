package transfer

import (
	"context"
	"time"

	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// loop is the sending half of a stream; one goroutine runs it.
type loop struct {
	*Stream
	idle     *time.Timer // runs while gathered is not empty
	gathered []*item     // names of the next question
	queue    []*item     // sealed, waiting for credit
	sequence uint64      // of the newest question
	put      int64       // chunks taken from Put
	sent     int64       // frames sent
	flushing []chan struct{}
	asked    bool // a flush was sent for all of flushing
	closing  bool // no more puts will come
}

// run sends questions and frames until the uploader ends or fails.
func (s *Stream) run() error {
	l := &loop{Stream: s, idle: time.NewTimer(time.Hour)}
	defer l.idle.Stop()
	puts := l.puts
	for {
		select {
		case it, ok := <-puts:
			if !ok {
				puts, l.closing = nil, true
				break
			}
			l.take(it)
		case <-l.idle.C:
			if err := l.ask(); err != nil {
				return err
			}
		case it := <-l.sealed:
			l.queue = append(l.queue, it)
		case done := <-l.flushes:
			// What was put before the flush may still be in the channel: Put and
			// Flush are called by one goroutine, so all of it is there by now.
			for len(puts) > 0 {
				l.take(<-puts)
			}
			l.flushing, l.asked = append(l.flushing, done), false
		case <-l.wake:
		case <-l.u.ctx.Done():
			return context.Cause(l.u.ctx)
		}
		if ended, err := l.step(); ended || err != nil {
			return err
		}
	}
}

// step sends whatever can be sent now.
func (l *loop) step() (ended bool, err error) {
	if len(l.gathered) >= questionNames || len(l.gathered) > 0 && (len(l.flushing) > 0 || l.closing) {
		if err := l.ask(); err != nil {
			return false, err
		}
	}
	if err := l.send(); err != nil {
		return false, err
	}
	if err := l.flush(); err != nil {
		return false, err
	}
	if l.closing && l.outstanding() == 0 {
		return true, l.rpc.CloseSend()
	}
	return false, nil
}

// take adds one chunk to the next question.
func (l *loop) take(it *item) {
	l.put++
	l.gathered = append(l.gathered, it)
	if len(l.gathered) == 1 {
		l.idle.Reset(questionIdle)
	}
}

// ask sends the gathered names as questions.
func (l *loop) ask() error {
	for len(l.gathered) > 0 {
		n := min(len(l.gathered), questionNames)
		names := make([]byte, 0, n*len(l.gathered[0].name))
		for _, it := range l.gathered[:n] {
			names = append(names, it.name[:]...)
		}
		l.sequence++
		q := question{sequence: l.sequence, items: append([]*item(nil), l.gathered[:n]...)}
		l.gathered = append(l.gathered[:0], l.gathered[n:]...)
		l.mu.Lock()
		l.questions = append(l.questions, q)
		l.mu.Unlock()
		msg := &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Have{
			Have: &tuskvaultv1.UploadHave{Sequence: q.sequence, Names: names}}}
		if err := l.sendMessage(msg); err != nil {
			return err
		}
	}
	l.idle.Stop()
	return nil
}

// send sends queued frames as far as the credit goes.
func (l *loop) send() error {
	for len(l.queue) > 0 {
		var frames [][]byte
		var hashes []byte
		var bytes int64
		l.mu.Lock()
		for _, it := range l.queue {
			n := int64(len(it.frame))
			if n > l.credit || len(frames) > 0 && bytes+n > putBytes {
				break
			}
			l.credit -= n
			bytes += n
			frames, hashes = append(frames, it.frame), append(hashes, it.hash[:]...)
		}
		l.mu.Unlock()
		if len(frames) == 0 {
			return nil
		}
		msg := &tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Put{
			Put: &tuskvaultv1.UploadPut{Frames: frames, FrameHashes: hashes}}}
		if err := l.sendMessage(msg); err != nil {
			return err
		}
		// Send has encoded the message: its frames may be reused.
		for i, it := range l.queue[:len(frames)] {
			l.u.frames.put(it.frame)
			l.queue[i] = nil
		}
		l.queue = l.queue[len(frames):]
		l.sent += int64(len(frames))
		l.u.sentBytes.Add(bytes)
	}
	l.queue = nil
	return nil
}

// outstanding counts chunks that were put and neither sent nor found present.
func (l *loop) outstanding() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put - l.settled - l.sent
}

// flush asks the controller for durability when all chunks are with it, and tells
// those who wait when it has answered.
func (l *loop) flush() error {
	if len(l.flushing) == 0 || l.outstanding() != 0 {
		return nil
	}
	if !l.asked {
		l.asked = true
		l.mu.Lock()
		l.flushed = false
		l.mu.Unlock()
		return l.sendMessage(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Flush{Flush: &tuskvaultv1.UploadFlush{}}})
	}
	l.mu.Lock()
	done := l.flushed && l.durable == uint64(l.sent)
	l.mu.Unlock()
	if done {
		for _, f := range l.flushing {
			close(f)
		}
		l.flushing = nil
	}
	return nil
}

// sendMessage sends one message. When the controller has ended the stream, the
// receiver knows why and ends the group with it.
func (l *loop) sendMessage(m *tuskvaultv1.UploadRequest) error {
	if err := l.rpc.Send(m); err != nil {
		<-l.u.ctx.Done()
		return context.Cause(l.u.ctx)
	}
	return nil
}
