package load_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// smallDatabase has two tables of many chunks, with a key and an index.
func smallDatabase(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a (id int PRIMARY KEY, t text CHECK (t <> 'bad'))", "INSERT INTO a SELECT g, repeat(md5(g::text), 4) FROM generate_series(1, 5000) g",
		"CREATE TABLE b (id int REFERENCES a)", "INSERT INTO b SELECT g FROM generate_series(1, 1000) g", "CREATE SEQUENCE q; SELECT nextval('q')")
	return db
}

func mapping(from, to string) job.Restore {
	return job.Restore{Instance: "main", Databases: []job.Mapping{{Source: from, Target: to}}, Jobs: 2}
}

// mustFail runs a restore that must fail and leave nothing behind.
func mustFail(t *testing.T, s *pgtest.Server, m *memory, c *repo.Content, from string, kind *errs.Kind, words ...string) {
	t.Helper()
	to := pgtest.Unique("failed")
	out := prepare(t, s, m, c, repo.NewID(), mapping(from, to)).Run(t.Context())
	if !errors.Is(out.Err, kind) {
		t.Fatalf("error of kind %v: %v", errs.KindOf(out.Err), out.Err)
	}
	for _, w := range append(words, "half-made database", "was dropped", to) {
		if !strings.Contains(out.Err.Error(), w) {
			t.Errorf("%q is not in: %v", w, out.Err)
		}
	}
	if n := s.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'tuskvault%' OR datname = '"+to+"'"); len(n) > 0 {
		t.Errorf("left behind: %v", n)
	}
	if r := out.Databases[0]; r.Complete || r.Err != out.Err.Error() {
		t.Errorf("result: %+v", r)
	}
}

func TestWhatIsDamagedIsNamedAndNothingStays(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	for name, c := range map[string]struct {
		change func(t *testing.T, m *memory, d *repo.Database)
		kind   *errs.Kind
		words  []string
	}{
		"a chunk that cannot be opened": {func(_ *testing.T, m *memory, d *repo.Database) {
			var n atomic.Int64
			m.before = func(_ context.Context, e repo.ListEntry) error {
				if e.Kind != seal.KindRowsText {
					return nil
				}
				if n.Add(1) == 3 {
					return fmt.Errorf("chunk 3 of list 0: %w", errs.Corrupt)
				}
				return nil
			}
		}, errs.Corrupt, []string{"load table public.", "chunk 3 of list 0"}},
		"a stream that ends too early": {func(_ *testing.T, _ *memory, d *repo.Database) {
			r := &tableOfName(d, "a").Runs[0]
			r.Stream.Spans[0].Count--
		}, errs.Corrupt, []string{"load table public.a", "the manifest says 5000"}},
		"rows that differ": {func(_ *testing.T, _ *memory, d *repo.Database) {
			tableOfName(d, "b").Fingerprint.Add(chunk.HashRow([]byte("x")))
		}, errs.Corrupt, []string{"table public.b: restored rows differ", "expected 1000 rows", "found 1000 rows"}},
		"rows of a run that differ": {func(_ *testing.T, _ *memory, d *repo.Database) {
			tableOfName(d, "b").Runs[0].Fingerprint.Add(chunk.HashRow([]byte("x")))
		}, errs.Corrupt, []string{"load table public.b", "the rows that arrived differ", "expected 1000 rows", "found 1000 rows"}},
		"a byte that was changed under its name": {func(_ *testing.T, m *memory, d *repo.Database) {
			for name, plain := range m.chunks {
				if m.kinds[name] == seal.KindRowsText {
					m.chunks[name] = bytes.Replace(plain, []byte("7"), []byte("8"), 1)
				}
			}
		}, errs.Corrupt, []string{"load table public.", "the rows that arrived differ"}},
		"fewer rows than the list says": {func(_ *testing.T, m *memory, d *repo.Database) {
			b := tableOfName(d, "b")
			b.Runs[0] = repo.Run{Rows: 2, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowsText, Rows: 2}}, [][]byte{[]byte("1\n")})}
		}, errs.Corrupt, []string{"load table public.b", "a chunk ends 1 rows, its list says 2"}},
		"an end of data among the rows": {func(_ *testing.T, m *memory, d *repo.Database) {
			b := tableOfName(d, "b")
			var sum chunk.Fingerprint
			for _, row := range []string{"1\n", "\\.\n", "2\n"} {
				sum.Add(chunk.HashRow([]byte(row)))
			}
			b.Rows, b.Fingerprint = 3, sum
			b.Runs = []repo.Run{{Rows: 3, Fingerprint: sum, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowsText, Rows: 3, Fingerprint: sum}}, [][]byte{[]byte("1\n\\.\n2\n")})}}
		}, errs.Corrupt, []string{"load table public.b", "the server took 1 rows of 3"}},
		"a row that breaks a check": {func(t *testing.T, m *memory, d *repo.Database) {
			a := tableOfName(d, "a")
			row := []byte("7000\tbad\n")
			sum := chunk.Fingerprint{}
			sum.Add(chunk.HashRow(row))
			a.Runs = append(a.Runs, repo.Run{Rows: 1, Fingerprint: sum, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowsText, Rows: 1, Fingerprint: sum}}, [][]byte{row})})
			a.Rows++
			a.Fingerprint.Merge(sum)
		}, nil, []string{"load table public.a", "violates check constraint"}},
		"a row that is no row": {func(t *testing.T, m *memory, d *repo.Database) {
			b := tableOfName(d, "b")
			row := []byte("not a number\n")
			b.Runs = append(b.Runs, repo.Run{Rows: 1, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowsText, Rows: 1}}, [][]byte{row})})
		}, nil, []string{"load table public.b", "invalid input syntax"}},
		"a chunk of another kind": {func(t *testing.T, m *memory, d *repo.Database) {
			b := tableOfName(d, "b")
			b.Runs[0].Stream = d.Archive.Stream
		}, errs.Corrupt, []string{"load table public.b", "kind 4 among those of kind 1"}},
		"half of a split row": {func(t *testing.T, m *memory, d *repo.Database) {
			tableOfName(d, "b").Runs[0] = repo.Run{Rows: 0, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowPart, First: true}}, [][]byte{[]byte("12")})}
		}, errs.Corrupt, []string{"load table public.b"}},
		"a statement that fails": {func(_ *testing.T, _ *memory, d *repo.Database) {
			d.Statements = []string{"CREATE SUBSCRIPTION x CONNECTION 'password=secret' PUBLICATION p WITH (nonsense = true)"}
		}, nil, []string{"restore statements", "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, content := backUp(t, s, db)
			c.change(t, m, database(content, db))
			if c.kind == nil {
				c.kind = &errs.Kind{}
				to := pgtest.Unique("failed")
				out := prepare(t, s, m, content, repo.NewID(), mapping(db, to)).Run(t.Context())
				for _, w := range append(c.words, "was dropped") {
					if out.Err == nil || !strings.Contains(out.Err.Error(), w) {
						t.Errorf("%q is not in: %v", w, out.Err)
					}
				}
				if out.Err != nil && strings.Contains(out.Err.Error(), "secret") {
					t.Errorf("a password is in: %v", out.Err)
				}
				if left := databases(t, s); left != nil {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			mustFail(t, s, m, content, db, c.kind, c.words...)
		})
	}
}

// What was loaded after everything else is read back: by then there are triggers.
func TestWhatWasPutOffIsReadBack(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	s.Exec(t, db, "CREATE TABLE c (r regclass, t text)", "INSERT INTO c SELECT 'a_pkey', repeat('x', 100) FROM generate_series(1, 10000)")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("late")
	out := restoreAs(t, s, m, c, db, to, func(r *job.Restore) { r.Jobs = 1 })
	if r := out.Databases[0]; r.TablesVerified != 1 || r.TablesCompared != 2 {
		t.Errorf("%+v", r)
	}
	if n := s.Query(t, to, "SELECT count(*) FROM c WHERE r = 'a_pkey'::regclass")[0][0]; n != "10000" {
		t.Errorf("%s", n)
	}
}

func TestLargeObjectsAreComparedOnTheWayIn(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	s.Exec(t, db, "SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex'))")
	m, c := backUp(t, s, db)
	restoreAs(t, s, m, c, db, pgtest.Unique("objects"), nil)
	o := database(c, db).LargeObjects
	o.Fingerprint.Add(chunk.HashRow([]byte("x")))
	mustFail(t, s, m, c, db, errs.Corrupt, "large objects differ", "found 3 rows")
}

// A value that the server writes in another way than it was given is the same
// on the way in. Reading back sees it: as it would see what a trigger changed.
func TestReadingBackSeesWhatTheServerMadeOfTheRows(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	rows := []byte("1\n007\n")
	var sum chunk.Fingerprint
	sum.Add(chunk.HashRow(rows[:2]))
	sum.Add(chunk.HashRow(rows[2:]))
	b := tableOf(t, database(c, db), "b")
	b.Rows, b.Fingerprint = 2, sum
	b.Runs = []repo.Run{{Rows: 2, Fingerprint: sum, Stream: m.stream(t, []repo.ListEntry{{Kind: seal.KindRowsText, Rows: 2, Fingerprint: sum}}, [][]byte{rows})}}
	out := restoreAs(t, s, m, c, db, pgtest.Unique("given"), nil)
	if r := out.Databases[0]; r.TablesCompared != 2 || r.TablesVerified != 0 {
		t.Errorf("compared on the way in: %+v", r)
	}
	r := mapping(db, pgtest.Unique("read"))
	r.ReadBack = true
	out = prepare(t, s, m, c, repo.NewID(), r).Run(t.Context())
	if !errors.Is(out.Err, errs.Corrupt) || !strings.Contains(out.Err.Error(), "table public.b: restored rows differ") {
		t.Errorf("read back: %v", out.Err)
	}
}

func tableOfName(d *repo.Database, name string) *repo.Table {
	for i := range d.Tables {
		if string(d.Tables[i].Name) == name {
			return &d.Tables[i]
		}
	}
	panic("no table " + name)
}

func TestADamagedListStopsBeforeTheTargetIsTouched(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	a := tableOf(t, database(c, db), "a")
	delete(m.chunks, m.refs.Lists[a.Runs[0].Stream.Spans[0].List].Name)
	_, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}}, c, repo.NewID(), mapping(db, "x"))
	if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "database "+db) {
		t.Errorf("%v", err)
	}
}

func TestOneDatabaseThatFailsStopsNoOther(t *testing.T) {
	s := shared.Server(t)
	bad, good := smallDatabase(t, s), smallDatabase(t, s)
	m, c := backUp(t, s, bad, good)
	tableOf(t, database(c, bad), "a").Fingerprint.Add(chunk.HashRow([]byte("x")))
	badTo, goodTo := pgtest.Unique("bad"), pgtest.Unique("good")
	t.Cleanup(func() { s.DropDatabase(t, goodTo) })
	r := job.Restore{Jobs: 2, Databases: []job.Mapping{{Source: bad, Target: badTo}, {Source: good, Target: goodTo}}}
	out := prepare(t, s, m, c, repo.NewID(), r).Run(t.Context())
	if out.Err == nil || !strings.Contains(out.Err.Error(), badTo) {
		t.Errorf("the restore must fail: %v", out.Err)
	}
	if len(out.Databases) != 2 || out.Databases[0].Complete || !out.Databases[1].Complete || out.Databases[1].TablesCompared != 2 {
		t.Errorf("results: %+v", out.Databases)
	}
	if n := s.Query(t, goodTo, "SELECT count(*) FROM a")[0][0]; n != "5000" {
		t.Errorf("%s rows", n)
	}
}

func TestCancelStopsWithinSecondsAndLeavesNothing(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := fmt.Errorf("an operator wanted it: %w", errs.Canceled)
	var once sync.Once
	var at time.Time
	m.before = func(ctx context.Context, e repo.ListEntry) error {
		if e.Kind != seal.KindRowsText {
			return nil
		}
		once.Do(func() { at = time.Now(); cancel(reason) })
		<-ctx.Done() // a download that hangs
		return context.Cause(ctx)
	}
	out := prepare(t, s, m, c, repo.NewID(), mapping(db, "canceled")).Run(ctx)
	if took := time.Since(at); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if !errors.Is(out.Err, reason) {
		t.Errorf("%v", out.Err)
	}
	if left := databases(t, s); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestCancelStopsALongStatementToo(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	// The index's function sleeps while rows are loaded and the index is made.
	s.Exec(t, db, "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'", "CREATE TABLE a (i int)", "INSERT INTO a VALUES (1)",
		"CREATE INDEX ON a (slow(i))", "CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN $1; END'")
	m, c := backUp(t, s, db)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan load.Outcome)
	go func() { done <- prepare(t, s, m, c, repo.NewID(), mapping(db, "canceled")).Run(ctx) }()
	waitFor(t, s, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%CREATE INDEX%' AND datname LIKE 'tuskvault%' AND wait_event = 'PgSleep'")
	at := time.Now()
	cancel(errs.Canceled)
	out := <-done
	if took := time.Since(at); took > 5*time.Second || !errors.Is(out.Err, errs.Canceled) {
		t.Errorf("after %s: %v", took, out.Err)
	}
	if left := databases(t, s); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// waitFor waits until a query gives a row.
func waitFor(t *testing.T, s *pgtest.Server, query string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if len(s.Query(t, "postgres", query)) > 0 {
			return
		}
		<-tick.C
	}
	t.Fatalf("never true: %s", query)
}

func TestAServerThatDiesLeavesAMarkerThatTheNextAttemptRemoves(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	id := repo.NewID()
	var once sync.Once
	m.before = func(_ context.Context, e repo.ListEntry) error {
		if e.Kind == seal.KindRowsText {
			once.Do(func() {
				if err := s.Crash(); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	}
	out := prepare(t, s, m, c, id, mapping(db, "back")).Run(t.Context())
	half := "tuskvault_restore_" + id.Short() + "_1"
	if !errors.Is(out.Err, errs.Unavailable) || !strings.Contains(out.Err.Error(), half) || !strings.Contains(postgres.Hint(out.Err), "DROP DATABASE") {
		t.Errorf("kind %v, hint %q: %v", errs.KindOf(out.Err), postgres.Hint(out.Err), out.Err)
	}
	m.before = nil
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "postgres", `CREATE DATABASE "`+half+`_other"`) // of somebody else
	if len(databases(t, s)) != 2 {
		t.Fatalf("databases %v", databases(t, s))
	}
	out = prepare(t, s, m, c, id, mapping(db, "back")).Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	if left := databases(t, s); len(left) != 1 || left[0] != half+"_other" {
		t.Errorf("databases %v", left)
	}
	if n := s.Query(t, "back", "SELECT count(*) FROM a")[0][0]; n != "5000" {
		t.Errorf("%s rows", n)
	}
}
