package faultfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/faultfs"
)

func mounted(t *testing.T, seed uint64) *faultfs.Disk {
	t.Helper()
	d, err := faultfs.Mount(t.TempDir(), rand.New(rand.NewPCG(seed, 1)))
	if err != nil {
		if os.Getenv("REQUIRE_SERVICES") == "1" && os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := d.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// syncFile fsyncs a file or a folder.
func syncFile(t *testing.T, path string) error {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	return errors.Join(f.Sync(), f.Close())
}

// TestADiskKeepsWhatWasSyncedAndMayLoseTheRest looks for each outcome that a
// power loss may have, and for none that it may not.
func TestADiskKeepsWhatWasSyncedAndMayLoseTheRest(t *testing.T) {
	d := mounted(t, 1)
	old, fresh := bytes.Repeat([]byte("o"), 8<<10), bytes.Repeat([]byte("n"), 8<<10)
	outcomes := map[string]int{}
	for range 60 {
		kept, loose, folder := filepath.Join(d.Path(), "kept"), filepath.Join(d.Path(), "loose"), filepath.Join(d.Path(), "folder")
		must(t, os.WriteFile(kept, old, 0o600))
		must(t, syncFile(t, kept))
		must(t, syncFile(t, d.Path()))
		f, err := os.OpenFile(kept, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(fresh[:4<<10], 2<<10) // not synced
		must(t, errors.Join(err, f.Close()))
		must(t, os.WriteFile(loose, fresh, 0o600))
		must(t, syncFile(t, loose)) // its name is not
		must(t, os.Mkdir(folder, 0o700))
		d.Lose()
		if _, err := os.ReadDir(d.Path()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("without power: %v", err)
		}
		must(t, d.Restart())
		b, err := os.ReadFile(kept)
		must(t, err)
		for at := 0; at < len(b); at += 512 {
			switch sector := string(b[at : at+512]); {
			case sector == string(old[:512]):
				outcomes["old sector"]++
			case sector == string(fresh[:512]) && at >= 2<<10 && at < 6<<10:
				outcomes["new sector"]++
			default:
				t.Fatalf("sector %d is neither", at/512)
			}
		}
		if b, err := os.ReadFile(loose); err == nil {
			outcomes["name kept"]++
			if !bytes.Equal(b, fresh) {
				t.Fatal("a synced file is torn")
			}
		} else {
			outcomes["name lost"]++
		}
		if _, err := os.Stat(folder); err == nil {
			outcomes["folder kept"]++
		} else {
			outcomes["folder lost"]++
		}
		must(t, errors.Join(os.RemoveAll(loose), os.RemoveAll(folder), os.Remove(kept), syncFile(t, d.Path())))
	}
	if len(outcomes) != 6 {
		t.Errorf("only %v", outcomes)
	}
}

func TestAfterAFailedFsyncTheNextOneSucceedsAndTheBytesAreGone(t *testing.T) {
	d := mounted(t, 2)
	path := filepath.Join(d.Path(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, errors.Join(syncFile(t, path), syncFile(t, d.Path())))
	data := bytes.Repeat([]byte("x"), 16<<10)
	must(t, os.WriteFile(path, data, 0o600))
	d.Fail(func(op faultfs.Op, _ string) syscall.Errno {
		if op == faultfs.OpFsync {
			return syscall.EIO
		}
		return 0
	})
	if err := syncFile(t, path); !errors.Is(err, syscall.EIO) || d.Failed() != 1 {
		t.Fatalf("fsync: %v, %d failed", err, d.Failed())
	}
	d.Fail(nil)
	must(t, syncFile(t, path))
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, data) {
		t.Errorf("before the loss: %d bytes, %v", len(b), err)
	}
	d.Lose()
	must(t, d.Restart())
	if b, err := os.ReadFile(path); err != nil || len(b) != len(data) || bytes.Equal(b, data) {
		t.Errorf("after it: %d bytes as written, %v", len(b), err)
	}
}
