package ingest

import "context"

// ReadAheadIsFree tells whether no download holds any of the memory that all
// share for reading ahead.
func (s *Server) ReadAheadIsFree() bool {
	if !s.ahead.TryAcquire(readAheadTotal) {
		return false
	}
	s.ahead.Release(readAheadTotal)
	return true
}

// SpoolPacks is the bound of packs in the spool folder.
const SpoolPacks = spoolPacks

// VerifyIndexes is what Run does now and then.
func (s *Server) VerifyIndexes(ctx context.Context) { s.verifyIndexes(ctx) }
