package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/index"
)

// verifyIndexes reads the local index files of every domain that was opened
// since, once: opening them looks at their ends only. Run calls it.
func (s *Server) verifyIndexes(ctx context.Context) {
	s.mu.Lock()
	var fresh []*domain
	for _, o := range s.domains {
		select {
		case <-o.done:
			if o.dom != nil && !o.dom.verified {
				o.dom.verified = true
				fresh = append(fresh, o.dom)
			}
		default:
		}
	}
	s.mu.Unlock()
	for _, d := range fresh {
		if err := s.verifyIndex(ctx, d); err != nil && ctx.Err() == nil {
			s.mu.Lock()
			d.verified = false // the next tick tries again
			s.mu.Unlock()
			s.o.Logger.Warn("index not verified, will try again", zap.Stringer("domain", d.id), zap.Error(err))
		}
	}
}

// verifyIndex verifies one domain's local index. What is damaged is made again
// from the directories of the packs that it covered; a chunk that a question
// calls missing meanwhile is stored twice, and no more.
//
// Steps: the mark of a complete index goes, the damaged files go, new ones come,
// the mark comes. A crash in between leaves no mark, and the next start makes
// the index again.
func (s *Server) verifyIndex(ctx context.Context, d *domain) error {
	err := d.set.Verify(ctx)
	damaged := index.DamagedFiles(err)
	if len(damaged) == 0 {
		return err
	}
	s.o.Logger.Error("index is damaged and is made again", zap.Stringer("domain", d.id), zap.Error(err))
	if err := d.indexing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer d.indexing.Release(1)
	complete := filepath.Join(s.o.IndexDir, d.id.String(), completeFile)
	if err := errors.Join(removeIfThere(complete), d.set.DropFiles(damaged)); err != nil {
		return err
	}
	packs, err := s.addUncovered(ctx, d, d.set)
	if err != nil {
		return fmt.Errorf("index packs of domain %s: %w", d.id, err)
	}
	if err := os.WriteFile(complete, nil, 0o600); err != nil {
		return fmt.Errorf("index packs of domain %s: %w", d.id, err)
	}
	s.o.Logger.Info("index is whole again", zap.Stringer("domain", d.id), zap.Int("packs_read", packs))
	return nil
}
