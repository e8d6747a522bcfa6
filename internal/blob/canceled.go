package blob

import (
	"context"
	"errors"
	"fmt"
)

// Canceled is nil while ctx goes on; then an error that is both the context's
// cause and its Err, so that it reads as the first and has the kind of the
// second whatever the cause is.
func Canceled(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, err)
}
