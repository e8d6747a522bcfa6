package command_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/controller/internal/command"
	"github.com/tuskvault/tuskvault/internal/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs the program and gives its exit code and output.
func run(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = command.Run(t.Context(), command.Environment{Args: args, Environ: environ, Stdout: &out, Stderr: &errOut})
	return code, out.String(), errOut.String()
}

// want fails unless a run ends with the code and says the words on standard error.
func want(t *testing.T, name string, code int, words []string, args ...string) {
	t.Helper()
	got, _, stderr := run(t, nil, args...)
	if got != code {
		t.Errorf("%s: exit code %d, want %d: %s", name, got, code, stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			t.Errorf("%s: missing %q in:\n%s", name, w, stderr)
		}
	}
}

// initialized runs init and gives the state folder and the store's URL.
func initialized(t *testing.T) (state, store string) {
	t.Helper()
	dir := t.TempDir()
	state, store = filepath.Join(dir, "state"), "file://"+filepath.Join(dir, "store")
	code, stdout, stderr := run(t, nil, "init", "--state-dir", state, "--store", store, "--listen", "127.0.0.1:0")
	if code != 0 || stdout != "" || !strings.Contains(stderr, "tuskctl agent token create") {
		t.Fatalf("init: exit code %d, %q, %s", code, stdout, stderr)
	}
	return state, store
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongUsageIsTwoAndSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	bad := write(t, filepath.Join(dir, "bad.yaml"), "listn: x\njobs:\n  leese: 1m\n")
	for _, c := range []struct {
		name  string
		code  int
		args  []string
		words []string
	}{
		{"version", 0, []string{"version"}, nil},
		{"help", 0, []string{"--help"}, nil},
		{"an unknown command", 2, []string{"rnu"}, []string{`error: tuskvault-controller: unknown word "rnu"`, "hint: tuskvault-controller --help"}},
		{"an unknown word after a command", 2, []string{"run", "fast"}, []string{`unknown word "fast"`}},
		{"an unknown flag", 2, []string{"init", "--fast"}, []string{"error: unknown flag: --fast", "hint: "}},
		{"unknown keys, all at once", 2, []string{"run", "--state-dir", state, "--config", bad}, []string{"error: " + bad + ` line 1: unknown key "listn"`, "error: " + bad + ` line 3: unknown key "jobs.leese"`}},
		{"a config that is not there", 3, []string{"run", "--state-dir", state, "--config", bad + ".no"}, []string{"bad.yaml.no: no such file"}},
		{"a bad address", 2, []string{"init", "--state-dir", state, "--store", "file://" + dir + "/s", "--listen", "here"}, []string{`listen: "here"`}},
		{"a store of another kind", 2, []string{"init", "--state-dir", state, "--store", "gs://bucket"}, []string{"must be file:///absolute/path or s3://BUCKET"}},
		{"a bucket with a credential", 2, []string{"init", "--state-dir", state, "--store", "s3://key:secret@bucket"}, []string{"credentials are no part of a URL"}},
		{"run without init", 3, []string{"run", "--state-dir", state}, []string{"no controller.yaml", "hint: run: tuskvault-controller init --state-dir " + state}},
		{"admin-context without init", 3, []string{"admin-context", "--state-dir", state}, []string{"no controller.yaml", "hint: "}},
	} {
		want(t, c.name, c.code, c.words, c.args...)
	}
	if _, err := os.Stat(filepath.Join(dir, "s")); err == nil {
		t.Error("a refused init made a store")
	}
}

func TestInitRefusesWhatExists(t *testing.T) {
	state, store := initialized(t)
	want(t, "the same init again", 9, []string{"error: init: ", "controller.yaml is there", "hint: to use what is there: tuskvault-controller run --state-dir " + state},
		"init", "--state-dir", state, "--store", store)
	want(t, "another state folder, the same store", 9, []string{"error: ", "hint: name an empty folder as --store"},
		"init", "--state-dir", state+"2", "--store", store)
}

func TestInitRefusesAStoreThatIsNoFolderOrCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "")
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		closed = "/proc/sys" // modes do not stop root; nobody can make a folder here
	}
	for i, path := range []string{file, filepath.Join(file, "below"), filepath.Join(closed, "store")} {
		state := filepath.Join(dir, "state"+string(rune('0'+i)))
		code, _, stderr := run(t, nil, "init", "--state-dir", state, "--store", "file://"+path)
		if code == 0 || !strings.Contains(stderr, path) {
			t.Errorf("%s: exit code %d, %s", path, code, stderr)
		}
		if _, err := os.Stat(filepath.Join(state, "controller.yaml")); err == nil {
			t.Errorf("%s: init says that it is done", path)
		}
	}
}

func TestPrintConfigShowsValuesAndOriginsAndNoSecretAndMakesNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	code, stdout, stderr := run(t, []string{"TUSKVAULT_STATE_DIR=" + state, "TUSKVAULT_UNLOCK=env:HUNTER", "HUNTER=hunter2", "TUSKVAULT_LOG_LEVEL=debug"},
		"run", "--print-config", "--name", "backup1")
	if code != 0 {
		t.Fatalf("%d: %s", code, stderr)
	}
	for _, w := range []string{"state_dir: " + state + " # environment TUSKVAULT_STATE_DIR", "name: backup1 # flag --name",
		"level: debug # environment TUSKVAULT_LOG_LEVEL", "lease: 1m # default", "unlock: '[redacted]'"} {
		if !strings.Contains(stdout, w) {
			t.Errorf("missing %q in:\n%s", w, stdout)
		}
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the state folder was made")
	}
	_, inline, problem := run(t, []string{"TUSKVAULT_UNLOCK=hunter2"}, "run", "--print-config", "--state-dir", state)
	if strings.Contains(stdout+stderr+inline+problem, "hunter2") {
		t.Errorf("shows the secret:\n%s%s%s%s", stdout, stderr, inline, problem)
	}
}

func TestTheStateFolderMayBeNamedByAFile(t *testing.T) {
	state, store := initialized(t)
	file := write(t, filepath.Join(t.TempDir(), "controller.yaml"), "state_dir: "+state+"\n")
	code, stdout, stderr := run(t, nil, "run", "--print-config", "--config", file)
	if code != 0 || !strings.Contains(stdout, "state_dir: "+state+" # ") || !strings.Contains(stdout, "store: "+store+" # ") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, stdout)
	}
}

func TestAWrongUnlockSecretIsFour(t *testing.T) {
	state, _ := initialized(t)
	other, _ := initialized(t)
	for _, command := range []string{"run", "admin-context"} {
		want(t, command, 4, []string{"error: open repository ", "denied"}, command, "--state-dir", state, "--unlock", "file:"+filepath.Join(other, "unlock.key"))
	}
	want(t, "no such secret", 3, []string{"unlock the repository"}, "run", "--state-dir", state, "--unlock", "file:"+filepath.Join(state, "none"))
}

func TestARebuildAsOfATimeNeedsVersionsAndLeavesNothingElse(t *testing.T) {
	state, store := initialized(t)
	key, fresh := "file:"+filepath.Join(state, "unlock.key"), filepath.Join(t.TempDir(), "fresh")
	rebuild := []string{"rebuild", "--state-dir", fresh, "--store", store, "--unlock", key, "--listen", "127.0.0.1:0"}
	want(t, "no time", 2, []string{`error: --at: "yesterday" is no time as 2026-11-28T14:00:00Z`}, append(rebuild, "--at", "yesterday")...)
	want(t, "no versions", 2, []string{"keeps no versions of what was deleted", "hint: --at wants a bucket with versioning"}, append(rebuild, "--at", "2026-11-28T14:00:00Z")...)
	// Nothing has begun: a folder with anything in it would be refused, and the store is whole.
	want(t, "without a time", 0, []string{"epoch 2"}, rebuild...)
}

func TestAStateFolderInUseIsNine(t *testing.T) {
	state, _ := initialized(t)
	unlock, err := durable.Lock(filepath.Join(state, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for command, words := range map[string][]string{"run": nil, "admin-context": {"hint: stop the controller"}} {
		want(t, command, 9, append(words, "another controller uses it", state), command, "--state-dir", state)
	}
}

// stopper ends a run when a text is written.
type stopper struct {
	mu   sync.Mutex
	text string
	stop context.CancelFunc
	seen bytes.Buffer
}

func (s *stopper) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.Write(b); strings.Contains(s.seen.String(), s.text) {
		s.stop()
	}
	return len(b), nil
}

func TestAnAdminContextIsMadeAndTheControllerRunsUntilItIsStopped(t *testing.T) {
	state, _ := initialized(t)
	path := filepath.Join(state, "admin-context.yaml")
	want(t, "admin-context", 0, []string{"context    " + path + "\n", "kept       " + path + ".old", "TUSKCTL_CONFIG=" + path}, "admin-context", "--state-dir", state)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &stopper{text: "serving", stop: cancel}
	var stdout bytes.Buffer
	if code := command.Run(ctx, command.Environment{Args: []string{"run", "--state-dir", state}, Stdout: &stdout, Stderr: stderr}); code != 0 || stdout.Len() > 0 {
		t.Errorf("exit code %d, %q\n%s", code, &stdout, &stderr.seen)
	}
}
