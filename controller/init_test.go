package controller_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// fresh gives the configuration of an init in empty folders.
func fresh(t *testing.T) controller.Config {
	t.Helper()
	dir := t.TempDir()
	c := controller.DefaultConfig()
	c.StateDir, c.Store, c.Listen = filepath.Join(dir, "state"), "file://"+filepath.Join(dir, "store"), "127.0.0.1:0"
	c.Prune.Ballast = 0
	if err := os.Mkdir(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func there(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestInitMakesAContextThatCarriesTheFirstAdmin(t *testing.T) {
	c := fresh(t)
	made, err := controller.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if there(t, controller.UnfinishedFile(c.StateDir)) || !there(t, controller.DecisionsFile(c.StateDir)) {
		t.Error("init is done and does not say so")
	}
	for _, secret := range []string{made.Context, made.KeyFile} {
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, info.Mode(), err)
		}
	}
	file, err := access.Load(made.Context)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := file.Get("")
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.ParseIdentity(entry.Identity())
	if err != nil || id.Peer.Operator != controller.FirstOperator || id.Peer.Repository != made.Repository {
		t.Errorf("identity %+v, %v", id, err)
	}
}

func TestInitTouchesNothingThatExists(t *testing.T) {
	c := fresh(t)
	if _, err := controller.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, filepath.Dir(c.StateDir))
	if _, err := controller.Init(t.Context(), c); errs.KindOf(err) != errs.Exists || !strings.Contains(err.Error(), "controller.yaml") {
		t.Errorf("init again: %v", err)
	}
	other := fresh(t)
	other.Store = c.Store
	for range 2 { // the second must not take the store for one that the first began
		if _, err := controller.Init(t.Context(), other); errs.KindOf(err) != errs.Exists {
			t.Errorf("init with a used store: %v", err)
		}
	}
	if after := snapshot(t, filepath.Dir(c.StateDir)); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

// snapshot gives names, sizes and times of all files below a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A crash is made by taking away what the later steps have written.
func TestAnInitThatWasCutOffIsMadeWhole(t *testing.T) {
	for _, lost := range [][]string{
		{"controller.yaml"},
		{"controller.yaml", "admin-context.yaml"},
		{"controller.yaml", "admin-context.yaml", "catalog.db"},
		{"controller.yaml", "admin-context.yaml", "catalog.db", "STORE"},
		{"controller.yaml", "admin-context.yaml", "catalog.db", "STORE", "unlock.key"},
	} {
		c := fresh(t)
		if _, err := controller.Init(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, name := range lost {
			path := filepath.Join(c.StateDir, name)
			if name == "STORE" {
				path = strings.TrimPrefix(c.Store, "file://")
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(controller.UnfinishedFile(c.StateDir), []byte(c.Store), 0o600); err != nil {
			t.Fatal(err)
		}
		elsewhere := c
		elsewhere.Store += "2"
		if _, err := controller.Init(t.Context(), elsewhere); errs.KindOf(err) != errs.Conflict {
			t.Errorf("without %v, another store: %v", lost, err)
		}
		if _, err := controller.Init(t.Context(), c); err != nil {
			t.Errorf("without %v: %v", lost, err)
			continue
		}
		serves(t, c)
	}
}
