package erase

import "context"

// Finish is one round of Run.
func (s *Service) Finish(ctx context.Context) error { return s.finish(ctx) }
