package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// tail is a job's merged pack: the small open packs of several streams that are
// flushed at about the same time, as they are before a commit. It is put when no
// stream of the job is left that has not asked to be flushed, or after tailLinger.
type tail struct {
	filling *semaphore.Weighted // of 1, guards what is below and is held over file I/O
	writer  *pack.Writer
	parts   []part
	grant   Grant // of the attempt whose chunks are in it
	timer   *time.Timer
}

// part is what one stream has in the merged pack.
type part struct {
	flight *flight
	landed chan<- *flight
}

func newTail() tail { return tail{filling: semaphore.NewWeighted(1)} }

// several tells whether the job has other streams to merge with.
func (j *jobState) several() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.streams > 1
}

// arrive counts a stream that waits for a flush and has given what it had; the
// last one has the merged pack put.
func (u *upload) arrive(ctx context.Context) error {
	j := u.job
	j.mu.Lock()
	if !u.arrived {
		u.arrived = true
		j.waiting++
	}
	all := j.waiting >= j.streams
	j.mu.Unlock()
	if !all {
		return nil
	}
	if err := j.tail.filling.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer j.tail.filling.Release(1)
	u.s.putTail(ctx, j)
	return nil
}

// depart takes arrive back.
func (u *upload) depart() {
	u.job.mu.Lock()
	defer u.job.mu.Unlock()
	if u.arrived {
		u.arrived = false
		u.job.waiting--
	}
}

// merge moves the open pack into the job's merged pack.
func (u *upload) merge(ctx context.Context) error {
	u.age.Stop()
	if len(u.flights) >= maxFlights {
		if err := u.awaitRoom(ctx); err != nil {
			return err
		}
	}
	t := &u.job.tail
	if err := t.filling.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer t.filling.Release(1)
	if t.writer != nil && (t.grant != u.grant || t.writer.Size()+u.writer.Size() > pack.MaxSize || t.writer.Count()+u.writer.Count() > pack.MaxCount) {
		u.s.putTail(ctx, u.job)
	}
	if t.writer == nil {
		// The first one gives its own.
		t.writer, t.grant, u.writer = u.writer, u.grant, nil
	} else if err := u.copyTo(t.writer); err != nil {
		return err
	}
	f := &flight{frames: u.frames - u.first, merged: true}
	u.flights = append(u.flights, f)
	t.parts = append(t.parts, part{f, u.landed})
	if t.timer == nil {
		u.s.linger(ctx, u.job)
	}
	return nil
}

// copyTo appends the frames of the open pack to another and drops it.
func (u *upload) copyTo(w *pack.Writer) (err error) {
	sealed, err := u.writer.Finish(u.dom.keys.Pack())
	if err != nil {
		return err
	}
	u.writer = nil
	defer u.s.spool.Release(1)
	r, err := sealed.Open()
	defer func() { err = errors.Join(err, sealed.Remove()) }()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	entries := sealed.Directory().Entries
	if _, err := io.CopyN(io.Discard, r, entries[0].Offset); err != nil {
		return fmt.Errorf("merge packs: %w", err)
	}
	frame := make([]byte, 0, seal.MaxFrame(u.dom.maxPlain))
	for _, e := range entries {
		frame = frame[:e.Length]
		if _, err := io.ReadFull(r, frame); err != nil {
			return fmt.Errorf("merge packs: %w", err)
		}
		if err := w.Add(frame, e.Hash); err != nil {
			return fmt.Errorf("merge packs: %w", err)
		}
	}
	return nil
}

// linger puts the merged pack after a while. The caller holds filling.
func (s *Server) linger(ctx context.Context, j *jobState) {
	ctx = context.WithoutCancel(ctx) // the stream that began the pack may end before
	s.work.Add(1)
	t := &j.tail
	var timer *time.Timer
	timer = time.AfterFunc(tailLinger, func() {
		defer s.work.Done()
		if err := t.filling.Acquire(ctx, 1); err != nil {
			return // never: ctx does not end, and filling is held over local file I/O alone
		}
		defer t.filling.Release(1)
		if t.timer == timer {
			t.timer = nil // putTail need not stop it
			s.putTail(ctx, j)
		}
	})
	t.timer = timer
}

// putTail has the merged pack put. The caller holds filling.
func (s *Server) putTail(ctx context.Context, j *jobState) {
	t := &j.tail
	if t.timer != nil && t.timer.Stop() {
		s.work.Done()
	}
	t.timer = nil
	if t.writer == nil {
		return
	}
	w, parts, grant := t.writer, t.parts, t.grant
	t.writer, t.parts = nil, nil
	s.work.Add(1)
	go func() { // stop waits for it
		defer s.work.Done()
		defer s.spool.Release(1)
		sealed, err := w.Finish(j.dom.keys.Pack())
		if err == nil {
			err = s.putPack(ctx, j, grant, sealed)
		} else {
			err = errors.Join(err, w.Abort())
		}
		for _, p := range parts {
			p.flight.err = err
			p.landed <- p.flight
		}
	}()
}
