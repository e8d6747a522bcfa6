package load_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestIndexesFollowTheirRowsAndForeignKeysComeLast(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE SCHEMA s", "CREATE TABLE s.big (id int)", "INSERT INTO s.big SELECT generate_series(1, 50000)", "ALTER TABLE s.big ADD PRIMARY KEY (id)",
		"CREATE TABLE s.small (id int REFERENCES s.big)", "INSERT INTO s.small VALUES (1)", "CREATE INDEX small_i ON s.small (id)",
		"CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"CREATE TABLE s.p (k int) PARTITION BY LIST (k)", "CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES IN (1)", "INSERT INTO s.p VALUES (1)",
		"CREATE TRIGGER trg BEFORE INSERT ON s.p FOR EACH ROW EXECUTE FUNCTION s.f()",
		"ALTER TABLE s.small ENABLE ROW LEVEL SECURITY", "CREATE MATERIALIZED VIEW s.mv AS SELECT count(*) FROM s.big", "GRANT SELECT ON s.big TO PUBLIC")
	_, c := backUp(t, s, db)
	dump, err := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "pg_dump"), "-Fc", "-Z0", "-B", "--section=pre-data", "--section=post-data", "-d", s.URL(db)).Output()
	if err != nil {
		t.Fatal(err)
	}
	a, err := pgarchive.Read(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := load.Order(database(c, db), a, map[[2]string][][2]string{{"s", "p"}: {{"s", "p1"}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range steps {
		got = append(got, step...)
	}
	want := []string{
		"load table s.big", "CONSTRAINT s.big big_pkey", "compare table s.big",
		"load table s.p1", "compare table s.p1", "compare partitioned table s.p",
		"load table s.small", "INDEX s.small_i", "compare table s.small",
		"TRIGGER s.p trg", "FK CONSTRAINT s.small small_id_fkey", "ROW SECURITY s.small",
		"ACL s.TABLE big", "MATERIALIZED VIEW DATA s.mv",
	}
	// p1 and small have one page each: which comes first does not matter.
	slices.Sort(got[3:9])
	slices.Sort(want[3:9])
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// With many workers nothing runs beside what would wait for it.
	steps, err = load.Order(database(c, db), a, map[[2]string][][2]string{{"s", "p"}: {{"s", "p1"}}}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if slices.Contains(step, "CONSTRAINT s.big big_pkey") && slices.Contains(step, "compare table s.big") {
			t.Errorf("a table is read while it is locked: %v", step)
		}
		if i := slices.Index(step, "FK CONSTRAINT s.small small_id_fkey"); i >= 0 && len(step) > 1 && slices.ContainsFunc(step, func(n string) bool { return strings.Contains(n, "big") }) {
			t.Errorf("a foreign key beside work on its tables: %v", step)
		}
	}
}

// What the end of a restore takes longest is done side by side: foreign keys and
// materialized views. Event triggers come after both.
func TestForeignKeysAndMaterializedViewsDoNotWaitForEachOther(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a SELECT generate_series(1, 1000)", "CREATE TABLE b (id int CONSTRAINT f REFERENCES a)",
		"COMMENT ON CONSTRAINT f ON b IS 'x'", "ALTER TABLE b ENABLE ROW LEVEL SECURITY", "CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM b", "GRANT SELECT ON b TO PUBLIC",
		"CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "CREATE EVENT TRIGGER e_"+db+" ON ddl_command_end EXECUTE FUNCTION e()")
	_, c := backUp(t, s, db)
	dump, err := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "pg_dump"), "-Fc", "-Z0", "--section=pre-data", "--section=post-data", "-d", s.URL(db)).Output()
	if err != nil {
		t.Fatal(err)
	}
	a, err := pgarchive.Read(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := load.OrderOfSuperuser(database(c, db), a, nil, 4)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"load table public.a", "load table public.b"},
		{"CONSTRAINT public.a a_pkey", "compare table public.b"},
		{"compare table public.a", "ROW SECURITY public.b"},
		{"ACL public.TABLE b"},
		{"MATERIALIZED VIEW DATA public.mv", "FK CONSTRAINT public.b f"}, // and no statistics beside it
		{"COMMENT public.CONSTRAINT f ON b", "statistics of public.a", "statistics of public.b", "statistics of public.mv"},
		{"EVENT TRIGGER e_" + db},
	}
	if d := cmp.Diff(want, steps); d != "" {
		t.Error(d)
	}
}

func TestRowsThatBelongToAnotherPartitionAreRoutedAgain(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE p (k int, v text) PARTITION BY RANGE (k)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100)",
		"CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200)", "INSERT INTO p SELECT g, 'v' || g FROM generate_series(0, 199) g",
		"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "CREATE TRIGGER t BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION no()", "CREATE INDEX ON p (v)")
	m, c := backUp(t, s, db)
	d := database(c, db)
	one, two := tableOf(t, d, "p1"), tableOf(t, d, "p2")
	one.Runs, two.Runs = two.Runs, one.Runs // as if the partitioning were another here
	one.Fingerprint, two.Fingerprint = two.Fingerprint, one.Fingerprint
	to := pgtest.Unique("routed")
	out := restoreAs(t, s, m, c, db, to, nil)
	if n := s.Query(t, to, "SELECT (SELECT count(*) FROM p1), (SELECT count(*) FROM p2), (SELECT count(*) FROM p)")[0]; strings.Join(n, " ") != "100 100 200" {
		t.Errorf("rows: %v", n)
	}
	if r := out.Databases[0]; r.TablesVerified != 2 || len(out.Problems) == 0 || !strings.Contains(out.Problems[0].Reason, "routed again") {
		t.Errorf("%+v %+v", r, out.Problems)
	}
	// A tree whose sum differs is found too.
	one.Fingerprint.Add(chunk.HashRow([]byte("x")))
	mustFail(t, s, m, c, db, errs.Corrupt, "table public.p: restored rows differ", "expected 200 rows")
}

func TestRunsInTheBinaryFormatAreLoadedAndCompared(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE w (id int, b bytea)", "INSERT INTO w SELECT g, decode(repeat('ab', g * 100000), 'hex') FROM generate_series(0, 3) g")
	m, c := backUp(t, s, db)
	w := tableOf(t, database(c, db), "w")
	const wide = "(2 * pg_catalog.octet_length(b)::int8 > 150000)"
	readApart(t, s, m, db, w, wide)
	if w.Runs[0].Rows != 1 || w.Runs[1].Rows != 3 {
		t.Fatalf("runs of %d and %d rows", w.Runs[0].Rows, w.Runs[1].Rows)
	}
	to := pgtest.Unique("wide")
	restoreAs(t, s, m, c, db, to, nil)
	const sum = "SELECT count(*), md5(string_agg(id || ':' || md5(b), ',' ORDER BY id)) FROM w"
	if d := cmp.Diff(s.Query(t, db, sum), s.Query(t, to, sum)); d != "" {
		t.Error(d)
	}
	w.Runs[1].Fingerprint.Add(chunk.HashRow(nil))
	mustFail(t, s, m, c, db, errs.Corrupt, "load table public.w", "the rows that arrived differ", "expected 3 rows")
}

// Rows that no text can hold are in one partition, rows that the same predicate
// picks in others too; loaded through the root they are compared as a whole.
func TestPartitionsWithWideRowsAreComparedAsAWhole(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	// A value of an enum is hashed by its oid: six could all be in one partition.
	labels := strings.Split("abcdefghijklmnopqrstuvwxyz", "")
	bits := strings.Repeat("B'0'::bit(83886080) || ", 13) + "B'0'::bit(83886080)" // 1.17 thousand million digits in 147 MB
	s.Exec(t, db, "CREATE TYPE c AS ENUM ('"+strings.Join(labels, "', '")+"')", "CREATE TABLE p (c c, b bytea, bits varbit) PARTITION BY HASH (c)",
		"CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
		"INSERT INTO p SELECT c, decode(repeat('ab', g * 1000), 'hex') FROM unnest(enum_range(NULL::c)) c, generate_series(1, 5) g",
		"UPDATE p SET bits = "+bits+" WHERE c = 'a' AND length(b) = 4000")
	m, c := backUpWide(t, s, 6500, db)
	text, bin := int64(0), 0
	for _, name := range []string{"p0", "p1"} {
		tab := tableOf(t, database(c, db), name)
		text += tab.Rows
		for _, r := range tab.Runs {
			if r.Binary && tab.LoadViaRoot {
				bin++
			}
		}
	}
	if text != int64(3*len(labels)) || bin != 2 {
		t.Fatalf("%d rows in text, %d binary runs", text, bin)
	}
	to := pgtest.Unique("wide")
	out := restoreAs(t, s, m, c, db, to, nil)
	const sum = "SELECT count(*), sum(length(b)), sum(length(bits)) FROM p"
	if d := cmp.Diff(s.Query(t, db, sum), s.Query(t, to, sum)); d != "" || out.Databases[0].TablesVerified != 2 {
		t.Errorf("%s%+v", d, out.Databases)
	}
}

func TestEncodingsAndProvidersComeBack(t *testing.T) {
	s := shared.Server(t)
	for name, c := range map[string]struct {
		since          int
		create, insert string
	}{
		"latin1":    {13, "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", `INSERT INTO t VALUES (convert_from('\xe9', 'LATIN1'))`},
		"sql_ascii": {13, "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", `SET client_encoding = 'SQL_ASCII'; INSERT INTO t VALUES (E'\xff\xfe')`},
		"icu":       {15, "ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'", "INSERT INTO t VALUES ('é')"},
		"icu rules": {16, "ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' ICU_RULES '&V << w <<< W'", "INSERT INTO t VALUES ('w')"},
		"builtin":   {17, "ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", "INSERT INTO t VALUES ('é')"},
		"unicode":   {18, "ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'", "INSERT INTO t VALUES ('ß')"},
	} {
		t.Run(name, func(t *testing.T) {
			if major(t, s) < c.since {
				t.Skipf("version %d has it first", c.since)
			}
			db := s.Database(t, c.create)
			s.Exec(t, db, "CREATE TABLE t (v text)", c.insert)
			m, content := backUp(t, s, db)
			to := pgtest.Unique("enc")
			restoreAs(t, s, m, content, db, to, nil)
			for on, q := range map[string]string{
				"rows": "SELECT encode(v::bytea, 'hex') FROM t",
				// Names of columns differ between versions.
				"database": `SELECT pg_encoding_to_char(encoding), datcollate, datctype, j ->> 'datlocprovider', j ->> 'daticulocale', j ->> 'datlocale', j ->> 'daticurules'
					FROM pg_database d, to_jsonb(d) j WHERE datname = current_database()`,
			} {
				if d := cmp.Diff(s.Query(t, db, q), s.Query(t, to, q)); d != "" {
					t.Errorf("%s: %s", on, d)
				}
			}
		})
	}
}

// Such a trigger lets nobody in, not even pg_dump; it has to come back all the same.
func TestALoginTriggerKeepsNobodyFromRestoring(t *testing.T) {
	s := shared.Server(t)
	if major(t, s) < 17 {
		t.Skip("version 17 has login triggers first")
	}
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT 7 AS i", `CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS
		$$ BEGIN IF current_setting('application_name') LIKE 'tuskvault%' OR current_setting('application_name') = 'pg_dump' THEN RAISE 'nobody'; END IF; END $$`,
		"CREATE EVENT TRIGGER no ON login EXECUTE FUNCTION no()", "ALTER EVENT TRIGGER no ENABLE ALWAYS")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("login")
	restoreAs(t, s, m, c, db, to, nil)
	restoreAs(t, s, m, c, db, to, func(r *job.Restore) { r.Replace = true })
	if got := s.Query(t, to, "SELECT i, evtname, evtenabled FROM t, pg_event_trigger")[0]; strings.Join(got, " ") != "7 no A" {
		t.Errorf("restored: %v", got)
	}
}

// Virtual columns are computed when read: they can be neither copied nor compared.
func TestVirtualGeneratedColumnsComeBack(t *testing.T) {
	s := shared.Server(t)
	if major(t, s) < 18 {
		t.Skip("version 18 has them first")
	}
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE v (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int GENERATED ALWAYS AS (a * 3) STORED, d int NOT NULL)",
		"INSERT INTO v (a, d) VALUES (1, 5), (2, 6)", "CREATE TABLE only_virtual (b int GENERATED ALWAYS AS (7) VIRTUAL)", "INSERT INTO only_virtual DEFAULT VALUES",
		"ALTER TABLE v ADD CONSTRAINT later CHECK (a < 2) NOT ENFORCED", "CREATE TABLE r (a int)", "ALTER TABLE r ADD CONSTRAINT nn NOT NULL a NOT VALID", "CREATE TABLE temporal (id int4range, p daterange, PRIMARY KEY (id, p WITHOUT OVERLAPS))",
		"INSERT INTO temporal VALUES ('[1,2)', '[2026-01-01,2026-02-01)')")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("virtual")
	restoreAs(t, s, m, c, db, to, nil)
	const q = "SELECT a, b, c, d, (SELECT b FROM only_virtual), (SELECT count(*) FROM temporal) FROM v ORDER BY a"
	if d := cmp.Diff(s.Query(t, db, q), s.Query(t, to, q)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(schema(t, s, db), schema(t, s, to)); d != "" {
		t.Error(d)
	}
}

func TestAMaterializedViewThatCannotBeFilledCostsNothingElse(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t (i int)", "INSERT INTO t VALUES (0)", "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1 / ($1 + 1)'",
		"CREATE MATERIALIZED VIEW mv AS SELECT f(i) FROM t", "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1 / $1'")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("mv")
	out := restoreAs(t, s, m, c, db, to, nil)
	out.Problems = ofDatabases(out.Problems)
	if len(out.Problems) != 1 || out.Problems[0].Object != "materialized view public.mv" || !strings.Contains(out.Problems[0].Hint, "REFRESH") {
		t.Errorf("%+v", out.Problems)
	}
	if n := s.Query(t, to, "SELECT relispopulated FROM pg_class WHERE relname = 'mv'")[0][0]; n != "f" {
		t.Error("it is populated")
	}
}

func TestProgressIsReportedUntilTheEnd(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	r := &recorder{}
	to := pgtest.Unique("progress")
	t.Cleanup(func() { s.DropDatabase(t, to) })
	p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: r, Transferred: func() int64 { return 7 }}, c, repo.NewID(), mapping(db, to))
	if err != nil {
		t.Fatal(err)
	}
	if out := p.Run(t.Context()); out.Err != nil {
		t.Fatal(out.Err)
	}
	last := r.progress[len(r.progress)-1]
	want := job.Progress{Phase: "restoring", Transferred: 7, Databases: []job.DatabaseProgress{{
		Database: to, Phase: job.PhaseDone, Rows: 6000, Bytes: p.Plan().Databases[0].Bytes, BytesTotal: p.Plan().Databases[0].Bytes, TablesDone: 2, TablesTotal: 2, IndexesDone: 1, IndexesTotal: 1}}}
	if d := cmp.Diff(want, last); d != "" {
		t.Error(d)
	}
}

func TestARoleThatMayOnlyCreateDatabasesCanRestoreWithoutOwners(t *testing.T) {
	s := shared.Server(t)
	makeRoles(t, s)
	db := smallDatabase(t, s)
	s.Exec(t, db, "ALTER TABLE b OWNER TO app_owner", "GRANT SELECT ON a TO app_reader", "CREATE TABLE p (k int) PARTITION BY LIST (k)", "CREATE TABLE p1 PARTITION OF p DEFAULT",
		"INSERT INTO p VALUES (1)", "ALTER TABLE b ENABLE ROW LEVEL SECURITY", "ALTER TABLE b FORCE ROW LEVEL SECURITY")
	m, c := backUp(t, s, db)
	role := pgtest.Unique("maker")
	s.Exec(t, "postgres", "CREATE ROLE "+role+" LOGIN CREATEDB")
	cfg := config(s)
	cfg.User = role
	to := pgtest.Unique("owned")
	t.Cleanup(func() { s.DropDatabase(t, to); s.Exec(t, "postgres", "DROP ROLE "+role) })
	r := mapping(db, to)
	r.NoOwner = true
	p, err := load.Prepare(t.Context(), load.Options{Config: cfg, Source: source{m}, Reporter: &recorder{}}, c, repo.NewID(), r)
	if err != nil {
		t.Fatal(err)
	}
	out := p.Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	if n := s.Query(t, to, "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace"); len(n) != 1 || n[0][0] != role {
		t.Errorf("owners %v", n)
	}
	out.Problems = ofDatabases(out.Problems)
	if out.Databases[0].TablesCompared != 3 || len(out.Problems) != 1 || !strings.Contains(out.Problems[0].Reason, "no superuser") {
		t.Errorf("%+v %+v", out.Databases, out.Problems)
	}
}

// pg_dump puts the privileges and the comment of the database into the archive,
// with the name of the source.
func TestTheSourceIsNeitherNeededNorTouched(t *testing.T) {
	s := shared.Server(t)
	makeRoles(t, s)
	const facts = "SELECT (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '"
	for name, gone := range map[string]bool{"it is there, changed": false, "it is gone": true} {
		t.Run(name, func(t *testing.T) {
			db := smallDatabase(t, s)
			s.Exec(t, "postgres", `GRANT CONNECT ON DATABASE "`+db+`" TO app_reader`, `COMMENT ON DATABASE "`+db+`" IS 'one'`)
			m, c := backUp(t, s, db)
			want := s.Query(t, "postgres", facts+db+"'")
			s.Exec(t, "postgres", `REVOKE CONNECT ON DATABASE "`+db+`" FROM app_reader`, `COMMENT ON DATABASE "`+db+`" IS 'two'`)
			now := s.Query(t, "postgres", facts+db+"'")
			if gone {
				s.DropDatabase(t, db)
				now = nil
			}
			to := pgtest.Unique("apart")
			restoreAs(t, s, m, c, db, to, nil)
			if d := cmp.Diff(want, s.Query(t, "postgres", facts+to+"'")); d != "" {
				t.Errorf("restored: %s", d)
			}
			if d := cmp.Diff(now, s.Query(t, "postgres", facts+db+"'")); d != "" {
				t.Errorf("source: %s", d)
			}
		})
	}
}
