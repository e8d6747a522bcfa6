package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// maxFlights bounds the packs of a stream that are not acknowledged: those on
// their way and the parts of merged packs that wait for other streams.
const maxFlights = 8

// flight is a closed pack, or a stream's part of a merged one, on its way.
type flight struct {
	frames uint64 // of this stream
	merged bool   // waits for other streams, does not count as being put
	err    error
	landed bool
}

// closePack ends the open pack and has it put, after waiting for room.
func (u *upload) closePack(ctx context.Context) error {
	if u.writer == nil {
		return nil
	}
	u.age.Stop()
	if err := u.awaitRoom(ctx); err != nil {
		return err
	}
	sealed, err := u.writer.Finish(u.dom.keys.Pack())
	if err != nil {
		return err
	}
	u.writer = nil
	f := &flight{frames: u.frames - u.first}
	u.flights = append(u.flights, f)
	u.s.work.Add(1)
	go func() { // stop waits for it
		defer u.s.work.Done()
		defer u.s.spool.Release(1)
		f.err = u.s.putPack(ctx, u.job, u.grant, sealed)
		u.landed <- f
	}()
	return nil
}

// awaitRoom waits until one more pack may be under way. Meanwhile nothing is
// read from the agent: its credit is the bound of what waits.
func (u *upload) awaitRoom(ctx context.Context) error {
	for {
		putting := 0
		for _, f := range u.flights {
			if !f.landed && !f.merged {
				putting++
			}
		}
		if putting < putsInFlight && len(u.flights) < maxFlights {
			return nil
		}
		select {
		case f := <-u.landed:
			if err := u.land(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// land takes the end of a flight and acknowledges what is durable without gaps.
func (u *upload) land(f *flight) error {
	if f.err != nil {
		return f.err
	}
	f.landed = true
	return u.acknowledge()
}

func (u *upload) acknowledge() error {
	before := u.durable
	for len(u.flights) > 0 && u.flights[0].landed {
		u.durable += u.flights[0].frames
		u.flights = u.flights[1:]
	}
	flushed := u.flushing && u.durable >= u.target
	if u.durable == before && !flushed {
		return nil
	}
	if flushed {
		u.flushing = false
		u.depart()
	}
	return u.send(&tuskvaultv1.UploadResponse{Message: &tuskvaultv1.UploadResponse_Ack{
		Ack: &tuskvaultv1.UploadAck{DurableFrames: u.durable, Flushed: flushed}}})
}

// flush makes everything put so far durable. A small open pack is merged with
// those of the job's other streams.
func (u *upload) flush(ctx context.Context) error {
	u.target, u.flushing = u.frames, true
	var err error
	if u.writer != nil && u.writer.Size() < tailSize && u.job.several() {
		err = u.merge(ctx)
	} else {
		err = u.closePack(ctx)
	}
	if err == nil {
		err = u.arrive(ctx)
	}
	if err != nil {
		return err
	}
	return u.acknowledge()
}

// finish ends a stream whose agent will put no more.
func (u *upload) finish(ctx context.Context) error {
	if err := u.flush(ctx); err != nil {
		return err
	}
	for len(u.flights) > 0 {
		select {
		case f := <-u.landed:
			if err := u.land(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// putTries is how often a pack is put whose outcome is unknown; putPause is the
// pause before the second try, doubled each time.
const (
	putTries = 4
	putPause = time.Second
)

// putPack makes a pack durable and findable, in this order:
//
//  1. The journal records the intent. A crash here leaves the intent of a pack
//     that does not exist: recovery drops it.
//  2. The store takes the pack. A crash here leaves a pack with an intent:
//     recovery finds it and goes on with step 3.
//  3. The journal replaces the intent by the pack. A crash here leaves a pack
//     that no index file covers: recovery indexes it.
//  4. The job's index in memory takes its chunks. From here on they are findable.
//
// It runs to its end although the stream may fail meanwhile: a later attempt
// need not send again what is stored. It removes the spool file.
func (s *Server) putPack(ctx context.Context, j *jobState, g Grant, sealed *pack.Sealed) (err error) {
	defer func() { err = errors.Join(err, sealed.Remove()) }()
	ctx, end := s.detached(ctx)
	defer end()
	if err := s.puts.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for the store: %w", context.Cause(ctx))
	}
	defer s.puts.Release(1)
	dir := sealed.Directory()
	s.setFlying(dir.ID, true)
	defer s.setFlying(dir.ID, false)
	intent := PackIntent{
		ID: dir.ID, Domain: dir.Domain, Job: g.Job, Fence: g.Fence, Instance: g.Instance,
		Size: dir.Size, Chunks: len(dir.Entries), Created: dir.Created,
	}
	if err := s.o.Journal.PackIntent(ctx, intent); err != nil {
		return fmt.Errorf("journal pack %s: %w", dir.ID.Short(), err)
	}
	if err := s.create(ctx, sealed); err != nil {
		return errors.Join(err, s.giveUp(ctx, intent, err))
	}
	if err := s.o.Journal.PackStored(ctx, g.Job, dir.ID); err != nil {
		return fmt.Errorf("journal pack %s: %w", dir.ID.Short(), err)
	}
	s.admit(ctx, j, dir)
	return nil
}

func (s *Server) setFlying(id pack.ID, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.flying[id] = true
	} else {
		delete(s.flying, id)
	}
}

func (s *Server) isFlying(id pack.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flying[id]
}

// create puts a pack and finds out what became of it when the store does not
// tell: reading it back decides, never a guess.
func (s *Server) create(ctx context.Context, sealed *pack.Sealed) error {
	key := repo.PackObject(sealed.Directory().Domain, sealed.ID())
	pause := putPause
	for try := 1; ; try++ {
		err := s.store.Create(ctx, key, sealed)
		if err == nil {
			return nil
		}
		if !ambiguous(err) {
			return fmt.Errorf("put pack %s: %w", sealed.ID().Short(), err)
		}
		there, lookErr := s.stored(ctx, sealed.Directory().Domain, sealed.ID(), sealed.Size())
		if there {
			return nil
		}
		if try == putTries || lookErr != nil && !ambiguous(lookErr) {
			return fmt.Errorf("put pack %s: %w: what became of it is unknown: %w", sealed.ID().Short(), errs.Unavailable, errors.Join(err, lookErr))
		}
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("put pack %s: %w", sealed.ID().Short(), err)
		}
		pause *= 2
	}
}

// ambiguous tells whether the outcome of a Create that failed like this has to
// be found out. A pack that exists was put by an earlier try: its id is random
// for anybody else.
func ambiguous(err error) bool {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.Timeout, errs.Exists, errs.Busy:
		return true
	}
	return false
}

// stored tells whether a pack is in the store, whole: its size and its directory
// agree with its id, which commits to every byte.
func (s *Server) stored(ctx context.Context, d seal.DomainID, id pack.ID, size int64) (bool, error) {
	key := repo.PackObject(d, id)
	info, err := s.store.Stat(ctx, key)
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for pack %s: %w", id.Short(), err)
	}
	if info.Size != size {
		return false, fmt.Errorf("pack %s: %d bytes, %d were put: %w", id, info.Size, size, errs.Corrupt)
	}
	open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return s.store.Open(ctx, key, off, n) }
	if _, err := pack.ReadDirectory(ctx, open, info.Size, id); err != nil {
		return false, err
	}
	return true, nil
}

// giveUp ends the intent of a pack whose put failed for certain. When the
// outcome is unknown, or this fails, the intent stays, and the next start looks again.
func (s *Server) giveUp(ctx context.Context, i PackIntent, failure error) error {
	if ambiguous(failure) || ctx.Err() != nil {
		return nil
	}
	if err := s.o.Journal.PackDropped(ctx, i.Job, i.ID); err != nil {
		return fmt.Errorf("journal pack %s: %w", i.ID.Short(), err)
	}
	return nil
}

// admit makes a stored pack's chunks findable, and sees to it that memory's
// index does not grow without bound.
func (s *Server) admit(ctx context.Context, j *jobState, d *pack.Directory) {
	added, size := j.add(d)
	s.mu.Lock()
	s.pending += added
	full := size >= jobPending || s.pending >= allPending && size >= leastFlushed
	s.mu.Unlock()
	if !full {
		return
	}
	if err := s.flushIndex(ctx, j); err != nil {
		// The chunks stay findable in memory and the next pack tries again.
		s.o.Logger.Warn("index file was not written", zap.Stringer("job_id", j.id), zap.Error(err))
	}
}

// wait pauses.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
