package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Folder asks for a folder that a program keeps its state in.
type Folder struct {
	// What it is for people, for example "state folder".
	What string
	// Path that the user named; empty means Default.
	Path string
	// Default is used when none was named; when it cannot be written the program
	// falls back to $XDG_STATE_HOME/tuskvault.
	Default string
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
}

// folderError is why a folder cannot be used, with the command that mends it.
type folderError struct {
	what, path, reason, mend string
	kind                     error
	// unwritable tells that another folder may stand in.
	unwritable bool
}

// Error says what is wrong and what mends it.
func (e *folderError) Error() string {
	s := fmt.Sprintf("%s %s: %s", e.what, e.path, e.reason)
	if e.mend != "" {
		s += "; mend it with: " + e.mend
	}
	return s
}

// Unwrap gives the kind.
func (e *folderError) Unwrap() error { return e.kind }

// Prepare makes the folder with mode 0700 if it is missing, and checks before
// use that it belongs to this user, that others have no access to it and that
// files can be made in it. It gives the absolute path and, where another folder
// than the default is used, a warning that says which and why. A folder that the
// user named is never replaced by another.
func (f Folder) Prepare() (path, warning string, err error) {
	if f.Path != "" {
		path, err = f.check(f.Path)
		return path, "", err
	}
	path, err = f.check(f.Default)
	fallback, known := f.fallback()
	if err == nil {
		if known && isEmpty(path) && !isEmpty(fallback) {
			warning = fmt.Sprintf("%s %s is in use and empty; an earlier run kept its files in %s", f.What, path, fallback)
		}
		return path, warning, nil
	}
	cause, ok := errors.AsType[*folderError](err)
	if !ok || !cause.unwritable || !known {
		return "", "", err
	}
	path, err2 := f.check(fallback)
	if err2 != nil {
		return "", "", errors.Join(err, err2)
	}
	return path, fmt.Sprintf("%v; using %s instead", err, path), nil
}

// Existing gives the folder that Prepare would find, without making any: the
// named one, else the default, else the fallback.
func (f Folder) Existing() (path string, ok bool) {
	candidates := []string{f.Path}
	if f.Path == "" {
		candidates = []string{f.Default}
		if fallback, known := f.fallback(); known {
			candidates = append(candidates, fallback)
		}
	}
	for _, c := range candidates {
		if _, err := os.Stat(c); err == nil {
			return c, true
		}
	}
	return "", false
}

// fallback gives the folder in the user's own home.
func (f Folder) fallback() (string, bool) {
	getenv := f.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if x := getenv("XDG_STATE_HOME"); filepath.IsAbs(x) {
		return filepath.Join(x, "tuskvault"), true
	}
	if h := getenv("HOME"); filepath.IsAbs(h) {
		return filepath.Join(h, ".local", "state", "tuskvault"), true
	}
	return "", false
}

// check makes and checks one folder.
func (f Folder) check(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.What, err)
	}
	if err := f.create(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", f.broken(path, err)
	}
	if err := f.owned(path, info); err != nil {
		return "", err
	}
	// Permission bits do not tell everything (read-only mounts, root, quotas): try.
	probe, err := os.CreateTemp(path, ".probe-*")
	if err != nil {
		return "", f.broken(path, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", f.broken(path, err)
	}
	return path, nil
}

// create makes the folder and what is missing above it. Only the last gets 0700:
// the ones above may be shared.
func (f Folder) create(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return f.broken(path, err)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return f.broken(path, err)
	}
	return nil
}

// owned checks kind, owner and mode.
func (f Folder) owned(path string, info fs.FileInfo) error {
	if !info.IsDir() {
		return f.broken(path, syscall.ENOTDIR)
	}
	uid := os.Geteuid()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
		return &folderError{what: f.What, path: path, kind: errs.Denied, unwritable: true,
			reason: fmt.Sprintf("belongs to user %s, and this program runs as %s", userName(int(st.Uid)), userName(uid)),
			mend:   fmt.Sprintf("sudo chown -R %s %s", userName(uid), quote(path))}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &folderError{what: f.What, path: path, kind: errs.Denied,
			reason: fmt.Sprintf("mode %04o lets others at it", mode), mend: "chmod 700 " + quote(path)}
	}
	return nil
}

// broken says in one line what the system's error means and what mends it.
func (f Folder) broken(path string, err error) error {
	e := &folderError{what: f.What, path: path, kind: errs.ReadOnly, unwritable: true,
		mend: fmt.Sprintf("sudo install -d -m 0700 -o %s %s", userName(os.Geteuid()), quote(path))}
	switch {
	case errors.Is(err, syscall.EROFS):
		e.reason, e.mend = "is on a read-only file system", "name a folder that can be written, or mount it read-write"
	case errors.Is(err, fs.ErrPermission):
		e.reason, e.kind = "may not be made or written by user "+userName(os.Geteuid()), errs.Denied
	case errors.Is(err, syscall.ENOTDIR):
		e.reason, e.mend = "is not a folder, or lies below a file", "name another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.reason, e.kind, e.unwritable, e.mend = "its disk is full", errs.Exhausted, false, "free some space"
	default:
		e.reason = err.Error()
	}
	return e
}

// isEmpty tells whether a folder has nothing in it, or does not exist.
func isEmpty(path string) bool {
	d, err := os.Open(path)
	if err != nil {
		return true
	}
	defer d.Close() //nolint:errcheck // only read from
	names, _ := d.Readdirnames(1)
	return len(names) == 0
}

// userName gives a user's name, or the number.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// quote makes a path safe to paste into a shell.
func quote(path string) string {
	if strings.ContainsAny(path, " \t\n'\"\\$`;&|<>(){}[]*?!~#") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
