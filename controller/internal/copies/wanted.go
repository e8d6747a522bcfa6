package copies

import (
	"context"
	"errors"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// HealLater asks for an object to be healed in the background: in the
// repository's own store when the first name is empty, else in that copy. It
// returns at once. What there is no room for is found again by the next check.
func (s *Service) HealLater(store string, keys ...string) {
	if len(s.followers) == 0 {
		return
	}
	for _, key := range keys {
		select {
		case s.wanted <- damage{store, key}:
		default:
			return
		}
	}
}

// healWanted heals what was asked for until ctx ends. What a store that did not
// answer prevents is tried again after a pause, in which more may gather.
func (s *Service) healWanted(ctx context.Context) {
	for {
		select {
		case d := <-s.wanted:
			for try := 0; ; try++ {
				_, err := s.Heal(ctx, d.store, d.key)
				if err == nil || notHealed(err) && !errors.Is(err, errs.Busy) || try == healTries || sleep(ctx, firstPause<<try) != nil {
					break
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// healTries is how often an object is tried again whose stores did not answer: in
// all ten minutes.
const healTries = 6

// foundDamaged takes in that an object of the repository's own store is damaged:
// a pack is marked, so that its chunks are sent again, and a copy is asked for a
// good one.
func (s *Service) foundDamaged(ctx context.Context, key string) error {
	if domain, id, err := repo.ParsePackObject(key); err == nil {
		found, err := check.NewInspector(s.d.Repository).Pack(ctx, domain, id)
		switch {
		case errors.Is(err, errs.NotFound):
			return nil
		case err != nil:
			return err
		case found.Bad != nil:
			err = s.d.Marks.Mark(ctx, *found.Bad)
		}
		if err != nil {
			return err
		}
	}
	s.HealLater("", key)
	return nil
}
