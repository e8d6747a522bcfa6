package dump_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/chunk"
)

// BenchmarkRun reads, cuts and names about 200 MB of rows; nothing is
// compressed, sealed or sent.
func BenchmarkRun(b *testing.B) {
	s := shared.Server(b)
	db := s.Database(b)
	s.Exec(b, db, "CREATE TABLE orders AS SELECT g AS id, now() - g * interval '1 s' AS at, md5(g::text) AS ref, g % 977 AS customer, (g % 10000)::numeric / 100 AS amount FROM generate_series(1, 2000000) g", "VACUUM orders")
	for b.Loop() {
		m := newMemory(chunk.DefaultParams)
		m.discard = true
		snap, err := dump.Run(b.Context(), options(s, m, db))
		if err != nil || !snap.Complete {
			b.Fatal(err)
		}
		b.SetBytes(snap.Bytes)
	}
}
