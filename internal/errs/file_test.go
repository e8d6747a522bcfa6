package errs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestErrorsOfFilesGetTheKindThatCallersActOn(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "no"))
	_, there := os.OpenFile(t.TempDir(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	for _, c := range []struct {
		err  error
		want *errs.Kind
	}{
		{nil, nil}, {errors.New("other"), nil}, {missing, errs.NotFound}, {there, errs.Exists},
		{fmt.Errorf("write: %w", syscall.ENOSPC), errs.Exhausted}, {syscall.EDQUOT, errs.Exhausted}, {syscall.EROFS, errs.ReadOnly}, {syscall.EACCES, errs.Denied},
	} {
		got := errs.OfFile(c.err)
		if !errors.Is(got, c.err) || errs.KindOf(got) != c.want {
			t.Errorf("%v: %v, want kind %v", c.err, got, c.want)
		}
	}
}
