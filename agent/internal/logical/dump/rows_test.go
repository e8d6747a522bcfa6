package dump_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestWideRowsAreSplitIntoMarkedParts(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	// Around the largest chunk (16 KiB here), around the reader's buffer (64 KiB), and far above both.
	widths := []int{1, 16383, 16384, 16385, 32768, 65534, 65535, 65536, 100000, 400000, 2}
	s.Exec(t, db, fmt.Sprintf("CREATE TABLE wide AS SELECT repeat(chr(97 + (n %% 26)::int), n - 1) AS v FROM unnest(ARRAY[%s]) n", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(widths)), ","), "[]")))
	p := chunk.Params{Target: 4 << 10, Min: 1 << 10, Max: 16 << 10}
	m := newMemory(p)
	snap := mustRun(t, options(s, m, db))
	tab := tableOf(t, only(t, snap), "wide")
	rows := m.lines(t, snap, tab)
	for i, n := range widths {
		if want := strings.Repeat(string(rune('a'+n%26)), n-1); rows[i] != want {
			t.Errorf("row %d has %d bytes, want %d", i, len(rows[i]), len(want))
		}
	}
	inRow := false
	for i, e := range m.entries(t, snap, tab.Runs[0].Stream) {
		if int(e.Length) > p.Max {
			t.Errorf("chunk %d has %d bytes", i, e.Length)
		}
		if e.Kind == seal.KindRowPart {
			if e.First == inRow || !e.Last && int(e.Length) != p.Max {
				t.Errorf("chunk %d: first %v, last %v, %d bytes", i, e.First, e.Last, e.Length)
			}
			inRow = !e.Last
		} else if inRow {
			t.Errorf("chunk %d stands inside a row", i)
		}
	}
	if m.peakUse > 8 {
		t.Errorf("%d buffers in use at once", m.peakUse)
	}
}

func TestARowThatNoTextCanHoldIsReadInTheBinaryFormat(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a value of 600 MB")
	}
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE huge (id int, b bytea)", "INSERT INTO huge SELECT g, 'x' FROM generate_series(1, 100) g",
		`INSERT INTO huge SELECT 101, convert_to(repeat('z', 540000000), 'SQL_ASCII')`, "INSERT INTO huge VALUES (102, 'y')")
	m := newMemory(chunk.DefaultParams)
	m.discard = true
	snap := mustRun(t, options(s, m, db))
	tab := tableOf(t, only(t, snap), "huge")
	if tab.Rows != 101 || len(tab.Runs) != 2 || tab.Runs[0].Binary || !tab.Runs[1].Binary || tab.Runs[1].Rows != 1 || tab.Runs[1].Wide == "" || tab.Runs[1].Stream.Bytes != 2+4+4+4+540000000 {
		t.Errorf("table %+v", tab)
	}
	if got := s.Query(t, db, "SELECT count(*) FROM huge WHERE "+tab.Runs[1].Wide); got[0][0] != "1" {
		t.Errorf("the predicate picks %v rows", got)
	}
	if err := snap.Content.Validate(snap.References); err != nil {
		t.Error(err)
	}
	if snap.Rows != 102 {
		t.Errorf("%d rows counted", snap.Rows)
	}
}

func TestNamesInServerEncodingKeepTheirBytes(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t, "ENCODING 'SQL_ASCII' TEMPLATE template0")
	s.Exec(t, db, "SET client_encoding = SQL_ASCII; CREATE TABLE \"caf\xe9\" (\"na\xefve\" text, z int); INSERT INTO \"caf\xe9\" VALUES (E'\xff\xfe raw', 1)")
	m := newMemory(small)
	snap := mustRun(t, options(s, m, db))
	d := only(t, snap)
	tab := tableOf(t, d, "caf\xe9")
	if names(tab.Columns) != "na\xefve,z" || d.Encoding != "SQL_ASCII" {
		t.Errorf("columns %q, encoding %s", tab.Columns, d.Encoding)
	}
	if rows := m.lines(t, snap, tab); len(rows) != 1 || rows[0] != "\xff\xfe raw\t1" {
		t.Errorf("rows %q", rows)
	}
	latin := s.Database(t, "ENCODING 'LATIN1' TEMPLATE template0")
	s.Exec(t, latin, "SET client_encoding = LATIN1; CREATE TABLE t AS SELECT '\xe9'::text AS v")
	snap = mustRun(t, options(s, m, latin))
	if rows := m.lines(t, snap, tableOf(t, only(t, snap), "t")); rows[0] != "\xe9" {
		t.Errorf("rows %q", rows)
	}
}

func TestDatabasesWithOddNamesAreRead(t *testing.T) {
	s := shared.Server(t)
	name := `odd 'db' "x" \ = ` + pgtest.Unique("y")
	s.Exec(t, "postgres", `CREATE DATABASE "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
	t.Cleanup(func() { s.DropDatabase(t, name) })
	snap := mustRun(t, options(s, newMemory(small), strings.ReplaceAll(name, `\`, `\\`)))
	if d := only(t, snap); string(d.Name) != name {
		t.Errorf("name %q", d.Name)
	}
}

func TestUnloggedTablesAreOmittedOnAStandby(t *testing.T) {
	p := pgtest.Start(t, pgtest.Options{})
	p.Exec(t, "postgres", "CREATE UNLOGGED TABLE unl AS SELECT 1 AS i", "CREATE TABLE t AS SELECT generate_series(1, 9) AS i", "CREATE SEQUENCE q", "SELECT nextval('q')")
	s := pgtest.Start(t, pgtest.Options{Primary: p})
	m := newMemory(small)
	snap := mustRun(t, options(s, m, "postgres"))
	d := only(t, snap)
	if tab := tableOf(t, d, "unl"); tab.Omitted == "" || len(tab.Runs) != 0 || !tab.Unlogged {
		t.Errorf("unlogged table %+v", tab)
	}
	if n := len(m.lines(t, snap, tableOf(t, d, "t"))); n != 9 || !snap.Content.Instance.InRecovery || d.LSN == 0 {
		t.Errorf("%d rows, %+v", n, snap.Content.Instance)
	}
	if len(d.Problems) != 1 || d.Problems[0].Severity != "warning" {
		t.Errorf("problems %+v", d.Problems)
	}
	if err := snap.Content.Validate(snap.References); err != nil {
		t.Error(err)
	}
}
