// Package dir is a blob.Store in a folder of a local or network file system. A
// key is a path below the folder; an object is a file that appears whole, by
// link(2), or not at all.
//
// Files are 0600 and folders 0700: whoever may read the store can at least see
// what is in clear in it. Files whose names start with a dot are the driver's
// own (or the operator's) and never objects.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	folderMode = 0o700
	fileMode   = 0o600
)

// Store keeps objects as files below a folder.
type Store struct {
	root  string
	self  fs.FileInfo // of the root, when it was opened
	files Files       // System, except in tests

	mu sync.Mutex
	// durable holds the folders whose own entries are known to be on stable storage.
	durable map[string]struct{}
}

// maxDurable bounds the folders remembered: 257 a domain that is written to.
// When it is full it is emptied, which costs a few needless fsyncs.
const maxDurable = 1 << 16

var _ blob.Store = (*Store)(nil)

// Create makes the folder, with parents, if it is not there, makes it durable
// and opens it.
func Create(path string) (*Store, error) { return CreateOn(System{}, path) }

// CreateOn is Create on a file system that a test watches or breaks.
func CreateOn(files Files, path string) (*Store, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("create store folder %s: %w", path, err)
	}
	if err := makeFolders(files, root); err != nil {
		return nil, fmt.Errorf("create store folder: %w", kind(err))
	}
	return OpenOn(files, path)
}

// Open opens a store in an existing folder. What a process that died had not yet
// made durable is made so: whoever reads the store from now on may rely on what
// it sees. Temporary files that writers who died left long ago are removed, as far
// as a short look finds them (see Sweep). A folder that does not exist is
// errs.NotFound: an unmounted disk must not turn into an empty store.
func Open(path string) (*Store, error) { return OpenOn(System{}, path) }

// OpenOn is Open on a file system that a test watches or breaks.
func OpenOn(files Files, path string) (*Store, error) {
	s, err := OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	s.files = files
	if err := files.SyncAll(s.root); err != nil {
		return nil, fmt.Errorf("open store folder %s: %w", s.root, kind(err))
	}
	// What cannot be swept (a read-only store) does no harm: it is no object.
	_, _ = s.sweep(s.root, foldersAtOpen, func() error { return nil })
	return s, nil
}

// OpenReadOnly is Open that changes nothing in the folder.
func OpenReadOnly(path string) (*Store, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store folder %s: %w", path, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("open store folder: %w", kind(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open store folder %s: it is no folder: %w", root, errs.Invalid)
	}
	return &Store{root: root, self: info, files: System{}, durable: map[string]struct{}{}}, nil
}

// Path is the store's folder.
func (s *Store) Path() string { return s.root }

// Features says that creates are atomic and durable.
func (s *Store) Features() blob.Features {
	return blob.Features{AtomicCreate: true, Durable: true, Location: s.root}
}

// Open reads a range of an object; see blob.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	path, err := s.begin(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", key, missing(err))
	}
	r, err := section(ctx, f, key, offset, length)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open object: %w", err), f.Close())
	}
	return r, nil
}

func section(ctx context.Context, f *os.File, key string, offset, length int64) (*reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", key, kind(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("object %s: %w", key, errs.NotFound)
	}
	n, err := blob.CheckRange(key, info.Size(), offset, length)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, key: key, file: f, section: io.NewSectionReader(f, offset, n), left: n}, nil
}

// reader gives a range of a file. It fails when its context ends, and when the
// file turns out shorter than it was.
type reader struct {
	ctx     context.Context // of the one call that the reader belongs to
	key     string
	file    *os.File
	section *io.SectionReader
	left    int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := blob.Canceled(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.section.Read(p)
	r.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && r.left > 0:
		return n, fmt.Errorf("read object %s: ends %d bytes early: %w", r.key, r.left, errs.Corrupt)
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("read object %s: %w", r.key, kind(err))
	}
	return n, err
}

func (r *reader) Close() error { return r.file.Close() }

// Stat tells an object's size and time; see blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Info, error) {
	path, err := s.begin(ctx, key)
	if err != nil {
		return blob.Info{}, fmt.Errorf("stat object: %w", err)
	}
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist // a folder of keys is no object
	}
	if err != nil {
		return blob.Info{}, fmt.Errorf("stat object %s: %w", key, missing(err))
	}
	return blob.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Delete removes an object and makes that durable; see blob.Store. Folders that
// become empty stay.
func (s *Store) Delete(ctx context.Context, key string) error {
	path, err := s.begin(ctx, key)
	if err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil // a folder of keys is no object
	}
	if err == nil {
		err = s.files.Remove(path)
	}
	if err != nil && !errors.Is(missing(err), errs.NotFound) {
		return fmt.Errorf("delete object %s: %w", key, kind(err))
	}
	// Also when it was gone already: whoever removed it may have died before this.
	if err := s.syncFolder(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete object %s: %w", key, kind(err))
	}
	return nil
}

// begin checks key and context and gives the object's path.
func (s *Store) begin(ctx context.Context, key string) (string, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", err
	}
	if err := blob.Canceled(ctx); err != nil {
		return "", err
	}
	if err := s.present(); err != nil {
		return "", err
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

// present tells whether the root is still the folder that was opened. A disk
// that was unmounted leaves an empty folder behind: without this look every
// object would be "not found", and writes would go to the disk below.
func (s *Store) present() error {
	info, err := os.Stat(s.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kind(err)
	}
	if err != nil || !os.SameFile(info, s.self) {
		return fmt.Errorf("store folder %s is gone or is another one now: %w", s.root, errs.Unavailable)
	}
	return nil
}

// missing is kind for the opening of an object that may not be there. Errors
// that say that a part of the path is no folder, or that the end is one, mean
// that there is no such object.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return errs.NotFound
	}
	return kind(err)
}

// kind gives the error of a system call its kind. The path stays in it: an
// operator who must mend a permission needs to know where.
func kind(err error) error {
	switch {
	case err == nil, errs.KindOf(err) != nil:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", err, errs.Exhausted)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, errs.ReadOnly)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, errs.Denied)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", err, errs.NotFound)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: %w", err, errs.Invalid)
	}
	// Input and output errors, stale handles, too many open files: they may pass.
	return fmt.Errorf("%w: %w", err, errs.Unavailable)
}
