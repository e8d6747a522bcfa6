package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestAFileIsReplacedForItsUserAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, text := range []string{"one", "two"} {
		if err := durable.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%q %v", b, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestTheRestOfACutOffWriteIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := durable.WriteFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("after the crash: %q", b)
	}
	if err := durable.WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if b, _ := os.ReadFile(path); string(b) != "new" || len(files) != 1 {
		t.Errorf("%q, %d files", b, len(files))
	}
}

func TestAFailedWriteLeavesTheOldBytes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x", "y"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "x"), []byte("z")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files left", len(files))
	}
	if err := durable.WriteFile(filepath.Join(dir, "no", "x"), nil); err == nil {
		t.Error("a file in a folder that does not exist")
	}
}

func TestRemovingTwiceIsNoError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := durable.WriteFile(path, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := durable.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

func TestALockIsHeldOnceAndTakenAgainAfterItIsLetGoOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(path); !errors.Is(err, errs.Busy) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	if unlock, err = durable.Lock(path); err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := durable.Lock(filepath.Join(path, "below")); err == nil || errors.Is(err, errs.Busy) {
		t.Errorf("a lock below a file: %v", err)
	}
}
