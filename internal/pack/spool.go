package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Spool files are named pack-*.spool, with a random number for the star, and
// are readable by their owner only.
const (
	spoolPrefix = "pack-"
	spoolSuffix = ".spool"
)

// CleanSpool removes the spool files that a crash left in a folder and tells
// how many. Call it at start, before any Create in that folder: a program has
// its spool folder to itself. Other files are left alone; a folder that does
// not exist is clean.
func CleanSpool(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("clean spool: %w", errs.OfFile(err))
	}
	removed := 0
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), spoolPrefix) || !strings.HasSuffix(e.Name(), spoolSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return removed, fmt.Errorf("clean spool: %w", errs.OfFile(err))
		}
		removed++
	}
	return removed, nil
}
