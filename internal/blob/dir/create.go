package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// temporaryPrefix starts the names of files that are being written. No segment
// of a key starts with a dot, so none is ever taken for an object.
const temporaryPrefix = ".tmp-"

// Create writes a new object; see blob.Store.
//
// Durable steps, and what a crash after each leaves:
//  1. Folders that are missing are made, each made durable in its parent: an
//     empty folder, which is nothing.
//  2. A temporary file in the same folder is written and fsynced: a file that no
//     reader sees, swept when it is old.
//  3. link(2) gives it the final name, and fails if that exists: the whole
//     object, perhaps not yet durable; whoever finds it there by another Create
//     makes it durable before being told that it exists.
//  4. The temporary name is removed, the folder is fsynced: the object.
//
// After a failed fsync nothing of the file is believed: it is removed (its final
// name too, if it had got it), the error is errs.Unavailable or errs.Exhausted,
// and another Create starts from the body under a new temporary name. A second
// fsync of the same file could succeed although the bytes are lost.
func (s *Store) Create(ctx context.Context, key string, body blob.Body) error {
	path, err := s.begin(ctx, key)
	if err != nil {
		return fmt.Errorf("create object: %w", err)
	}
	if err := s.create(ctx, path, body); err != nil {
		return fmt.Errorf("create object %s: %w", key, err)
	}
	return nil
}

func (s *Store) create(ctx context.Context, path string, body blob.Body) error {
	folder := filepath.Dir(path)
	if err := s.ensureFolder(folder); err != nil {
		return kind(err)
	}
	// Not needed for the contract: it saves writing a pack that is there already.
	if _, err := os.Lstat(path); err == nil {
		return s.exists(path)
	}
	temporary, err := s.writeTemporary(ctx, folder, body)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody removed the folder after we had seen it: make it again, once.
		s.forget()
		if err = s.ensureFolder(folder); err == nil {
			temporary, err = s.writeTemporary(ctx, folder, body)
		}
	}
	if err != nil {
		return kind(err)
	}
	linkErr := s.files.Link(temporary, path)
	// The temporary name goes in any case; what it names stays if it was linked.
	removeErr := s.files.Remove(temporary)
	if errors.Is(linkErr, fs.ErrExist) {
		return s.exists(path)
	}
	if linkErr != nil {
		return kind(linkErr)
	}
	if err := s.syncFolder(folder); err != nil {
		// Unknown whether the name is durable: take it back, so that reading back says
		// the truth and the object is written anew.
		return errors.Join(kind(err), s.files.Remove(path))
	}
	// The object is durable. A temporary name left over is swept one day, and
	// reporting it would make a caller doubt what is done.
	_ = removeErr
	return nil
}

// exists says that the final name is taken, after making that durable: the one
// who linked it may have died before its own fsync, and our caller may rely on
// the object from now on.
func (s *Store) exists(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a folder or no regular file: %w", path, errs.Invalid)
	}
	if err := s.syncFolder(filepath.Dir(path)); err != nil {
		return kind(err)
	}
	return errs.Exists
}

// writeTemporary makes a whole, fsynced file under a temporary name. On error
// there is none.
func (s *Store) writeTemporary(ctx context.Context, folder string, body blob.Body) (_ string, err error) {
	path := filepath.Join(folder, temporaryPrefix+strings.ToLower(rand.Text()))
	f, err := s.files.Create(path)
	if err != nil {
		return "", err
	}
	closed := false
	defer func() {
		if err == nil {
			return
		}
		if !closed {
			err = errors.Join(err, f.Close())
		}
		err = errors.Join(err, s.files.Remove(path))
	}()
	if err := blob.CopyBody(contextWriter{ctx, f}, body); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", unsynced(err)
	}
	closed = true
	if err := f.Close(); err != nil { // a network file system tells a full disk here
		return "", err
	}
	return path, blob.Canceled(ctx)
}

// contextWriter fails when its context ends. It hides ReadFrom, so that a large
// copy is made in pieces between which the context is looked at.
type contextWriter struct {
	ctx context.Context // of the one call that the writer belongs to
	f   File
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := blob.Canceled(w.ctx); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

// ensureFolder makes a folder and its parents below the root where missing, and
// sees to it that the entry of each in its parent is durable, once a process:
// another process may have made it and died before its fsync.
func (s *Store) ensureFolder(folder string) error {
	s.mu.Lock()
	_, done := s.durable[folder]
	s.mu.Unlock()
	if done || folder == s.root {
		return nil
	}
	parent := filepath.Dir(folder)
	if err := s.ensureFolder(parent); err != nil {
		return err
	}
	if err := s.files.Mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(folder); err != nil {
		return err
	} else if !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: folder, Err: syscall.ENOTDIR}
	}
	if err := s.syncFolder(parent); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.durable) >= maxDurable {
		clear(s.durable)
	}
	s.durable[folder] = struct{}{}
	return nil
}

func (s *Store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.durable)
}

func (s *Store) syncFolder(folder string) error { return syncFolder(s.files, folder) }

func syncFolder(files Files, folder string) error {
	if err := files.SyncFolder(folder); err != nil {
		return unsynced(err)
	}
	return nil
}

// unsynced is a failed fsync, or opening for one. Only what is a fact about the
// store or the folder is told as such; all else may pass, with a new file.
func unsynced(err error) error {
	switch errs.KindOf(kind(err)) {
	case errs.Exhausted, errs.ReadOnly, errs.NotFound, errs.Denied:
		return err
	}
	return fmt.Errorf("%w: %w", err, errs.Unavailable)
}

// makeFolders is MkdirAll that makes every new entry durable.
func makeFolders(files Files, path string) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeFolders(files, parent); err != nil {
		return err
	}
	if err := files.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(files, parent)
}
