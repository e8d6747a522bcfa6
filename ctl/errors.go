package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

// jobError says that a job ended without doing what it was asked for.
type jobError struct {
	message string
	hints   []string
}

func (e jobError) Error() string { return e.message }

// differenceError says that restored data differs or stored data is damaged.
type differenceError struct{ jobError }

// errDetached ends a wait by Ctrl-C: the job goes on.
var errDetached = errors.New("detached; the job goes on")

func exitCode(err error) int {
	if _, ok := errors.AsType[differenceError](err); ok {
		return exit.Damage
	}
	if _, ok := errors.AsType[jobError](err); ok {
		return exit.JobFailed
	}
	if errors.Is(err, errDetached) || errors.Is(err, errInterrupted) {
		return exit.Interrupted
	}
	return exit.Code(err)
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
	exit.Tell(a.Err, err, hints)
}

func hintsOf(err error) []string {
	if h := exit.Hints(err); h != nil {
		return h
	}
	if d, ok := errors.AsType[differenceError](err); ok {
		return d.hints
	}
	if j, ok := errors.AsType[jobError](err); ok {
		return j.hints
	}
	if exit.IsWrongUsage(err) {
		return []string{`run "tuskctl help" or the command with --help`}
	}
	switch errs.KindOf(err) {
	case errs.Unavailable:
		return []string{"is the controller running, and is the address of the context right?", `run "tuskctl context ls"`}
	case errs.Unauthenticated:
		return []string{`the certificate of this context is not accepted; run "tuskctl context ls" and use a context of this controller`}
	case errs.Denied:
		return []string{"the message says who refuses: for your role ask an admin, for an agent see allow: in its own configuration"}
	case errs.Timeout:
		return []string{"the controller is slow or the network is; try again with a longer --timeout"}
	}
	return nil
}

// say writes one line of people's words to standard error.
func (a *app) say(format string, args ...any) {
	_, _ = io.WriteString(a.Err, fmt.Sprintf(format, args...)+"\n") // nothing can be done when standard error is gone
}
