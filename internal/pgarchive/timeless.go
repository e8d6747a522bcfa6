package pgarchive

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// HeadSize is within what every archive's head up to its time of creation takes.
const HeadSize = 128

// Timeless writes the first of January 2000 over the time of creation in the
// beginning of an archive, at least HeadSize bytes of it or all there is, so that
// equal schemas give equal archives. Readers use that time for nothing but to
// show it. The error is Corrupt where there is no such beginning.
func Timeless(head []byte) error {
	const fixed = 11 // signature, version, sizes, format
	if len(head) < fixed || string(head[:5]) != "PGDMP" {
		return fmt.Errorf("it does not begin like a pg_dump archive: %w", errs.Corrupt)
	}
	size := int(head[8])
	at := fixed + 1
	if int(head[5])<<8|int(head[6]) < byteMethod {
		at = fixed + 1 + size
	}
	moment := [...]byte{0, 0, 0, 1, 0, 100, 0} // second, minute, hour, day, month, years since 1900, daylight saving
	if size < 1 || size > 8 || len(head) < at+len(moment)*(1+size) {
		return fmt.Errorf("the head of an archive is cut off, or has integers of %d bytes: %w", size, errs.Corrupt)
	}
	for _, n := range moment {
		clear(head[at : at+1+size]) // a sign, then the bytes from the lowest on
		head[at+1] = n
		at += 1 + size
	}
	return nil
}
