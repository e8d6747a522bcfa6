package dir

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files are the calls by which a store changes its file system and makes the
// changes durable. Reading needs no seam: it changes nothing. System is the real
// one; blobtest.Disk loses at a power loss what a disk may lose.
type Files interface {
	// Create makes a file that does not exist, mode 0600, for writing.
	Create(path string) (File, error)
	// Mkdir makes a folder, mode 0700.
	Mkdir(path string) error
	// Link gives the file from a second name, which does not exist.
	Link(from, to string) error
	// Remove takes a name away.
	Remove(path string) error
	// SyncFolder makes the names in a folder durable.
	SyncFolder(path string) error
	// SyncAll makes the whole file system durable that path is on. One that cannot
	// do that (read-only, without the call) is no error.
	SyncAll(path string) error
}

// File is a file that is being written.
type File interface {
	io.WriteCloser
	// Sync makes the bytes written durable, not the file's name.
	Sync() error
}

// System is the operating system's file system.
type System struct{}

var _ Files = System{}

// Create is open(2) with O_EXCL, which follows no link.
func (System) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, err // no typed nil in an interface
	}
	return f, nil
}

// Mkdir is mkdir(2).
func (System) Mkdir(path string) error { return os.Mkdir(path, folderMode) }

// Link is link(2).
func (System) Link(from, to string) error { return os.Link(from, to) }

// Remove is unlink(2) or rmdir(2).
func (System) Remove(path string) error { return os.Remove(path) }

// SyncFolder is fsync(2) of a folder.
func (System) SyncFolder(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

// SyncAll is syncfs(2).
func (System) SyncAll(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = unix.Syncfs(int(f.Fd()))
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
