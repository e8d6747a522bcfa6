package stream_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Rows cut at any place have the sum of the rows as they were.
func TestRowsAreFoundHoweverTheyAreCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for _, bin := range []bool{false, true} {
		for range 200 {
			var all []byte
			var want chunk.Fingerprint
			rows := random.IntN(20)
			for range rows {
				row := textRow(random)
				if bin {
					row = tuple(random)
				}
				want.Add(chunk.HashRow(row))
				all = append(all, row...)
			}
			var pieces [][]byte
			for rest := all; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(1<<random.IntN(8)))
				pieces, rest = append(pieces, rest[:n]), rest[n:]
			}
			n, sum, open, err := stream.ScanRows(bin, pieces)
			if err != nil || n != int64(rows) || sum != want || open {
				t.Fatalf("binary %t: %d rows of %d, equal %t, open %t: %v", bin, n, rows, sum == want, open, err)
			}
			if len(all) > 0 {
				if _, _, open, err = stream.ScanRows(bin, [][]byte{all[:len(all)-1]}); err != nil || !open {
					t.Fatalf("binary %t: a row without its end counts as whole: %v", bin, err)
				}
			}
		}
	}
	for _, bad := range []string{"\xff\xff", "\x00\x01\xff\xff\xff\xfe", "\x80\x00"} {
		if _, _, _, err := stream.ScanRows(true, [][]byte{[]byte(bad)}); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func textRow(random *rand.Rand) []byte {
	b := make([]byte, 1+random.IntN(300))
	for i := range b {
		b[i] = byte('a' + random.IntN(26))
	}
	return append(b, '\n')
}

func tuple(random *rand.Rand) []byte {
	fields := random.IntN(5)
	b := binary.BigEndian.AppendUint16(nil, uint16(fields))
	for range fields {
		n := random.IntN(100) - 1
		b = binary.BigEndian.AppendUint32(b, uint32(int32(n)))
		for range max(n, 0) {
			b = append(b, byte(random.Uint32()))
		}
	}
	return b
}
