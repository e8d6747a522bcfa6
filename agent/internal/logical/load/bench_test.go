package load_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// BenchmarkRun restores and compares about 150 MB of rows with a key and an
// index; nothing is fetched, opened or decompressed.
func BenchmarkRun(b *testing.B) {
	s := shared.Server(b)
	db := s.Database(b)
	s.Exec(b, db, "CREATE TABLE orders AS SELECT g AS id, now() - g * interval '1 s' AS at, md5(g::text) AS ref, g % 977 AS customer, (g % 10000)::numeric / 100 AS amount FROM generate_series(1, 2000000) g",
		"ALTER TABLE orders ADD PRIMARY KEY (id)", "CREATE INDEX ON orders (customer)", "VACUUM orders")
	m := newMemory()
	m.max = chunk.DefaultParams.Max
	snap, err := dump.Run(b.Context(), dump.Options{
		Config: config(s), Job: "bench", Request: job.Backup{Instance: "main", Databases: []string{db}, Workers: 2},
		Grant:    job.Grant{NameKey: seal.Key{1}, CutKey: seal.Key{2}, RefsKey: seal.Key{3}, Cut: chunk.DefaultParams},
		Uploader: m, Reporter: &recorder{}, Agent: "bench",
	})
	if err != nil || !snap.Complete {
		b.Fatal(err)
	}
	m.refs = snap.References
	for b.Loop() {
		to := pgtest.Unique("bench")
		p, err := load.Prepare(b.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}}, snap.Content, repo.NewID(), mapping(db, to))
		if err != nil {
			b.Fatal(err)
		}
		out := p.Run(b.Context())
		if out.Err != nil {
			b.Fatal(out.Err)
		}
		b.SetBytes(out.Bytes)
		b.StopTimer()
		s.DropDatabase(b, to)
		b.StartTimer()
	}
}
