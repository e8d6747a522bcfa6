package exit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

// want is the table as it is promised to scripts.
var want = map[*errs.Kind]int{errs.NotFound: 3, errs.Exists: 9, errs.Invalid: 2, errs.Denied: 4, errs.Unauthenticated: 4, errs.Conflict: 9, errs.Busy: 9,
	errs.Corrupt: 7, errs.Unavailable: 5, errs.Unsupported: 2, errs.Exhausted: 1, errs.ReadOnly: 1, errs.Locked: 9, errs.Canceled: 1, errs.Timeout: 8}

func TestEveryKindHasItsExitCode(t *testing.T) {
	for _, kind := range errs.All() {
		code, ok := want[kind]
		if !ok {
			t.Errorf("kind %q has no promised exit code", kind)
		}
		if got := exit.Code(fmt.Errorf("do it: %w", kind)); got != code {
			t.Errorf("kind %q: exit code %d, want %d", kind, got, code)
		}
	}
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("no kind"), 1},
		{context.DeadlineExceeded, 8},
		{exit.Hint(fmt.Errorf("usage: %w", exit.WrongUsage(errs.NotFound)), "x"), 2},
	} {
		if got := exit.Code(c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
	if exit.WrongUsage(nil) != nil || exit.Hint(nil, "x") != nil {
		t.Error("nil became an error")
	}
}

func TestErrorsAreToldLineByLineWithTheirHints(t *testing.T) {
	err := fmt.Errorf("outer: %w", exit.Hint(errors.Join(errors.New("one"), errors.New("two")), "do this", "or that"))
	if !slices.Equal(exit.Hints(err), []string{"do this", "or that"}) || exit.Hints(errors.New("x")) != nil {
		t.Errorf("hints %q", exit.Hints(err))
	}
	var b strings.Builder
	exit.Tell(&b, err, exit.Hints(err))
	if got := b.String(); got != "error: outer: one\nerror: two\nhint: do this\nhint: or that\n" {
		t.Errorf("told %q", got)
	}
}
