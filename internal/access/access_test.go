package access_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestSavedFileIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "config.yaml")
	var f access.File
	for _, n := range []string{"prod", "lab"} {
		if err := f.Add(access.Context{Name: n, Address: n + ":7443", Root: "r", Certificate: "c", Key: "k\nl\n"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", st.Mode(), err)
	}
	got, err := access.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&f, got); d != "" {
		t.Fatal(d)
	}
	if c, err := got.Get(""); err != nil || c.Name != "prod" {
		t.Fatalf("current is %v, %v; want the first one added", c, err)
	}
}

func TestBadFilesAreRefusedWithTheReason(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		name, path string
		kind       *errs.Kind
		says       string
	}{
		{"absent", filepath.Join(dir, "none"), errs.NotFound, "none"},
		{"readable by others", write("open", "current: x\n", 0o644), errs.Denied, "chmod 600"},
		{"unknown key", write("key", "curent: x\n", 0o600), errs.Invalid, "curent"},
		{"doubled name", write("twice", "contexts: [{name: a}, {name: a}]\n", 0o600), errs.Invalid, `"a"`},
	} {
		_, err := access.Load(c.path)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v; want kind %v naming %s", c.name, err, c.kind, c.says)
		}
	}
}

func TestRemovingTheCurrentContextLeavesNone(t *testing.T) {
	var f access.File
	if err := errors.Join(f.Add(access.Context{Name: "a"}), f.Add(access.Context{Name: "b"}), f.Remove("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(""); !errors.Is(err, errs.NotFound) {
		t.Fatalf("got %v; want not found", err)
	}
	if err := f.Add(access.Context{Name: "b"}); !errors.Is(err, errs.Exists) {
		t.Fatalf("got %v; want exists", err)
	}
}

func TestPrintingAContextDoesNotPrintItsKey(t *testing.T) {
	c := access.Context{Name: "a", Key: "SECRET"}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(s, "SECRET") {
			t.Errorf("printed %s", s)
		}
	}
}
