package scrub

import (
	"context"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// copyRepository opens the repository in a copy.
func (c *Checker) copyRepository(ctx context.Context, name string) (*repo.Repository, error) {
	if c.copies == nil {
		return nil, fmt.Errorf("copy %q: this repository has no copies: %w", name, errs.NotFound)
	}
	r, err := c.copies.Repository(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("check copy %s: %w", name, err)
	}
	return r, nil
}

// heal puts good objects from other stores in the place of those that a check
// found damaged or missing, and says in words how many. The report stays what was
// found: the next check tells whether it is so no more.
func (c *Checker) heal(ctx context.Context, store string, r *check.Report) string {
	if c.copies == nil || len(c.copies.Names()) == 0 {
		return ""
	}
	tried, healed := 0, 0
	for _, f := range r.Findings {
		if f.Harmless && f.Kind != "index" || strings.HasSuffix(f.Object, "/") || f.Problem != check.Damaged && f.Problem != check.Missing {
			continue
		}
		tried++
		// Whole by now means that somebody else has healed it.
		if _, err := c.copies.Heal(ctx, store, f.Object); err == nil {
			healed++
		} else if ctx.Err() != nil {
			return ""
		}
	}
	if tried == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of %d objects were healed from another store", healed, tried)
}
