package pack_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	w, err := pack.Create(dir, meta)
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, frameOf(t, []byte("one")))
	if err := errors.Join(w.Abort(), w.Abort()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestAbortAfterFinishKeepsThePackAndRemoveDropsIt(t *testing.T) {
	dir := t.TempDir()
	w, err := pack.Create(dir, meta)
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, frameOf(t, []byte("one")))
	s, err := w.Finish(packKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil || len(names(t, dir)) != 1 {
		t.Errorf("%v, %v", names(t, dir), err)
	}
	if err := s.Remove(); err != nil || len(names(t, dir)) != 0 {
		t.Errorf("%v, %v", names(t, dir), err)
	}
	if _, err := s.Open(); !errors.Is(err, errs.NotFound) {
		t.Errorf("open after remove: %v", err)
	}
}

func TestACrashLeavesOnlySpoolFilesAndStartCleansThem(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 { // crash before the first frame, before Finish, before Remove
		w, err := pack.Create(dir, meta)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			add(t, w, frameOf(t, []byte("one")))
		}
		if i > 1 {
			if _, err := w.Finish(packKey); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, other := range []string{"notes.txt", "pack-1", "a.spool"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "pack-folder.spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := pack.CleanSpool(dir); n != 3 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if diff := cmp.Diff([]string{"a.spool", "notes.txt", "pack-1", "pack-folder.spool"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	if n, err := pack.CleanSpool(filepath.Join(dir, "missing")); n != 0 || err != nil {
		t.Errorf("missing folder: %d, %v", n, err)
	}
}

func TestFinishNoticesASpoolFileThatLies(t *testing.T) {
	for what, harm := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 0) },
		"header overwritten": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 24), 0)
			return errors.Join(err, f.Close())
		},
	} {
		dir := t.TempDir()
		w, err := pack.Create(dir, meta)
		if err != nil {
			t.Fatal(err)
		}
		add(t, w, frameOf(t, []byte("one")))
		if err := harm(filepath.Join(dir, names(t, dir)[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Finish(packKey); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if err := w.Add(frameOf(t, []byte("more")), [32]byte{}); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s: add afterwards: %v", what, err)
		}
		if err := w.Abort(); err != nil || len(names(t, dir)) != 0 {
			t.Errorf("%s: abort: %v", what, err)
		}
	}
}

func TestAFullDiskEndsThePack(t *testing.T) {
	// A spool folder cannot be made full without mounting one; a file of the
	// device that always is stands for it.
	dir := t.TempDir()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	w, err := pack.Create(dir, meta)
	if err != nil {
		t.Fatal(err)
	}
	pack.Redirect(t, w, "/dev/full")
	frame := frameOf(t, []byte("one"))
	for range 2 {
		if err := w.Add(frame, seal.HashFrame(frame)); !errors.Is(err, errs.Exhausted) {
			t.Errorf("add: %v", err)
		}
	}
	if _, err := w.Finish(packKey); !errors.Is(err, errs.Exhausted) {
		t.Errorf("finish: %v", err)
	}
}

func TestAPackWithoutFramesIsNone(t *testing.T) {
	w := create(t)
	if _, err := w.Finish(packKey); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestAMissingSpoolFolderIsSaid(t *testing.T) {
	if _, err := pack.Create(filepath.Join(t.TempDir(), "missing"), meta); !errors.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestPackIDsAreRead(t *testing.T) {
	s, _ := finished(t, frameOf(t, []byte("one")))
	id, err := pack.ParseID(s.ID().String())
	if err != nil || id != s.ID() || id.IsZero() {
		t.Errorf("%s, %v", id, err)
	}
	for _, bad := range []string{"", "00", s.ID().String() + "00", "g" + s.ID().String()[1:]} {
		if _, err := pack.ParseID(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
