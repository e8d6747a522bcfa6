package config_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The test binary runs itself again as another user or in a mount namespace of
// its own: permission bits do not bite for root.
const (
	helperVariable = "TUSKVAULT_TEST_FOLDER"
	nobody         = 65534
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(helperVariable); folder != "" {
		os.Exit(helper(folder))
	}
	os.Exit(m.Run())
}

// helper prepares a folder and prints what came of it.
func helper(folder string) int {
	f := config.Folder{What: "state folder", Getenv: func(name string) string { return os.Getenv("FOLDER_" + name) }}
	if os.Getenv("FOLDER_NAMED") != "" {
		f.Path = folder
	} else {
		f.Default = folder
	}
	if os.Getenv("FOLDER_READ_ONLY") != "" {
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			fmt.Println("skip", err)
			return 0
		}
		if err := unix.Mount("none", folder, "tmpfs", unix.MS_RDONLY, "mode=700"); err != nil {
			fmt.Println("skip", err)
			return 0
		}
	}
	path, warning, err := f.Prepare()
	fmt.Printf("path=%s\nwarning=%s\nerror=%v\nkind=%v\n", path, warning, err, errs.KindOf(err))
	return 0
}

// as runs helper as nobody (when we are root) or as ourselves.
func as(t *testing.T, attr *syscall.SysProcAttr, folder string, env ...string) string {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(env, helperVariable+"="+folder)
	c.Dir = "/"
	c.SysProcAttr = attr
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// unprivileged gives the attributes of a process whom permission bits concern.
func unprivileged() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// open makes a folder that every user can pass through, and the test binary with it.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tuskvault folder")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for p := filepath.Dir(os.Args[0]); p != "/" && os.Geteuid() == 0; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(p, info.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// mkdir makes a folder with exactly this mode.
func mkdir(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func want(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("missing %q in:\n%s", p, out)
		}
	}
}

func TestAMissingFolderIsMadeForItsUserAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b c")
	got, warning, err := config.Folder{What: "state folder", Path: path}.Prepare()
	if err != nil || warning != "" || got != path {
		t.Fatalf("%q %q %v", got, warning, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(path); len(names) != 0 {
		t.Errorf("the check left %v", names)
	}
	if _, _, err := (config.Folder{What: "state folder", Path: path}).Prepare(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestAFolderThatOthersCanReachIsRefusedWithTheCommandThatMendsIt(t *testing.T) {
	for _, mode := range []os.FileMode{0o755, 0o770, 0o701} {
		path := mkdir(t, filepath.Join(t.TempDir(), "s"), mode)
		_, _, err := config.Folder{What: "state folder", Path: path}.Prepare()
		if !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "chmod 700 "+path) {
			t.Errorf("%04o named: %v", mode, err)
		}
		// Its state must not silently be looked for elsewhere.
		_, _, err = config.Folder{What: "state folder", Default: path, Getenv: func(string) string { return t.TempDir() }}.Prepare()
		if !errors.Is(err, errs.Denied) {
			t.Errorf("%04o default: %v", mode, err)
		}
	}
}

func TestAFolderBelowAFileIsRefused(t *testing.T) {
	file := write(t, "file", "x")
	for _, path := range []string{file, filepath.Join(file, "x")} {
		_, _, err := config.Folder{What: "state folder", Path: path}.Prepare()
		if !errors.Is(err, errs.ReadOnly) || !strings.Contains(err.Error(), "not a folder") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	home := t.TempDir()
	path, warning, err := config.Folder{What: "state folder", Default: filepath.Join(file, "x"),
		Getenv: func(name string) string { return map[string]string{"HOME": home}[name] }}.Prepare()
	if err != nil || path != filepath.Join(home, ".local/state/tuskvault") || !strings.Contains(warning, path) {
		t.Errorf("default: %q %q %v", path, warning, err)
	}
}

func TestADefaultFolderThatMayNotBeWrittenFallsBackWithAWarning(t *testing.T) {
	dir := open(t)
	closed := mkdir(t, filepath.Join(dir, "closed"), 0o555)
	state := mkdir(t, filepath.Join(dir, "xdg"), 0o777)
	out := as(t, unprivileged(), filepath.Join(closed, "tuskvault"), "FOLDER_XDG_STATE_HOME="+state)
	want(t, out, "path="+filepath.Join(state, "tuskvault")+"\n", "warning=state folder "+closed, "may not be made or written by user",
		"mend it with: sudo install -d -m 0700 -o ", "using "+filepath.Join(state, "tuskvault")+" instead", "error=<nil>")
	out = as(t, unprivileged(), filepath.Join(closed, "tuskvault"))
	want(t, out, "path=\n", "sudo install -d", "kind=denied")
}

func TestANamedFolderIsNeverReplaced(t *testing.T) {
	dir := open(t)
	closed := mkdir(t, filepath.Join(dir, "closed"), 0o555)
	state := mkdir(t, filepath.Join(dir, "xdg"), 0o777)
	out := as(t, unprivileged(), filepath.Join(closed, "named"), "FOLDER_NAMED=1", "FOLDER_XDG_STATE_HOME="+state)
	want(t, out, "path=\n", "warning=\n", "may not be made or written", "sudo install -d -m 0700 -o ", "'"+closed+"/named'", "kind=denied")
	if names, _ := os.ReadDir(state); len(names) != 0 {
		t.Errorf("the fallback was made: %v", names)
	}
}

func TestAFolderOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make another user's folder")
	}
	dir := open(t)
	theirs := mkdir(t, filepath.Join(dir, "theirs"), 0o700)
	if err := os.Chown(theirs, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// Root could write there, and would leave files that the owner cannot read.
	_, _, err := config.Folder{What: "state folder", Path: theirs}.Prepare()
	if !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "sudo chown -R root '"+theirs+"'") {
		t.Errorf("%v", err)
	}
	if out := as(t, unprivileged(), theirs, "FOLDER_NAMED=1"); !strings.Contains(out, "path="+theirs+"\n") {
		t.Errorf("its owner: %s", out)
	}
}

func TestAReadOnlyFileSystemIsTold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := open(t)
	folder := mkdir(t, filepath.Join(dir, "ro"), 0o700)
	state := mkdir(t, filepath.Join(dir, "xdg"), 0o777)
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out := as(t, attr, folder, "FOLDER_READ_ONLY=1", "FOLDER_NAMED=1")
	if strings.HasPrefix(out, "skip") {
		t.Skip(out)
	}
	want(t, out, "is on a read-only file system", "kind=read-only")
	out = as(t, attr, folder, "FOLDER_READ_ONLY=1", "FOLDER_XDG_STATE_HOME="+state)
	want(t, out, "path="+filepath.Join(state, "tuskvault"), "read-only file system", "error=<nil>")
}

func TestAnEmptyDefaultBesideAnEarlierFallbackIsTold(t *testing.T) {
	state := t.TempDir()
	old := mkdir(t, filepath.Join(state, "tuskvault"), 0o700)
	if err := os.WriteFile(filepath.Join(old, "identity.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "default")
	got, warning, err := config.Folder{What: "state folder", Default: path, Getenv: func(string) string { return state }}.Prepare()
	if err != nil || got != path || !strings.Contains(warning, old) {
		t.Errorf("%q %q %v", got, warning, err)
	}
}

func TestExistingMakesNothing(t *testing.T) {
	state := t.TempDir()
	f := config.Folder{What: "state folder", Default: filepath.Join(t.TempDir(), "d"), Getenv: func(string) string { return state }}
	if path, ok := f.Existing(); ok {
		t.Errorf("found %s", path)
	}
	fallback := mkdir(t, filepath.Join(state, "tuskvault"), 0o700)
	if path, ok := f.Existing(); !ok || path != fallback {
		t.Errorf("%s %v", path, ok)
	}
	if _, err := os.Stat(f.Default); err == nil {
		t.Error("the default folder was made")
	}
}
