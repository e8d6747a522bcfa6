package repo

import (
	"encoding/binary"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// decoder reads big-endian fields of a binary object. The first field that goes
// beyond the end makes every later one zero and finish tell it, so that callers
// read straight down and ask once.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.rest) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) fill(dst []byte) { copy(dst, d.take(len(dst))) }

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// magic tells whether the next bytes are the given ones.
func (d *decoder) magic(want string) bool { return string(d.take(len(want))) == want }

// finish tells whether all fields were there and nothing follows them.
func (d *decoder) finish() error {
	switch {
	case d.failed:
		return fmt.Errorf("it breaks off: %w", errs.Corrupt)
	case len(d.rest) != 0:
		return fmt.Errorf("%d bytes follow its end: %w", len(d.rest), errs.Corrupt)
	}
	return nil
}
