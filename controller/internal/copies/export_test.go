package copies

import "context"

// Round makes one round of a copy, as Run does, and tells whether more is known
// to be missing.
func (s *Service) Round(ctx context.Context, name string) (again bool, err error) {
	f := s.find(name)
	again, err = f.round(ctx)
	f.note(ctx, err)
	return again, err
}

// DropPermits forgets permits that every copy has followed.
func (s *Service) DropPermits(ctx context.Context) error { return s.dropPermits(ctx) }

// Wanted is how many objects wait to be healed.
func (s *Service) Wanted() int { return len(s.wanted) }

// Open meets a copy, as the first step of a round does.
func (s *Service) Open(ctx context.Context, name string) error {
	_, err := s.find(name).open(ctx)
	return err
}
