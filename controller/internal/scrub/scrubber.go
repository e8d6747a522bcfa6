package scrub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Options of a Scrubber.
type Options struct {
	// BytesPerDay is what may be read; 0 means that nothing is scrubbed.
	BytesPerDay int64
	// Interval is the pause between two rounds: a small repository is not read again
	// and again.
	Interval time.Duration
}

const (
	// retryEvery is the pause after the store or the catalog did not answer.
	retryEvery = time.Minute
	// emptyEvery is how often a repository without packs is looked at.
	emptyEvery = 10 * time.Minute
	// pageKeys is how many packs are listed at once.
	pageKeys = 256
	// packOverhead is what reading a pack costs beside its frames, so that tiny packs
	// do not count as nothing.
	packOverhead = 64 << 10
)

// Scrubber reads every pack in turn, opens its chunks and marks what is damaged.
//
// Each pack is one step: it is read, then marked if it is bad, then the position
// is noted, with the time from which the budget allows the next one. A crash
// between marking and noting reads the pack again; a restart goes on where it
// was and keeps to the budget.
type Scrubber struct {
	repo      *repo.Repository
	catalog   Catalog
	marks     *Marks
	o         Options
	log       *zap.Logger
	inspector *check.Inspector
	copies    Copies // nil without
}

// NewScrubber makes a Scrubber; Run gives it life. Copies heal what it finds; nil
// without.
func NewScrubber(r *repo.Repository, c Catalog, m *Marks, copies Copies, o Options, log *zap.Logger) *Scrubber {
	return &Scrubber{repo: r, catalog: c, marks: m, o: o, log: log.Named("scrub"), inspector: check.NewInspector(r), copies: copies}
}

// Run scrubs until ctx ends.
func (s *Scrubber) Run(ctx context.Context) error {
	if s.o.BytesPerDay <= 0 {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		if err := s.round(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("scrub interrupted, will try again", zap.Error(err), zap.Duration("pause", retryEvery))
			wait(ctx, retryEvery)
		}
	}
	return nil
}

// round goes on with the round that was begun, or begins one when it is time.
func (s *Scrubber) round(ctx context.Context) error {
	at, err := s.position(ctx)
	if err != nil {
		return err
	}
	if at.Started.IsZero() {
		// What a clock that was set back has left is not waited for longer than that.
		if !at.Completed.IsZero() {
			wait(ctx, min(time.Until(at.Completed.Add(s.o.Interval)), s.o.Interval))
		}
		if ctx.Err() != nil {
			return nil
		}
		at.Started = now()
		if err := s.save(ctx, at); err != nil {
			return err
		}
	}
	for {
		keys, err := s.next(ctx, at)
		if err != nil {
			return err
		}
		switch {
		case len(keys) == 0 && at.Packs == 0:
			wait(ctx, min(emptyEvery, s.o.Interval)) // nothing was ever stored
			return nil
		case len(keys) == 0:
			return s.complete(ctx, at)
		}
		for _, key := range keys {
			if at, err = s.pack(ctx, at, key); err != nil || ctx.Err() != nil {
				return err
			}
		}
	}
}

func now() time.Time { return time.Now().UTC().Round(0) }

// next lists the packs after the position. One page at a time: a list must not
// last for days.
func (s *Scrubber) next(ctx context.Context, at catalog.Scrub) ([]string, error) {
	after := ""
	if at.Pack != (catalog.PackID{}) {
		after = repo.PackObject(at.Domain, pack.ID(at.Pack))
	}
	var keys []string
	errFull := errors.New("page is full")
	err := s.repo.Store().List(ctx, repo.PacksPrefix, after, func(info blob.Info) error {
		if _, _, err := repo.ParsePackObject(info.Key); err != nil {
			return nil // a check names it
		}
		if keys = append(keys, info.Key); len(keys) >= pageKeys {
			return errFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	return keys, nil
}

// pack waits until the budget allows it, reads one pack and moves the position.
func (s *Scrubber) pack(ctx context.Context, at catalog.Scrub, key string) (catalog.Scrub, error) {
	domain, id, err := repo.ParsePackObject(key)
	if err != nil {
		return at, err
	}
	wait(ctx, min(time.Until(at.Due), s.pause(pack.MaxSize+packOverhead)))
	if ctx.Err() != nil {
		return at, nil
	}
	read, err := s.read(ctx, domain, id)
	if err != nil {
		return at, err
	}
	at.Domain, at.Pack = domain, catalog.PackID(id)
	at.Packs++
	at.Bytes += read
	at.Due = now().Add(s.pause(read + packOverhead))
	return at, s.save(ctx, at)
}

// read reads one pack and notes what it was found to be.
func (s *Scrubber) read(ctx context.Context, domain seal.DomainID, id pack.ID) (int64, error) {
	found, err := s.inspector.Pack(ctx, domain, id)
	switch {
	case errors.Is(err, errs.NotFound):
		return 0, nil // pruned since it was listed
	case err != nil:
		return 0, err
	case found.Bad != nil:
		s.log.Error("scrub found a damaged pack", zap.String("object", repo.PackObject(domain, id)), zap.String("detail", found.Detail))
		if err := s.marks.Mark(ctx, *found.Bad); err != nil {
			return found.Bytes, err
		}
		if s.copies != nil {
			s.copies.HealLater("", repo.PackObject(domain, id))
		}
		return found.Bytes, nil
	}
	return found.Bytes, s.marks.Clear(ctx, domain, id)
}

// pause is how long so many bytes use up the budget.
func (s *Scrubber) pause(bytes int64) time.Duration {
	return time.Duration(float64(bytes) / float64(s.o.BytesPerDay) * float64(24*time.Hour))
}

// complete ends a round that has read everything.
func (s *Scrubber) complete(ctx context.Context, at catalog.Scrub) error {
	end := now()
	if err := s.save(ctx, catalog.Scrub{Completed: end, Due: at.Due, CompletedPacks: at.Packs, CompletedBytes: at.Bytes}); err != nil {
		return err
	}
	s.log.Info("scrub completed", zap.Int64("packs", at.Packs), logging.Bytes(at.Bytes), logging.Duration(end.Sub(at.Started)))
	return nil
}

func (s *Scrubber) position(ctx context.Context) (at catalog.Scrub, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		at, err = tx.Scrub()
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return at, fmt.Errorf("find how far the scrub is: %w", err)
	}
	return at, nil
}

func (s *Scrubber) save(ctx context.Context, at catalog.Scrub) error {
	if err := s.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error { return tx.PutScrub(at) }); err != nil {
		return fmt.Errorf("note how far the scrub is: %w", err)
	}
	return nil
}

// wait waits for a time or the end.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
