package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// TestTheCostsOfAWrapAreBoundedBeforeTheyArePaid puts the largest numbers into
// the places of a wrap's costs, with a checksum that is right.
func TestTheCostsOfAWrapAreBoundedBeforeTheyArePaid(t *testing.T) {
	p, err := seal.NewPassphraseKDF("secret", seal.KDF{Kind: seal.WrapPBKDF2, Time: 1000})
	if err != nil {
		t.Fatal(err)
	}
	good, err := p.Wrap(seal.NewMasterKey(), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	const checksumAt = 144
	for _, kind := range []seal.WrapKind{seal.WrapArgon2id, seal.WrapPBKDF2} {
		for field := range 3 {
			for _, cost := range []uint32{1<<32 - 1, 1 << 31, 1<<20 + 1} {
				if kind == seal.WrapPBKDF2 && field == 0 && cost < 1<<31 {
					continue // within the bounds
				}
				bad := bytes.Clone(good)
				bad[5] = byte(kind)
				binary.BigEndian.PutUint32(bad[8:], 1)
				if kind == seal.WrapArgon2id {
					binary.BigEndian.PutUint32(bad[12:], 64)
					binary.BigEndian.PutUint32(bad[16:], 1)
				}
				binary.BigEndian.PutUint32(bad[8+4*field:], cost)
				sum := sha256.Sum256(bad[:checksumAt])
				copy(bad[checksumAt:], sum[:])
				got := repotest.Allocated(func() { _, err = p.Unwrap(bad, []byte("aad")) })
				if !errors.Is(err, errs.Corrupt) || got > 64<<10 {
					t.Errorf("kind %d, cost %d in field %d: %d bytes allocated, %v", kind, cost, field, got, err)
				}
			}
		}
	}
}
