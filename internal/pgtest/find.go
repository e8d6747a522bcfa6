package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Find returns the folder of the server programs to use: TUSKVAULT_PG_BIN if it
// is set, else the newest of /usr/lib/postgresql/*/bin and /usr/pgsql-*/bin,
// else where PATH has initdb. It fails with errs.NotFound when there is none.
func Find() (string, error) {
	if dir := os.Getenv("TUSKVAULT_PG_BIN"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("TUSKVAULT_PG_BIN %s: no initdb and postgres in it: %w", dir, errs.NotFound)
		}
		return dir, nil
	}
	if all := installed(); len(all) > 0 {
		return all[0], nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil && hasServer(filepath.Dir(p)) {
			return filepath.Dir(p), nil
		}
	}
	return "", fmt.Errorf("find PostgreSQL server programs: not in TUSKVAULT_PG_BIN, /usr/lib/postgresql, /usr/pgsql-*, PATH: %w", errs.NotFound)
}

// installed lists the folders of whole installations, the newest major first.
func installed() []string {
	type found struct {
		major int
		dir   string
	}
	var all []found
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		dirs, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, dir := range dirs {
			if major, ok := majorOf(dir); ok && hasServer(dir) {
				all = append(all, found{major, dir})
			}
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].major > all[j].major })
	var dirs []string
	for _, f := range all {
		dirs = append(dirs, f.dir)
	}
	return dirs
}

// majorOf reads the major version from the name of an installation's folder.
func majorOf(dir string) (int, bool) {
	major, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "pgsql-"))
	return major, err == nil
}

func hasServer(dir string) bool {
	for _, p := range []string{"initdb", "postgres"} {
		if st, err := os.Stat(filepath.Join(dir, p)); err != nil || st.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// owner gives the identity the server runs under: nil for our own, which is
// right unless we are root.
func owner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("run PostgreSQL: it refuses root, and there is no user postgres or nobody: %w", errs.Unsupported)
}
