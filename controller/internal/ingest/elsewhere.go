package ingest

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Copies are other stores that hold the same objects under the same keys. What
// comes from them is verified as what comes from the store is.
type Copies interface {
	// Read calls fn with one other store after the other until one gives what is
	// wanted of an object, and tells the name of that.
	Read(ctx context.Context, key string, fn func(ctx context.Context, from blob.Store) error) (name string, err error)
	// Tell puts a line into the log of a job.
	Tell(ctx context.Context, job repo.JobID, fence repo.Fence, message string) error
}

// Only restores and exports read from copies: what a backup relies on must be in
// the repository's own store.

// fromCopies counts what one stream read from copies.
type fromCopies struct {
	mu     sync.Mutex
	chunks map[string]int64 // by the copy's name
	silent time.Time        // until when the store is asked last, since it did not answer
}

// silentFor is how long a store that did not answer is asked last: each question
// may cost minutes of retries.
const silentFor = time.Minute

func (c *fromCopies) count(name string, chunks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chunks == nil {
		c.chunks = map[string]int64{}
	}
	c.chunks[name] += int64(chunks)
}

// asked takes in how the store answered.
func (c *fromCopies) asked(err error) {
	if errors.Is(err, errs.Unavailable) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.silent = time.Now().Add(silentFor)
	}
}

func (c *fromCopies) isSilent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.silent)
}

// words says what was read from copies; empty when nothing was.
func (c *fromCopies) words() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for name, n := range c.chunks {
		parts = append(parts, fmt.Sprintf("%d reads from copy %s", n, name))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// tell puts into the job's log what a stream read from copies.
func (d *download) tell(ctx context.Context) {
	words := d.view.copied.words()
	if words == "" || d.s.o.Copies == nil {
		return
	}
	message := "the repository's own store did not give everything that this needs: " + words
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), authorizeEvery)
	defer cancel()
	if err := d.s.o.Copies.Tell(ctx, d.grant.Job, d.grant.Fence, message); err != nil {
		d.s.o.Logger.Warn("not in the job's log: "+message, zap.Stringer("job_id", d.grant.Job), zap.Error(err))
	}
}

// elsewhere tells whether an object that the store did not give may come from a
// copy.
func (v *view) elsewhere(ctx context.Context) bool {
	return v.s.o.Copies != nil && v.job == nil && ctx.Err() == nil
}

// segmentElsewhere reads a segment's range from a copy, whole.
func (v *view) segmentElsewhere(ctx context.Context, g *segment) (frames [][]byte, err error) {
	start := g.places[0].Offset
	key := repo.PackObject(v.dom.id, g.places[0].Pack)
	name, err := v.s.o.Copies.Read(ctx, key, func(ctx context.Context, from blob.Store) error {
		b, err := blob.ReadRange(ctx, from, key, start, g.end()-start)
		if err != nil {
			return err
		}
		frames = make([][]byte, len(g.names))
		for i, l := range g.places {
			frames[i] = b[l.Offset-start:][:l.Length]
			if err := v.s.verify(ctx, v.dom, l, g.names[i], frames[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		v.copied.count(name, len(frames))
	}
	return frames, err
}

// frameElsewhere reads a chunk's frame from a copy, from the first place where it
// is whole there.
func (v *view) frameElsewhere(ctx context.Context, name seal.Name, places []index.Location) ([]byte, error) {
	var failed error
	for _, l := range places {
		var frame []byte
		key := repo.PackObject(v.dom.id, l.Pack)
		copied, err := v.s.o.Copies.Read(ctx, key, func(ctx context.Context, from blob.Store) (err error) {
			if frame, err = blob.ReadRange(ctx, from, key, l.Offset, int64(l.Length)); err != nil {
				return err
			}
			return v.s.verify(ctx, v.dom, l, name, frame)
		})
		if err == nil {
			v.copied.count(copied, 1)
			return frame, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// directoryAnywhere is directory, from a copy when the store does not give it: a
// pack's id commits to it, so that it is the same wherever it comes from.
func (s *Server) directoryAnywhere(ctx context.Context, d *domain, id pack.ID) (*pack.Directory, error) {
	dir, err := s.directory(ctx, d, id)
	if err == nil || s.o.Copies == nil || ctx.Err() != nil {
		return dir, err
	}
	_, failed := s.o.Copies.Read(ctx, repo.PackObject(d.id, id), func(ctx context.Context, from blob.Store) (err error) {
		dir, err = directoryIn(ctx, from, d, id)
		return err
	})
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	return dir, nil
}

// snapshotStore gives a store in which the granted snapshot's object is whole: the
// repository's own, unless it is not there. Without copies nobody looks.
func (s *Server) snapshotStore(ctx context.Context, g Grant) (blob.Store, error) {
	if s.o.Copies == nil {
		return s.store, nil
	}
	key := repo.SnapshotObject(g.SnapshotInstance, g.Snapshot)
	whole := func(ctx context.Context, from blob.Store) error {
		if err := s.decoding.Acquire(ctx, 1); err != nil { // objects may have 128 MiB
			return context.Cause(ctx)
		}
		defer s.decoding.Release(1)
		raw, err := blob.ReadAll(ctx, from, key, repo.MaxSnapshotBytes)
		if err == nil {
			err = s.o.Repository.VerifyObject(ctx, key, raw)
		}
		return err
	}
	err := whole(ctx, s.store)
	if err == nil || ctx.Err() != nil {
		return s.store, nil // whoever reads it says what is wrong
	}
	var found blob.Store
	_, failed := s.o.Copies.Read(ctx, key, func(ctx context.Context, from blob.Store) error {
		found = from
		return whole(ctx, from)
	})
	if failed != nil {
		return s.store, nil //nolint:nilerr // what the store itself says is told
	}
	return found, nil
}

// sizeElsewhere gives the size of a pack in a copy, 0 when none has it.
func (d *download) sizeElsewhere(ctx context.Context, id pack.ID) (size int64) {
	if !d.view.elsewhere(ctx) {
		return 0
	}
	key := repo.PackObject(d.dom.id, id)
	_, err := d.s.o.Copies.Read(ctx, key, func(ctx context.Context, from blob.Store) error {
		info, err := from.Stat(ctx, key)
		size = info.Size
		return err
	})
	if err != nil {
		return 0
	}
	return size
}
