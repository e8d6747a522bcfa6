package access_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// add gives a change that adds a context.
func add(name string) func(*access.File) (bool, error) {
	return func(f *access.File) (bool, error) { return true, f.Add(access.Context{Name: name}) }
}

func TestConcurrentChangesAreAllKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.yaml")
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := access.Change(t.Context(), path, time.Minute, add(strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f, err := access.Load(path)
	if err != nil || len(f.Contexts) != 10 {
		t.Fatalf("%v, %v", f, err)
	}
}

func TestAChangeThatCannotGetTheLockIsBusyAndCanBeCanceled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	err := access.Change(t.Context(), path, 0, func(*access.File) (bool, error) {
		if err := access.Change(t.Context(), path, 0, add("a")); !errors.Is(err, errs.Busy) {
			t.Errorf("without waiting: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := access.Change(ctx, path, time.Hour, add("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		return false, nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := access.Load(path); !errors.Is(err, errs.NotFound) {
		t.Errorf("a change that changed nothing was saved: %v", err)
	}
}

func TestAReadOnlyFileIsToldBeforeAnythingIsDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("current: a\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	err := access.Change(t.Context(), path, 0, func(*access.File) (bool, error) {
		t.Error("the change was made")
		return true, nil
	})
	if !errors.Is(err, errs.ReadOnly) {
		t.Errorf("got %v", err)
	}
}

func TestAChangeBehindASymbolicLinkChangesTheFileAndKeepsTheLink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "link.yaml")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if err := access.Change(t.Context(), link, 0, add("a")); err != nil {
		t.Fatal(err)
	}
	if f, err := access.Load(path); err != nil || len(f.Contexts) != 1 {
		t.Errorf("the file: %v, %v", f, err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: %v, %v", st, err)
	}
}
