package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden makes a crash of this program leave no memory behind: no core file
// (RLIMIT_CORE 0, which the programs it starts inherit), none to a helper of the
// system either, and no other process of the same user may attach to it or read its memory
// (PR_SET_DUMPABLE 0). It cannot keep root out. It is called first of all, before
// any secret is read.
func Harden() error {
	err := errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	if err != nil {
		return fmt.Errorf("keep memory out of core files: %w", err)
	}
	return nil
}
