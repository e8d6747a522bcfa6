package dump_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestOnlyWhatMustBeSplitIsSplit(t *testing.T) {
	const mib = 128 // pages
	for name, tc := range map[string]struct {
		version   pg.Version
		mib       int64 // of heap
		toast     int64 // MiB out of line
		others    int64 // bytes
		workers   int
		access    string
		condition string
		want      string
	}{
		"a small table":                          {150018, 10, 0, 0, 2, "heap", "", "whole"},
		"an empty table":                         {150018, 0, 0, 0, 2, "heap", "", "whole"},
		"the only large one":                     {150018, 300, 0, 0, 2, "heap", "", "0-16384 16384-32768 32768-0"},
		"exactly two ranges":                     {150018, 256, 0, 0, 2, "heap", "", "0-16384 16384-0"},
		"one range is the whole":                 {150018, 128, 0, 0, 2, "heap", "", "whole"},
		"one of many":                            {150018, 300, 0, 100 << 30, 2, "heap", "", "whole"},
		"one of many, at least a gigabyte":       {150018, 1024, 0, 100 << 30, 2, "heap", "", "0-16384 16384-32768 32768-49152 49152-65536 65536-81920 81920-98304 98304-114688 114688-0"},
		"version 13 reads ranges by whole scans": {130023, 300, 0, 0, 2, "heap", "", "whole"},
		"not a heap":                             {150018, 300, 0, 0, 2, "columnar", "", "whole"},
		"a large one out of line":                {150018, 1, 1024, 0, 2, "heap", "", "0-16 16-32 32-48 48-64 64-80 80-96 96-112 112-0"},
		"a huge one out of line, of one page":    {150018, 0, 1 << 20, 0, 2, "heap", "", "whole"},
		"some out of line":                       {150018, 256, 200, 0, 2, "heap", "", "0-16384 16384-0"},
		"as much out of line as in the heap":     {150018, 256, 256, 0, 2, "heap", "", "0-8192 8192-16384 16384-24576 24576-0"},
		"one of many, out of line":               {150018, 32, 900, 100 << 30, 2, "heap", "", "whole"},
		"one of many, a gigabyte out of line":    {150018, 64, 1024, 100 << 30, 2, "heap", "", "0-1024 1024-2048 2048-3072 3072-4096 4096-5120 5120-6144 6144-7168 7168-0"},
		"version 13, out of line":                {130023, 64, 1024, 0, 2, "heap", "", "whole"},
		"a configuration table":                  {150018, 300, 0, 0, 2, "heap", "WHERE mine", "whole"},
	} {
		if got := strings.Join(dump.PlanTable(tc.version, tc.mib*mib, tc.toast<<20, tc.others, tc.workers, tc.access, tc.condition), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestGlobsMatchWholeNames(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"", ""}: true, {"", "a"}: false, {"*", ""}: true, {"*", "a/b"}: true, {"a*", "ba"}: false, {"*a", "ba"}: true, {"a?c", "abc"}: true, {"a?c", "ac"}: false,
		{"*a*b*", "xxaxxbxx"}: true, {"*a*b*", "xxbxxa"}: false, {"shop", "shops"}: false, {"é?", "éa"}: true, {"[a]", "a"}: false, {"[a]", "[a]"}: true,
		{strings.Repeat("*a", 20), strings.Repeat("a", 500) + "b"}: false,
	} {
		if got := dump.Match(pair[0], pair[1]); got != want {
			t.Errorf("%q matches %q: %v", pair[0], pair[1], got)
		}
	}
}

// Ranges of one table are read by several workers while rows are updated,
// deleted, inserted and vacuumed: together they are the snapshot's rows.
func TestRangesAreTheWholeTableWhileItChanges(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE r (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off)", "INSERT INTO r SELECT g, md5(g::text) FROM generate_series(1, 60000) g",
		"CREATE TABLE nocols ()", "INSERT INTO nocols SELECT FROM generate_series(1, 20000)")
	m := newMemory(small)
	o := options(s, m, db)
	o.Request.Workers = 3
	o.Split(64*8192, 1<<20, 1<<19)
	m.onRows(func() {
		s.Exec(t, db, "UPDATE r SET v = 'changed' WHERE id % 3 = 0", "DELETE FROM r WHERE id % 5 = 0", "VACUUM r", "INSERT INTO r SELECT g, 'new' FROM generate_series(60001, 90000) g", "VACUUM r")
	})
	snap := mustRun(t, o)
	tab := tableOf(t, only(t, snap), "r")
	if len(tab.Runs) < 5 && major(t, s) >= 14 {
		t.Fatalf("%d runs", len(tab.Runs))
	}
	rows := m.lines(t, snap, tab)
	slices.Sort(rows)
	rows = slices.Compact(rows)
	if len(rows) != 60000 {
		t.Errorf("%d different rows, want 60000", len(rows))
	}
	for _, r := range rows {
		if strings.HasSuffix(r, "changed") || strings.HasSuffix(r, "new") {
			t.Errorf("row %q is of later", r)
			break
		}
	}
	if tab := tableOf(t, only(t, snap), "nocols"); len(m.lines(t, snap, tab)) != 20000 {
		t.Errorf("table without columns has %d rows in %d runs", tab.Rows, len(tab.Runs))
	}
}

func TestRangesGiveTheSameChunksWhateverTheNumberOfWorkers(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE r AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 60000) g")
	m := newMemory(small)
	for i, workers := range []int{1, 4} {
		m.reset()
		o := options(s, m, db)
		o.Request.Workers = workers
		o.Split(64*8192, 1<<20, 1<<19)
		snap := mustRun(t, o)
		if n := len(tableOf(t, only(t, snap), "r").Runs); n < 5 && major(t, s) >= 14 {
			t.Fatalf("%d runs", n)
		}
		if i > 0 && m.fresh[seal.KindRowsText] != 0 {
			t.Errorf("%d of %d chunks are new", m.fresh[seal.KindRowsText], m.puts[seal.KindRowsText])
		}
	}
	// A change at the end leaves the ranges before it as they are.
	s.Exec(t, db, "INSERT INTO r SELECT g, 'x' FROM generate_series(60001, 60500) g")
	m.reset()
	o := options(s, m, db)
	o.Split(64*8192, 1<<20, 1<<19)
	mustRun(t, o)
	if n := m.fresh[seal.KindRowsText]; n == 0 || n > 8 {
		t.Errorf("%d of %d chunks are new after an append", n, m.puts[seal.KindRowsText])
	}
}

// The heap of this table would be one range; what is out of line makes it worth
// several.
func TestATableOutOfLineIsReadInSmallerRanges(t *testing.T) {
	s := shared.Server(t)
	if major(t, s) < 14 {
		t.Skip("version 13 reads no ranges")
	}
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE o (id int, v text)", "ALTER TABLE o ALTER v SET STORAGE EXTERNAL",
		"INSERT INTO o SELECT g, repeat(md5(g::text), 90) FROM generate_series(1, 6000) g", "CREATE TABLE small AS SELECT g FROM generate_series(1, 6000) g")
	m := newMemory(small)
	o := options(s, m, db)
	o.Split(64*8192, 1<<20, 1<<19)
	snap := mustRun(t, o)
	tab := tableOf(t, only(t, snap), "o")
	if n := len(tab.Runs); n < 3 || tab.Pages > 64 {
		t.Errorf("%d runs of %d pages", n, tab.Pages)
	}
	rows := m.lines(t, snap, tab)
	slices.Sort(rows)
	if len(slices.Compact(rows)) != 6000 {
		t.Errorf("%d rows", len(rows))
	}
	if n := len(tableOf(t, only(t, snap), "small").Runs); n != 1 {
		t.Errorf("a small table is read in %d runs", n)
	}
}

func TestBytesThatLaterServersWriteOtherwiseAreReadInTheBinaryFormat(t *testing.T) {
	for name, c := range map[string]struct {
		basic  string
		server pg.Version
		want   string
	}{
		"before 15":         {"char", 140023, `coalesce("c"::pg_catalog.int4 < 0, false)`},
		"from 15 on":        {"char", 150018, ""},
		"another character": {"bpchar", 130016, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := dump.OddRows(c.basic, c.server); got != c.want {
				t.Errorf("predicate %q, want %q", got, c.want)
			}
		})
	}
}
