package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The exit codes. Scripts rely on them: never change one.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitJobFailed   = 6
	exitDamage      = 7
	exitTimeout     = 8
	exitConflict    = 9
	// exitInterrupted is what shells expect after Ctrl-C.
	exitInterrupted = 130
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// jobError says that a job ended without doing what it was asked for.
type jobError struct {
	message string
	hints   []string
}

func (e jobError) Error() string { return e.message }

// differenceError says that restored data differs or stored data is damaged.
type differenceError struct{ jobError }

// hinted adds what a person can do to an error.
type hinted struct {
	err   error
	hints []string
}

func (h hinted) Error() string { return h.err.Error() }
func (h hinted) Unwrap() error { return h.err }

func hint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return hinted{err, hints}
}

// errDetached ends a wait by Ctrl-C: the job goes on.
var errDetached = errors.New("detached; the job goes on")

// codes maps kinds to exit codes; a kind without a row is exitFailed.
var codes = map[*errs.Kind]int{
	errs.NotFound:        exitNotFound,
	errs.Denied:          exitDenied,
	errs.Unauthenticated: exitDenied,
	errs.Unavailable:     exitUnreachable,
	errs.Corrupt:         exitDamage,
	errs.Timeout:         exitTimeout,
	errs.Conflict:        exitConflict,
	errs.Exists:          exitConflict,
	errs.Busy:            exitConflict,
	errs.Invalid:         exitUsage,
}

func exitCode(err error) int {
	if _, ok := errors.AsType[differenceError](err); ok {
		return exitDamage
	}
	if _, ok := errors.AsType[jobError](err); ok {
		return exitJobFailed
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, errDetached) {
		return exitInterrupted
	}
	if c, ok := codes[errs.KindOf(err)]; ok {
		return c
	}
	return exitFailed
}

// report says an error on standard error: one line and its hints, or with
// -o json one object.
func (a *app) report(err error) {
	hints := hintsOf(err)
	if print.Format(a.output) == print.FormatJSON {
		if hints == nil {
			hints = []string{}
		}
		b, _ := json.Marshal(map[string]any{"error": err.Error(), "hints": hints, "exit_code": exitCode(err)}) // strings always marshal
		_, _ = fmt.Fprintln(a.Err, string(b))
		return
	}
	_, _ = fmt.Fprintf(a.Err, "error: %s\n", err)
	for _, h := range hints {
		_, _ = fmt.Fprintf(a.Err, "hint: %s\n", h)
	}
}

func hintsOf(err error) []string {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.hints
	}
	if d, ok := errors.AsType[differenceError](err); ok {
		return d.hints
	}
	if j, ok := errors.AsType[jobError](err); ok {
		return j.hints
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return []string{`run "tuskctl help" or the command with --help`}
	}
	switch errs.KindOf(err) {
	case errs.Unavailable:
		return []string{"is the controller running, and is the address of the context right?", `run "tuskctl context ls"`}
	case errs.Unauthenticated:
		return []string{`the certificate of this context is not accepted; run "tuskctl context ls" and use a context of this controller`}
	case errs.Denied:
		return []string{"your role does not allow this; ask an admin"}
	case errs.Timeout:
		return []string{"the controller is slow or the network is; try again with a longer --timeout"}
	}
	return nil
}

// say writes one line of people's words to standard error.
func (a *app) say(format string, args ...any) {
	_, _ = io.WriteString(a.Err, fmt.Sprintf(format, args...)+"\n") // nothing can be done when standard error is gone
}
