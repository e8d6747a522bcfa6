package export

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// free tells whether a name can be given to a new file or folder.
func free(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return fmt.Errorf("%s is there already: %w", path, errs.Exists)
	case !errors.Is(err, fs.ErrNotExist):
		return errs.OfFile(err)
	}
	return nil
}

// temporary gives a name beside path for what is not whole yet.
func temporary(path string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part-"+hex.EncodeToString(b[:]))
}

// place makes the output as a folder; see Run for the steps. fn fills it and
// syncs the files in it.
func (r *run) place(fn func(path string) error) (err error) {
	path := filepath.Clean(r.Output)
	if err := free(path); err != nil {
		return err
	}
	temp := temporary(path)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return errs.OfFile(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := fn(temp); err != nil {
		return err
	}
	if err := syncFolders(temp); err != nil {
		return err
	}
	if err := free(path); err != nil { // an empty folder would be replaced
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errs.OfFile(err)
	}
	return durable.SyncFolder(filepath.Dir(path))
}

// syncFolders makes the names in a folder, and in those below it, durable.
func syncFolders(path string) error {
	return filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durable.SyncFolder(p)
	})
}

// file makes the output as one script; see Run for the steps.
func (r *run) file(path string, fn func(io.Writer) error) (err error) {
	if path == "-" {
		return r.packed(r.Stdout, fn)
	}
	path = filepath.Clean(path)
	if err := free(path); err != nil {
		return err
	}
	temp := temporary(path)
	defer func() {
		// Once it has its name the temporary one is only another for it.
		if e := os.Remove(temp); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	if err := writeFile(temp, func(w io.Writer) error { return r.packed(w, fn) }); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what another process put there.
	if err := os.Link(temp, path); err != nil {
		return errs.OfFile(err)
	}
	return durable.SyncFolder(filepath.Dir(path))
}

// packed compresses a script if it is to be.
func (r *run) packed(w io.Writer, fn func(io.Writer) error) error {
	if !r.Compress {
		return fn(w)
	}
	z := gzip.NewWriter(w)
	return errors.Join(fn(z), z.Close())
}

// writeFile makes a new file, fills and syncs it.
func writeFile(path string, fn func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errs.OfFile(err)
	}
	err = fn(f)
	if err == nil {
		err = f.Sync()
	}
	return errs.OfFile(errors.Join(err, f.Close()))
}

// writePacked makes a new file compressed by gzip.
func writePacked(path string, fn func(io.Writer) error) error {
	return writeFile(path, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		return errors.Join(fn(z), z.Close())
	})
}
