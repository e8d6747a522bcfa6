package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// lockSuffix names the lock file beside a file of contexts.
const lockSuffix = ".lock"

// lockPoll is the pause between two tries to get the lock.
const lockPoll = 50 * time.Millisecond

// Change loads a file, lets change alter it, and saves it when change says that
// it did. A file that does not exist is an empty one. Other processes that
// change the same file meanwhile wait; after wait without the lock the error is
// Busy. A file that may not be written is ReadOnly, told before change is called.
func Change(ctx context.Context, path string, wait time.Duration, change func(*File) (changed bool, err error)) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("change contexts: %w", err)
	}
	unlock, err := lock(ctx, path+lockSuffix, wait)
	if err != nil {
		return fmt.Errorf("change contexts: %w", err)
	}
	defer unlock()
	f, err := Load(path)
	switch {
	case errors.Is(err, errs.NotFound):
		f = &File{}
	case err != nil:
		return err
	default:
		if err := writable(path); err != nil {
			return err
		}
	}
	if changed, err := change(f); err != nil || !changed {
		return err
	}
	return f.Save(path)
}

// lock takes the lock, trying again for a while.
func lock(ctx context.Context, path string, wait time.Duration) (unlock func(), err error) {
	for ends := time.Now().Add(wait); ; {
		unlock, err := durable.Lock(path)
		if !errors.Is(err, errs.Busy) || !time.Now().Before(ends) {
			return unlock, err
		}
		pause := time.NewTimer(lockPoll)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// writable refuses a file that its owner made read-only: replacing it by
// another would work, and be against what the owner wants.
func writable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("change contexts: %w", err)
	}
	if st.Mode().Perm()&0o200 == 0 {
		return fmt.Errorf("change contexts %s: the file has mode %04o: %w", path, st.Mode().Perm(), errs.ReadOnly)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("change contexts: %w: %w", err, errs.ReadOnly)
	}
	return f.Close()
}
