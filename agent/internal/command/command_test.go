package command_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/command"
)

// run runs the program and gives its exit code and output.
func run(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code = command.Run(ctx, command.Environment{Args: args, Environ: environ, Stdout: &out, Stderr: &errOut})
	return code, out.String(), errOut.String()
}

func TestExitCodesAndErrorLines(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("worker: 3\nlog:\n  levle: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"version", []string{"version"}, 0, nil},
		{"help", []string{"--help"}, 0, nil},
		{"an unknown command", []string{"rnu"}, 2, []string{`error: tuskvault-agent: unknown word "rnu"`, "hint: "}},
		{"an unknown word after a command", []string{"run", "fast"}, 2, []string{`unknown word "fast"`}},
		{"an unknown flag", []string{"run", "--fast"}, 2, []string{"error: unknown flag: --fast"}},
		{"a config that is not there", []string{"run", "--config", filepath.Join(dir, "no.yaml")}, 3, []string{"no.yaml: no such file"}},
		{"unknown keys, all at once", []string{"run", "--config", bad}, 2, []string{`error: ` + bad + ` line 1: unknown key "worker"`, `error: ` + bad + ` line 3: unknown key "log.levle"`}},
		{"a bad level", []string{"run", "--state-dir", filepath.Join(dir, "s"), "--log-level", "loud"}, 2, []string{`log level "loud"`}},
		{"a state folder below a file", []string{"run", "--state-dir", filepath.Join(file, "s")}, 1, []string{"not a folder"}},
		{"no identity and no token", []string{"run", "--state-dir", filepath.Join(dir, "s")}, 4, []string{"error: this agent is not enrolled: start it once with --controller HOST:PORT and --token TOKEN"}},
	} {
		code, _, stderr := run(t, nil, tc.args...)
		if code != tc.code {
			t.Errorf("%s: exit code %d, want %d: %s", tc.name, code, tc.code, stderr)
		}
		for _, want := range tc.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: missing %q in:\n%s", tc.name, want, stderr)
			}
		}
	}
}

func TestPrintConfigShowsValuesAndOriginsAndNoSecret(t *testing.T) {
	code, stdout, stderr := run(t, []string{"TUSKVAULT_TOKEN=tv1.hunter2", "TUSKVAULT_LOG_LEVEL=debug"}, "run", "--print-config", "--name", "db1")
	if code != 0 {
		t.Fatalf("%d: %s", code, stderr)
	}
	for _, want := range []string{"name: db1 # flag --name", "level: debug # environment TUSKVAULT_LOG_LEVEL", "workers: 2 # default", "[redacted]"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("missing %q in:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("shows the token:\n%s", stdout)
	}
}

func TestTheDoctorsExitCodeTellsWhetherSomethingIsWrong(t *testing.T) {
	code, stdout, stderr := run(t, []string{"TUSKVAULT_INSTANCES=[{name: main, host: " + t.TempDir() + ", user: nobody}]"},
		"doctor", "--state-dir", filepath.Join(t.TempDir(), "none"))
	if code != 1 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{"warn  state folder: ", "fail  main: connection: ", "; fix: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("missing %q in:\n%s", want, stdout)
		}
	}
}
