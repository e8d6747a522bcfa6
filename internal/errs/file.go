package errs

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// OfFile gives an error of the operating system about a file the kind that
// callers act on: Exhausted for a disk or quota that is full, ReadOnly, Denied,
// NotFound, Exists. Other errors, and nil, are given back as they are.
func OfFile(err error) error {
	for _, k := range []struct {
		cause error
		kind  *Kind
	}{{syscall.ENOSPC, Exhausted}, {syscall.EDQUOT, Exhausted}, {syscall.EROFS, ReadOnly}, {fs.ErrPermission, Denied}, {fs.ErrNotExist, NotFound}, {fs.ErrExist, Exists}} {
		if errors.Is(err, k.cause) {
			return fmt.Errorf("%w: %w", err, k.kind)
		}
	}
	return err
}
