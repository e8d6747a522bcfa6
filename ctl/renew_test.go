package ctl_test

import (
	"bytes"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/ctl"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/pki"
)

func TestConcurrentCallsRenewACertificateOnceAndLoseNoOtherChange(t *testing.T) {
	f, contexts, err := startFake(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	contexts.Current = "old"
	if err := contexts.Save(config); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		var stderr bytes.Buffer
		code := ctl.Run(t.Context(), append(args, "--config", config), ctl.Streams{Out: io.Discard, Err: &stderr, Env: func(string) string { return "" }})
		if code != 0 || stderr.Len() > 0 {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { run("status") })
	}
	all.Go(func() { run("context", "rm", "nobody") })
	all.Go(func() { run("context", "use", "good") })
	all.Wait()
	run("status", "--context", "old")
	got, err := access.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Get("nobody"); err == nil || got.Current != "good" {
		t.Errorf("a change was lost: current is %q", got.Current)
	}
	c, err := got.Get("old")
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := pki.ParseIdentity(c.Identity())
	if err != nil {
		t.Fatal(err)
	}
	before, err := contexts.Get("old")
	if err != nil {
		t.Fatal(err)
	}
	if c.Key == before.Key || c.Root != before.Root || time.Until(fresh.Leaf.NotAfter) < 80*24*time.Hour {
		t.Errorf("same key: %v, expires %s", c.Key == before.Key, fresh.Leaf.NotAfter)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.renewed != 1 {
		t.Errorf("renewed %d times", f.renewed)
	}
}
