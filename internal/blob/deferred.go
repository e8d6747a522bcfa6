package blob

import (
	"errors"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Deferred tells from the error of a Delete that the store does not let the
// object go yet, or not by these credentials: that is for later and no failure.
func Deferred(err error) bool {
	return errors.Is(err, errs.Locked) || errors.Is(err, errs.Denied)
}
