package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// Tool is a PostgreSQL client program found on the host.
type Tool struct {
	// Name is the program's, for example "pg_dump".
	Name string
	// Path is its full path.
	Path string
	// Version is its own, like server_version_num.
	Version pg.Version
}

// usualPlaces hold the versioned client programs of distributions.
var usualPlaces = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"}

// versionTimeout bounds "pg_dump --version".
const versionTimeout = 10 * time.Second

// Tools are the client programs of a host.
type Tools struct {
	// Found, in the order of the search, each path once.
	Found []Tool
	// Searched names the folders that were looked into.
	Searched []string
}

// FindTools looks for a program in dirs, in the usual places of distributions
// and in PATH. A program that does not tell its version is left out.
func FindTools(ctx context.Context, name string, dirs []string) Tools {
	places := slices.Clone(dirs)
	for _, pattern := range usualPlaces {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		places = append(places, found...)
	}
	places = append(places, filepath.SplitList(os.Getenv("PATH"))...)
	var t Tools
	seen := map[string]bool{}
	for _, dir := range places {
		if dir == "" || slices.Contains(t.Searched, dir) {
			continue
		}
		t.Searched = append(t.Searched, dir)
		path := filepath.Join(dir, name)
		if seen[path] || !executable(path) {
			continue
		}
		seen[path] = true
		if v, err := toolVersion(ctx, path); err == nil {
			t.Found = append(t.Found, Tool{Name: name, Path: path, Version: v})
		}
	}
	return t
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

func toolVersion(ctx context.Context, path string) (pg.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("ask %s for its version: it said %q: %w", path, strings.TrimSpace(string(out)), errs.Unsupported)
	}
	major, _ := strconv.Atoi(string(m[1])) // digits, by the pattern
	minor, _ := strconv.Atoi(string(m[2])) // digits or empty: 0
	return pg.Version(major*10000 + minor), nil
}

// For picks the program for a server: its own major, else the nearest newer
// one; of several with one major the first found. An older program refuses a
// newer server. The error (errs.NotFound, with a hint) names what was searched
// and what was found.
func (t Tools) For(name string, server pg.Version) (Tool, error) {
	var best Tool
	for _, tool := range t.Found {
		if tool.Version.Major() >= server.Major() && (best.Path == "" || tool.Version.Major() < best.Version.Major()) {
			best = tool
		}
	}
	if best.Path != "" {
		return best, nil
	}
	hint := fmt.Sprintf("install postgresql-client-%d (Debian, Ubuntu) or postgresql%d (Red Hat)", server.Major(), server.Major())
	if len(t.Found) == 0 {
		return best, WithHint(fmt.Errorf("find %s for server %s: none in %s: %w", name, server, strings.Join(t.Searched, ", "), errs.NotFound), hint)
	}
	var old []string
	for _, tool := range t.Found {
		old = append(old, tool.Path+" ("+tool.Version.String()+")")
	}
	return best, WithHint(fmt.Errorf("find %s for server %s: only older ones: %s: %w", name, server, strings.Join(old, ", "), errs.NotFound), hint)
}
