package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// lookTimeout bounds the look at one instance for its folders.
const lookTimeout = 10 * time.Second

// near says why a base must not be used: it is, is in, or is above one of the
// folders that hold data. All paths are absolute and without symbolic links.
func near(base string, data []string) error {
	for _, d := range data {
		switch {
		case within(base, d):
			return fmt.Errorf("drill folder %s: it is inside of the data directory %s; set drill.dir to another: %w", base, d, errs.Conflict)
		case within(d, base):
			return fmt.Errorf("drill folder %s: the data directory %s is inside of it; set drill.dir to another: %w", base, d, errs.Conflict)
		}
	}
	return nil
}

// within tells whether a path is another or below it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(parent, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// checkPlace refuses a base near any data: that of the agent's instances, of
// every server that runs on this host, and of whatever looks like a data
// directory above it.
func checkPlace(ctx context.Context, base string, instances []postgres.Config) error {
	real, err := resolve(base)
	if err != nil {
		return fmt.Errorf("drill folder: %w", err)
	}
	for dir := real; ; dir = filepath.Dir(dir) {
		if looksLikeData(dir) {
			return near(real, []string{dir})
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	var data []string
	for _, folder := range append(foldersOf(ctx, instances), runningData(real)...) {
		if f, err := filepath.EvalSymlinks(folder); err == nil {
			folder = f
		}
		data = append(data, folder)
	}
	return near(real, data)
}

// resolve gives a path without symbolic links; the end of it need not exist.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return real, err
	}
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// looksLikeData tells whether a folder is a data directory or a tablespace.
func looksLikeData(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err == nil {
		return true
	}
	entries, err := filepath.Glob(filepath.Join(dir, "PG_[0-9]*_[0-9]*"))
	return err == nil && len(entries) > 0
}

// foldersOf asks instances for their data directories and tablespaces. One that
// does not answer runs nowhere, or is found by its process.
func foldersOf(ctx context.Context, instances []postgres.Config) []string {
	var all []string
	for _, cfg := range instances {
		all = append(all, foldersOfOne(ctx, cfg)...)
	}
	return all
}

func foldersOfOne(ctx context.Context, cfg postgres.Config) []string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, err := postgres.ConnectMaintenance(ctx, cfg, "tuskvault drill")
	if err != nil {
		return nil
	}
	defer c.Close(ctx)
	var all []string
	var folder pg.Name
	for _, q := range []string{
		"SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'",
		"SELECT l FROM pg_catalog.pg_tablespace t, pg_catalog.pg_tablespace_location(t.oid) l WHERE l <> ''",
	} {
		// What the role may not read is found by the server's process.
		_ = c.Each(ctx, q, nil, []any{&folder}, func() error {
			if filepath.IsAbs(string(folder)) {
				all = append(all, string(folder))
			}
			return nil
		})
	}
	return all
}
