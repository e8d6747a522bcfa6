package ctl_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tuskvault/tuskvault/ctl"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tuskctl": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		code := ctl.Run(ctx, os.Args[1:], ctl.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs each file of testdata against a controller of the tests'
// own: real TLS and real gRPC, answers from memory.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			_, f, err := startFake(e.Defer)
			if err != nil {
				return err
			}
			e.Setenv("TUSKCTL_CONFIG", filepath.Join(e.WorkDir, "config.yaml"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			return f.Save(filepath.Join(e.WorkDir, "config.yaml"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and wants the exit code given first.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// startFake starts a controller for one script and gives the contexts: "good"
// reaches it, "nobody" is not known to it, "gone" reaches nothing; "old" is due
// for renewal, "stale" too but is not renewed, "expired" is too late.
func startFake(cleanup func(func())) (*fake, *access.File, error) {
	now := time.Now()
	root, err := pki.NewRoot([16]byte{1}, now.Add(-24*time.Hour)) // older than every certificate below it
	if err != nil {
		return nil, nil, err
	}
	issuer, err := root.Issuer(1, now.Add(-24*time.Hour))
	if err != nil {
		return nil, nil, err
	}
	own := pki.NewServerCertificate(issuer, time.Hour)
	config, err := pki.ServerTLS(root.Certificate(), own.Certificate)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	f := &fake{now: now, issuer: issuer, jobs: map[string]*tuskvaultv1.Job{}}
	s := f.server(config)
	go func() { // waited for when the script ends
		defer close(served)
		_ = rpc.Serve(ctx, s, l, time.Second) // a server that fails shows in the script
	}()
	cleanup(func() { cancel(); <-served })
	out := &access.File{Current: "good"}
	for _, c := range []struct {
		context, operator string
		age               time.Duration // of a certificate that lives an hour
	}{{"good", "admin", 0}, {"nobody", "nobody", 0}, {"old", "admin", 50 * time.Minute}, {"stale", "admin", 57 * time.Minute}, {"expired", "admin", 61 * time.Minute}} {
		made, err := operator(issuer, c.operator, l.Addr().String(), now.Add(-c.age))
		if err != nil {
			return nil, nil, err
		}
		made.Name = c.context
		if err := out.Add(*made); err != nil {
			return nil, nil, err
		}
	}
	gone := out.Contexts[0]
	gone.Name, gone.Address = "gone", "127.0.0.1:1"
	return f, out, out.Add(gone)
}

func operator(issuer *pki.Issuer, name, address string, now time.Time) (*access.Context, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return nil, err
	}
	chain, err := issuer.IssueOperator(csr, name, now, time.Hour)
	if err != nil {
		return nil, err
	}
	id, err := pki.NewIdentity(key, chain.Certificates, issuer.Root().Raw, now)
	if err != nil {
		return nil, err
	}
	pem, err := id.PEM()
	if err != nil {
		return nil, err
	}
	c, err := access.FromIdentity(name, address, pem)
	return &c, err
}

// cancelAt cancels when a text is written.
type cancelAt struct {
	text   string
	cancel context.CancelFunc
	seen   strings.Builder
}

func (c *cancelAt) Write(b []byte) (int, error) {
	if c.seen.Write(b); strings.Contains(c.seen.String(), c.text) {
		c.cancel()
	}
	return len(b), nil
}

func TestInterruptingAWaitLeavesTheJobAloneAndSaysHowToGoOn(t *testing.T) {
	_, f, err := startFake(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := f.Save(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stderr := &cancelAt{text: "running, copying rows", cancel: cancel}
	code := ctl.Run(ctx, []string{"backup", "forever/main", "--wait", "--config", config}, ctl.Streams{Out: io.Discard, Err: stderr, Env: func(string) string { return "" }})
	if code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	for _, want := range []string{"the job goes on", "tuskctl job watch ", "tuskctl job cancel "} {
		if !strings.Contains(stderr.seen.String(), want) {
			t.Errorf("%q is missing from\n%s", want, stderr.seen.String())
		}
	}
}
