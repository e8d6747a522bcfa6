package transfer

import (
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// ended tells what the end of a stream means where more was expected. The
// connection's own errors have their kind and the controller's words already.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the controller ended the stream: %w", errs.Unavailable)
	}
	return err
}
