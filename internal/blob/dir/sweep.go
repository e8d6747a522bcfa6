package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
)

const (
	// oldAge is when a temporary file is taken for left over. A pack is written
	// within minutes, and every write renews the file's time; a writer whose file is
	// taken away fails at link(2) and starts again.
	oldAge = 24 * time.Hour
	// foldersAtOpen bounds the folders that opening a store looks into, a second's
	// work on a slow disk. Sweep looks into all.
	foldersAtOpen = 1024
)

// Sweep removes temporary files that have not been written to for a day, in the
// whole store, and returns how many. It is for an hour of quiet: it reads every
// folder.
func (s *Store) Sweep(ctx context.Context) (removed int, err error) {
	removed, err = s.sweep(s.root, -1, func() error { return blob.Canceled(ctx) })
	if err != nil {
		return removed, fmt.Errorf("sweep store folder: %w", kind(err))
	}
	return removed, nil
}

// sweep looks into folder and those below it, at most limit folders if that is
// not negative, and stops when goOn says so.
func (s *Store) sweep(folder string, limit int, goOn func() error) (removed int, err error) {
	queue := []string{folder} // nearest first, so that a limit spends itself evenly
	for looked := 0; len(queue) > 0 && looked != limit; looked++ {
		if err := goOn(); err != nil {
			return removed, err
		}
		path := queue[0]
		queue = queue[1:]
		n, below, err := s.sweepFolder(path)
		removed += n
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		if limit < 0 || len(queue) < limit {
			queue = append(queue, below...)
		}
	}
	return removed, nil
}

func (s *Store) sweepFolder(path string) (removed int, below []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		found, err := f.ReadDir(readEntries)
		for _, d := range found {
			full := filepath.Join(path, d.Name())
			switch {
			case d.IsDir() && !strings.HasPrefix(d.Name(), "."):
				below = append(below, full)
			case d.Type().IsRegular() && strings.HasPrefix(d.Name(), temporaryPrefix):
				if s.removeOld(full) {
					removed++
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return removed, below, nil
		}
		if err != nil {
			return removed, below, err
		}
	}
}

// removeOld tells whether it removed the file. One that cannot be removed is
// left for the next sweep.
func (s *Store) removeOld(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && time.Since(info.ModTime()) > oldAge && s.files.Remove(path) == nil
}
