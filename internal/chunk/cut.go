package chunk

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// LargestMax is the greatest Params.Max that any domain may have, in bytes. It
// bounds every buffer that holds one chunk, on both sides and in every reader,
// whatever a stored parameter claims: 16 MiB is sixteen times the default and
// still harmless on a small host.
const LargestMax = 16 << 20

// Params are the cutting parameters of a domain, in bytes of plaintext. They
// are fixed when the domain is made: other parameters give other chunks.
type Params struct {
	// Target steers the mean distance of cuts beyond Min.
	Target int
	// Min is the least number of bytes in a chunk that is cut by content.
	Min int
	// Max is the greatest number of bytes in any chunk.
	Max int
}

// DefaultParams give chunks of about 253 KiB on average.
var DefaultParams = Params{Target: 192 << 10, Min: 64 << 10, Max: 1 << 20}

// Validate refuses, with errs.Invalid, parameters that cannot work: it must
// hold that 1 <= Min <= Target <= Max <= LargestMax.
func (p Params) Validate() error {
	if p.Min < 1 || p.Target < p.Min || p.Max < p.Target || p.Max > LargestMax {
		return fmt.Errorf("cutting parameters min %d, target %d, max %d: must rise, from 1 to at most %d: %w",
			p.Min, p.Target, p.Max, LargestMax, errs.Invalid)
	}
	return nil
}

// Cutter decides where a stream of rows is cut. It keeps no state of the
// stream: its answers depend on the key, the row and the bytes in the chunk
// alone. One goroutine at a time may use it; it allocates nothing.
type Cutter struct {
	block  cipher.Block
	params Params
	// buf is the block given to AES. It lives here because slices handed to an
	// interface escape: on the stack it would cost an allocation a row.
	buf [aes.BlockSize]byte
}

// NewCutter makes a Cutter for a domain's cutting key. The error is that of
// Params.Validate.
func NewCutter(key [32]byte, p Params) (*Cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("cutting key: %w", err)
	}
	return &Cutter{block: block, params: p}, nil
}

// Params gives the parameters the Cutter was made with.
func (c *Cutter) Params() Params { return c.params }

// Before tells whether the chunk must be closed before a row of n bytes is
// taken in, when it holds filled bytes: it is asked of every row, first, so that
// no chunk exceeds Max. A row above Max never fits: it is stored as parts, cut
// at multiples of Max from its own start, none of which shares a chunk with
// other rows.
func (c *Cutter) Before(n, filled int) bool { return filled > 0 && filled+n > c.params.Max }

// After tells whether the chunk is to be closed after the row with hash h and
// n bytes, when it holds filled bytes, those of the row included.
//
// The row decides for itself, under the key: the chance of a cut is n / Target,
// so that the mean length of chunks does not depend on how long rows are, and
// whoever sees the lengths of chunks learns nothing of the key (a keyed
// permutation is applied, not a rolling hash).
func (c *Cutter) After(h RowHash, n, filled int) bool {
	if filled >= c.params.Max {
		return true
	}
	if filled < c.params.Min {
		return false
	}
	binary.BigEndian.PutUint64(c.buf[:8], h.Hi)
	binary.BigEndian.PutUint64(c.buf[8:], h.Lo)
	c.block.Encrypt(c.buf[:], c.buf[:])
	t := binary.BigEndian.Uint64(c.buf[:8])
	scaled, _ := bits.Mul64(t, uint64(c.params.Target))
	return scaled < uint64(n)
}

// String names the parameters and never the key.
func (c *Cutter) String() string { return fmt.Sprintf("cutter %+v", c.params) }
