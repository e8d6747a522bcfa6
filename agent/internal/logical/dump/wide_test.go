package dump_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// hugeBits is a value whose text no server can make, of 1.17 thousand million
// digits, but which is kept and sent in 147 MB.
var hugeBits = strings.Repeat("B'0'::bit(83886080) || ", 13) + "B'0'::bit(83886080)"

// apart checks that the predicate of a table's binary runs tells their rows from
// those of the text runs: a restore compares with nothing else.
func apart(t *testing.T, s *pgtest.Server, db string, tables ...*repo.Table) {
	t.Helper()
	var text, bin int64
	wide := ""
	for _, tab := range tables {
		text += tab.Rows
		for _, r := range tab.Runs {
			if r.Binary {
				bin += r.Rows
				if wide != "" && wide != r.Wide {
					t.Errorf("predicates %s and %s", wide, r.Wide)
				}
				wide = r.Wide
			}
		}
	}
	if wide == "" {
		t.Fatal("no rows were read in the binary format")
	}
	from := tables[0].Name.Quote()
	if tables[0].Root != 0 {
		from = tables[0].RootName.Quote()
	}
	got := s.Query(t, db, fmt.Sprintf("SELECT count(*) FILTER (WHERE NOT %s), count(*) FILTER (WHERE %s) FROM %s", wide, wide, from))[0]
	if got[0] != strconv.FormatInt(text, 10) || got[1] != strconv.FormatInt(bin, 10) {
		t.Errorf("table %s: %d rows in text, %d in binary runs; the predicate picks %s and %s", tables[0].Name, text, bin, got[0], got[1])
	}
}

// One range of a table has a row that no text can hold. Ranges before it and
// behind it have rows that the predicate picks too, and one has none.
func TestAllRangesOfATableFallBackTogether(t *testing.T) {
	s := shared.Server(t)
	if major(t, s) < 14 {
		t.Skip("version 13 reads no ranges")
	}
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE r (id int, b bytea, bits varbit) WITH (autovacuum_enabled = off)",
		"INSERT INTO r SELECT g, decode(repeat('ab', CASE WHEN g % 1500 = 7 AND g < 9000 THEN 5000 ELSE 500 END), 'hex') FROM generate_series(1, 12000) g",
		"UPDATE r SET bits = "+hugeBits+" WHERE id = 4507", // moves to the end
		"INSERT INTO r SELECT g, decode(repeat('cd', CASE WHEN g % 1500 = 7 THEN 5000 ELSE 500 END), 'hex') FROM generate_series(12001, 18000) g")
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			m := newMemory(small)
			m.discard = true
			o := options(s, m, db)
			o.Request.Workers = workers
			o.WideRow = 6000
			o.Split(128*8192, 1<<20, 1<<19)
			snap := mustRun(t, o)
			tab := tableOf(t, only(t, snap), "r")
			bin := 0
			for _, r := range tab.Runs {
				if r.Binary {
					bin++
				}
			}
			if n := len(tab.Runs); n-bin < 10 || bin < 5 || bin > n-bin-2 {
				t.Errorf("%d runs, %d of them binary", n, bin)
			}
			apart(t, s, db, tab)
			if err := snap.Content.Validate(snap.References); err != nil {
				t.Error(err)
			}
			if snap.Rows != 18000 {
				t.Errorf("%d rows counted", snap.Rows)
			}
		})
	}
}

// Rows may be in other partitions after a restore, so a partitioned table is
// compared as a whole and must be told apart as a whole.
func TestAllPartitionsOfATableFallBackTogether(t *testing.T) {
	s := shared.Server(t)
	for name, others := range map[string]int{"the others are read before": 15000, "the others are read afterwards": 200} {
		t.Run(name, func(t *testing.T) {
			db := s.Database(t)
			s.Exec(t, db, "CREATE TABLE p (k int, b bytea, bits varbit) PARTITION BY RANGE (k)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (200) TO (90000)",
				"CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (0) TO (200) PARTITION BY LIST (k)", "CREATE TABLE p21 PARTITION OF p2 DEFAULT",
				"CREATE TABLE lone (k int, b bytea)",
				fmt.Sprintf("INSERT INTO p SELECT g, decode(repeat('ab', CASE WHEN g %% 50 = 7 THEN 5000 ELSE 500 END), 'hex') FROM generate_series(0, 199 + %d) g", others),
				"INSERT INTO lone SELECT k, b FROM p WHERE k < 300", "UPDATE p SET bits = "+hugeBits+" WHERE k = 107")
			m := newMemory(small)
			m.discard = true
			o := options(s, m, db)
			o.WideRow = 6000
			o.Request.Workers = 1 // the bigger one comes first
			snap := mustRun(t, o)
			d := only(t, snap)
			apart(t, s, db, tableOf(t, d, "p1"), tableOf(t, d, "p21"))
			if lone := tableOf(t, d, "lone"); lone.Rows != 300 || len(lone.Runs) != 1 {
				t.Errorf("a table of its own fell back too: %+v", lone)
			}
			if snap.Rows != int64(300+200+others) {
				t.Errorf("%d rows counted", snap.Rows)
			}
		})
	}
}
