package stream

import "github.com/tuskvault/tuskvault/internal/chunk"

// ScanRows gives the number of rows and the sum over them in pieces of a COPY,
// and whether a row without its end is left.
func ScanRows(bin bool, pieces [][]byte) (rows int64, sum chunk.Fingerprint, open bool, err error) {
	s := rowScanner{binary: bin}
	for _, p := range pieces {
		if err := s.write(p); err != nil {
			return 0, sum, false, err
		}
	}
	return s.sum.Rows, s.sum.Sum, s.open, nil
}
