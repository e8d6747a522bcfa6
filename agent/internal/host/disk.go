package host

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is a file system as a folder on it shows it.
type Space struct {
	// Device tells file systems apart.
	Device uint64
	// Free bytes for who is not root.
	Free int64
}

// SpaceOf looks at the file system that holds a folder. Only the folders above
// it must be open to us.
func SpaceOf(dir string) (Space, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	err := unix.Statfs(dir, &fs)
	if err == nil {
		err = unix.Stat(dir, &st)
	}
	if err != nil {
		return Space{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return Space{Device: uint64(st.Dev), Free: int64(fs.Bavail) * int64(fs.Bsize)}, nil
}
