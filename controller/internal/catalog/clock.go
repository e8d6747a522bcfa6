package catalog

import (
	"errors"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Clock gives what is known of the controller's clock, nothing when it was never
// looked at.
func (tx *Tx) Clock() (Clock, error) {
	c, err := get(tx, bucketClock, []byte(keyClock), "clock", fromClock)
	if errors.Is(err, errs.NotFound) {
		return Clock{}, nil
	}
	return c, err
}

// PutClock replaces it.
func (tx *Tx) PutClock(c Clock) error { return tx.put(bucketClock, []byte(keyClock), toClock(c)) }
