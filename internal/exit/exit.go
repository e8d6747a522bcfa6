// Package exit is how Tuskvault's programs end: the one table of exit codes,
// and the lines in which an error is told to people.
package exit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// The exit codes. Scripts rely on them: never change one.
const (
	// OK: done.
	OK = 0
	// Failed: for a reason that has no code of its own.
	Failed = 1
	// Usage: the command line or the configuration makes no sense, or asks for
	// what this version cannot do.
	Usage = 2
	// NotFound: what was named does not exist.
	NotFound = 3
	// Denied: by a role, a certificate, a secret or file modes.
	Denied = 4
	// Unreachable: a controller or a store did not answer.
	Unreachable = 5
	// JobFailed: the job ended failed or canceled.
	JobFailed = 6
	// Damage: something stored is not what was written, or a comparison found a difference.
	Damage = 7
	// Timeout: the time ran out.
	Timeout = 8
	// Conflict: the state forbids it, or somebody else is at it.
	Conflict = 9
	// Interrupted is what shells expect after Ctrl-C.
	Interrupted = 130
)

// table maps kinds to exit codes. Every kind has a row.
var table = map[*errs.Kind]int{
	errs.NotFound:        NotFound,
	errs.Exists:          Conflict,
	errs.Invalid:         Usage,
	errs.Denied:          Denied,
	errs.Unauthenticated: Denied,
	errs.Conflict:        Conflict,
	errs.Busy:            Conflict,
	errs.Corrupt:         Damage,
	errs.Unavailable:     Unreachable,
	errs.Unsupported:     Usage,
	errs.Exhausted:       Failed,
	errs.ReadOnly:        Failed,
	errs.Locked:          Conflict,
	errs.Canceled:        Failed,
	errs.Timeout:         Timeout,
}

// usage is a command line that makes no sense.
type usage struct{ err error }

func (u usage) Error() string { return u.err.Error() }
func (u usage) Unwrap() error { return u.err }

// WrongUsage marks an error as one of the command line; nil stays nil.
func WrongUsage(err error) error {
	if err == nil {
		return nil
	}
	return usage{err}
}

// IsWrongUsage tells whether WrongUsage marked the error.
func IsWrongUsage(err error) bool {
	_, ok := errors.AsType[usage](err)
	return ok
}

// hinted is an error with what a person can do about it.
type hinted struct {
	err   error
	hints []string
}

func (h hinted) Error() string { return h.err.Error() }
func (h hinted) Unwrap() error { return h.err }

// Hint adds to an error what a person can do about it; nil stays nil.
func Hint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return hinted{err, hints}
}

// Hints gives what the outermost Hint added, nil when there is none.
func Hints(err error) []string {
	h, _ := errors.AsType[hinted](err)
	return h.hints
}

// Code gives the exit code for an error.
func Code(err error) int {
	switch {
	case err == nil:
		return OK
	case IsWrongUsage(err):
		return Usage
	}
	if code, ok := table[errs.KindOf(err)]; ok {
		return code
	}
	return Failed
}

// Tell writes an error for people: a line for each problem, then one for each hint.
func Tell(w io.Writer, err error, hints []string) {
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(w, "error: %s\n", strings.TrimRight(line, "\n")) // nothing can be done when standard error is gone
	}
	for _, h := range hints {
		_, _ = fmt.Fprintf(w, "hint: %s\n", h)
	}
}
