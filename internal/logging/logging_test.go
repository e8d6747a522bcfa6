package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
)

func newLogs(t *testing.T, o logging.Options) *logging.Logging {
	t.Helper()
	l, err := logging.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestLinesAreJSONOffATerminalAndTextOnOne(t *testing.T) {
	var plain, terminal bytes.Buffer
	newLogs(t, logging.Options{Output: &plain}).Log.Named("agent").Info("starting attempt", logging.Bytes(7), logging.Duration(90*time.Second))
	var line map[string]any
	if err := json.Unmarshal(plain.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, plain.String())
	}
	for key, want := range map[string]any{"level": "info", "logger": "agent", "msg": "starting attempt", "bytes": 7.0, "duration": "1m30s"} {
		if line[key] != want {
			t.Errorf("%s: %v, want %v", key, line[key], want)
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %v: %v", line["time"], err)
	}
	newLogs(t, logging.Options{Output: &terminal, Terminal: true}).Log.Info("starting attempt")
	if strings.HasPrefix(terminal.String(), "{") {
		t.Errorf("on a terminal: %s", terminal.String())
	}
}

func TestTheLevelChangesWhileTheProgramRuns(t *testing.T) {
	var out bytes.Buffer
	l := newLogs(t, logging.Options{Output: &out, Level: "warn"})
	child := l.Log.Named("x")
	child.Info("hidden")
	if err := l.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	child.Debug("seen")
	l.Back()
	child.Info("hidden again")
	l.More()
	child.Info("one step")
	child.Debug("not two")
	for range 5 {
		l.More()
	}
	if l.Level() != "debug" {
		t.Errorf("level %s after many steps", l.Level())
	}
	if err := l.SetLevel("loud"); !errors.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
	for text, want := range map[string]bool{"hidden": false, "seen": true, "hidden again": false, "one step": true, "not two": false} {
		if got := strings.Contains(out.String(), `"`+text+`"`); got != want {
			t.Errorf("%q shown: %v, want %v", text, got, want)
		}
	}
}

func TestSignalsChangeTheLevel(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Held by the test too, so that a signal before Run has asked for it ends nothing.
	held := make(chan os.Signal, 16)
	signal.Notify(held, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(held)
	l := newLogs(t, logging.Options{Output: pw, Level: "info"})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	type line struct{ Msg, To string }
	lines := make(chan line)
	go func() {
		defer close(lines)
		for d := json.NewDecoder(pr); ; {
			var l line
			if d.Decode(&l) != nil {
				return
			}
			lines <- l
		}
	}()
	for _, step := range []struct {
		signal syscall.Signal
		want   string
	}{{syscall.SIGUSR1, "debug"}, {syscall.SIGUSR2, "info"}} {
		again := time.NewTicker(20 * time.Millisecond)
		for got := (line{}); got.To != step.want; {
			select {
			case got = <-lines:
				if got.Msg != "log level changed" {
					t.Errorf("%+v", got)
				}
			case <-again.C:
				if err := syscall.Kill(os.Getpid(), step.signal); err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no answer to %v", step.signal)
			}
		}
		again.Stop()
		if l.Level() != step.want {
			t.Errorf("level %s after %v, want %s", l.Level(), step.signal, step.want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = pw.Close()
	for range lines { // until the reader has seen the end
	}
}

func TestFilesAreRotatedBySize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.log")
	l := newLogs(t, logging.Options{File: path, MaxSizeMB: 1, MaxFiles: 2})
	for range 3000 {
		l.Log.Info("line", zap.String("filler", strings.Repeat("x", 1000)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20 {
		t.Errorf("%v %v", info, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Errorf("%d files: nothing was rotated", len(files))
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, o := range []logging.Options{{Level: "loud"}, {Format: "xml"}} {
		if _, err := logging.New(o); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := logging.New(logging.Options{File: "/no/such/folder/x.log"}); err == nil || !strings.Contains(err.Error(), "/no/such/folder") {
		t.Errorf("missing folder: %v", err)
	}
}
