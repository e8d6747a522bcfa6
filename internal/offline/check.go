package offline

import (
	"context"
	"path/filepath"

	"github.com/tuskvault/tuskvault/internal/check"
)

// Check finds out what is wrong with the repository, as check.Run does. What o
// says of repository and folder is replaced: those of the Reader are used.
func (r *Reader) Check(ctx context.Context, o check.Options) (*check.Report, error) {
	o.Repository, o.Dir, o.Resume = r.repository, filepath.Join(r.dir, "check"), false
	return check.Run(ctx, r.repository.Store(), o)
}
