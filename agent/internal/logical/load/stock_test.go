package load_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/export"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Stock pg_restore and psql must load what is exported from a snapshot, and give
// the same database as our own restore.

// exportSource gives a snapshot in memory to an export.
type exportSource struct{ source }

func (s exportSource) Stream(ctx context.Context, st repo.Stream) iter.Seq2[export.Chunk, error] {
	return func(yield func(export.Chunk, error) bool) {
		for c, err := range s.source.Stream(ctx, st) {
			if !yield(export.Chunk{Kind: c.Kind, First: c.First, Last: c.Last, Plain: c.Plain}, err) {
				return
			}
		}
	}
}

// exportTo exports one database and gives the path.
func exportTo(t *testing.T, m *memory, c *repo.Content, db string, format export.Format, name string, change ...func(*export.Options)) (string, *export.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	o := export.Options{Selection: export.Selection{Database: db}, Source: exportSource{source{m}}, Snapshot: "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", Format: format, Output: path, Jobs: 3}
	for _, fn := range change {
		fn(&o)
	}
	r, err := export.Run(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return path, r
}

// tool runs a program of PostgreSQL; it must exit 0.
func tool(t *testing.T, bin, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c client_min_messages=warning")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// emptyDatabase is an empty database that is dropped at the end.
func emptyDatabase(t *testing.T, s *pgtest.Server, d *repo.Database) string {
	t.Helper()
	name := pgtest.Unique("stock")
	s.Exec(t, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'", name, d.Encoding))
	t.Cleanup(func() { s.DropDatabase(t, name) })
	cleanSubscription(t, s, name)
	return name
}

// withoutObjects leaves large objects out: holes in them become zeros in files.
func withoutObjects(all []string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return strings.HasPrefix(s, "large objects ") })
}

// withoutVersions leaves out what servers of 17.12 note on columns for themselves;
// pg_dump 18 takes it for an option.
func withoutVersions(schema string) string {
	var lines []string
	for line := range strings.Lines(schema) {
		if !strings.Contains(line, " SET (pg_attver=") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// knowsRestrict tells whether an installation's psql is new enough for \restrict.
func knowsRestrict(t *testing.T, s *pgtest.Server) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.Client(), "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", s.URL("postgres"), "-f", "-")
	cmd.Stdin = strings.NewReader("\\restrict x\n\\unrestrict x\n")
	return cmd.Run() == nil
}

// alike compares a loaded database with its source.
func alike(t *testing.T, from *pgtest.Server, c *repo.Content, db string, to *pgtest.Server, name string) {
	t.Helper()
	if d := cmp.Diff(withoutVersions(laterSchema(t, to.Client(), from, db)), laterSchema(t, to.Client(), to, name)); d != "" {
		t.Errorf("schema (-source +loaded):\n%s", d)
	}
	_, again := backUp(t, to, name)
	if d := cmp.Diff(withoutObjects(contents(c, db)), withoutObjects(contents(again, name))); d != "" {
		t.Errorf("contents (-source +loaded):\n%s", d)
	}
	for what, query := range map[string]string{
		"hash partitions": "SELECT c, n FROM s1.hp ORDER BY 1, 2",
		"materialized":    "SELECT c, (SELECT c FROM s1.mv2) FROM s1.mv",
		"valid indexes":   "SELECT c.relname, indisvalid, indisready, indisclustered FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE c.oid >= 16384 AND c.relkind IN ('i', 'I') AND c.relnamespace <> 99 ORDER BY 1",
		"fired triggers":  "SELECT count(*) FROM s1.counted",
		"subscription":    "SELECT subname, subenabled, subconninfo, subslotname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
		"mapping":         "SELECT (SELECT array_agg(o ORDER BY o) FROM unnest(umoptions) o) FROM pg_user_mappings",
		"objects":         "SELECT m.oid, lomowner::regrole, lomacl, obj_description(m.oid, 'pg_largeobject'), md5(lo_get(m.oid)) FROM pg_largeobject_metadata m ORDER BY 1",
		"event trigger":   "SELECT evtname, evtenabled, obj_description(oid, 'pg_event_trigger') FROM pg_event_trigger",
	} {
		want, got := from.Query(t, db, query), to.Query(t, name, query)
		if d := cmp.Diff(want, got); d != "" || len(want) == 0 {
			t.Errorf("%s (-source +loaded):\n%s", what, d)
		}
	}
}

func TestStockToolsLoadAnExportOfEveryKindOfObject(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	m, c := backUp(t, s, db)
	for _, f := range []struct {
		name string
		load func(t *testing.T, to string)
	}{
		{"pg_restore", func(t *testing.T, to string) {
			path, r := exportTo(t, m, c, db, export.Directory, "d")
			if len(r.Databases) != 1 || r.Databases[0].LargeObjects != 5 || r.Databases[0].Rows < 20000 {
				t.Errorf("report: %+v", r)
			}
			tool(t, s.Client(), "pg_restore", "--exit-on-error", "-d", s.URL(to), path)
		}},
		{"pg_restore in parallel", func(t *testing.T, to string) {
			path, _ := exportTo(t, m, c, db, export.Directory, "d")
			tool(t, s.Client(), "pg_restore", "--exit-on-error", "-j2", "-d", s.URL(to), path)
		}},
		{"psql", func(t *testing.T, to string) {
			path, _ := exportTo(t, m, c, db, export.Plain, "p.sql")
			tool(t, s.Client(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", s.URL(to), "-f", path)
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			to := emptyDatabase(t, s, database(c, db))
			f.load(t, to)
			alike(t, s, c, db, s, to)
		})
	}
}

// Each version's snapshot is loaded by the tools of every later one.
func TestStockToolsLoadExportsOfLaterVersions(t *testing.T) {
	all := majors(t)
	for i, from := range all {
		db := everyDatabase(t, from)
		m, c := backUp(t, from, db)
		dir, _ := exportTo(t, m, c, db, export.Directory, "d")
		sql, _ := exportTo(t, m, c, db, export.Plain, "p.sql.gz")
		old, _ := exportTo(t, m, c, db, export.Plain, "p.sql.gz", func(o *export.Options) { o.NoRestrict = true })
		for _, to := range all[i:] {
			makeRoles(t, to)
			t.Run(fmt.Sprintf("%d to %d by pg_restore", major(t, from), major(t, to)), func(t *testing.T) {
				if to.Client() != to.Bin && major(t, to) == 16 {
					t.Skip("this server has no pg_restore of its own, and that of 17 stops at a setting that 16 does not know")
				}
				name := emptyDatabase(t, to, database(c, db))
				tool(t, to.Client(), "pg_restore", "--exit-on-error", "-j2", "-d", to.URL(name), dir)
				alike(t, from, c, db, to, name)
			})
			t.Run(fmt.Sprintf("%d to %d by psql", major(t, from), major(t, to)), func(t *testing.T) {
				name := emptyDatabase(t, to, database(c, db))
				sql := sql
				if !knowsRestrict(t, to) {
					sql = old
				}
				tool(t, "/bin", "sh", "-c", `gzip -dc "$1" | "$2"/psql -X -q -v ON_ERROR_STOP=1 -d "$3" -f -`, "sh", sql, to.Client(), to.URL(name))
				alike(t, from, c, db, to, name)
			})
		}
	}
}

// Rows in the binary format become text again.
func TestStockToolsLoadWideRows(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'it''s \\ fine'); CREATE DOMAIN s.code AS varchar(40)",
		`CREATE TABLE s."wide ""t" (id bigint, b bytea, t text, "odd,(name" varchar(7000), m s.mood, k s.code, n numeric(30,7), d date, ts timestamp(3), tz timestamptz, j jsonb, js json,
			r real, f float8, u uuid, i2 smallint, bo boolean, ti time, iv interval, ch char(5), nm name, o oid)`,
		`INSERT INTO s."wide ""t" SELECT g, decode(repeat(lpad(to_hex(g), 2, '0'), 3000 + g), 'hex'), E'tab\t nl\n back\\ \b\f\v\r end' || repeat('x', 4000), 'v', 'it''s \ fine', 'c', (g - 5) * 12345.6789012,
			date '4713-01-01 BC' + g * 300000, timestamp '0001-01-01 BC' + g * interval '100 years 1.25 seconds', timestamptz '1969-12-31 23:59:59.999999+01' + g * interval '1 month',
			'{"a\\n": [1, null]}', '{"x" :  1}', 0.1 * g, 'NaN', '00112233-4455-6677-8899-aabbccddee0f', -g, g % 2 = 0, '23:59:59.5', '-1 year 2 days -03:04:05.678', 'ab', 'nm', 4294967295
			FROM generate_series(1, 6) g`,
		`INSERT INTO s."wide ""t" (id, b, n, d, ts, f, r) VALUES (7, repeat('z', 5000)::bytea, 'NaN', 'infinity', '-infinity', '-Infinity', 1e-30), (8, repeat('y', 5000)::bytea, 0.0000001, '2024-02-29', '294276-12-31 23:59:59.999', 1e300, 3.4e38),
			(9, repeat('w', 5000)::bytea, 100000000, '0001-12-31 BC', '2000-01-01', 0.1, -0.0), (10, 'small', 1, null, null, null, null)`,
		`CREATE TABLE arrays (a int[], b bytea); INSERT INTO arrays VALUES ('{1}', 'small')`)
	m, c := backUp(t, s, db)
	if w := tableOf(t, database(c, db), `wide "t`); true {
		readApart(t, s, m, db, w, "(id < 10)")
		if w.Runs[0].Rows != 1 || w.Runs[1].Rows != 9 {
			t.Fatalf("runs of %d and %d rows", w.Runs[0].Rows, w.Runs[1].Rows)
		}
	}
	for format, load := range map[export.Format]func(path, to string){
		export.Directory: func(path, to string) {
			tool(t, s.Client(), "pg_restore", "--exit-on-error", "-d", s.URL(to), path)
		},
		export.Plain: func(path, to string) {
			tool(t, s.Client(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", s.URL(to), "-f", path)
		},
	} {
		path, _ := exportTo(t, m, c, db, format, string(format))
		to := emptyDatabase(t, s, database(c, db))
		load(path, to)
		const rows = `SELECT md5(string_agg(x::text, chr(10) ORDER BY id)), count(*) FROM s."wide ""t" x`
		if d := cmp.Diff(s.Query(t, db, rows), s.Query(t, to, rows)); d != "" {
			t.Errorf("%s: %s", format, d)
		}
	}
	// What has no text is an error that names the table and says how many rows.
	s.Exec(t, db, "INSERT INTO arrays SELECT '{2}', repeat('x', 5000)::bytea FROM generate_series(1, 3)")
	m, c = backUp(t, s, db)
	readApart(t, s, m, db, tableOf(t, database(c, db), "arrays"), "(length(b) > 1000)")
	for _, keep := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "x")
		_, err := export.Run(t.Context(), c, export.Options{Selection: export.Selection{Database: db}, Source: exportSource{source{m}}, Format: export.Directory, Output: path, KeepGoing: keep})
		if err == nil || !strings.Contains(err.Error(), "public.arrays") || !strings.Contains(err.Error(), "3 wide rows") || !strings.Contains(err.Error(), "integer[]") {
			t.Errorf("keep going %t: %v", keep, err)
		}
		if _, err := os.Stat(path); (err == nil) != keep {
			t.Errorf("keep going %t: the output: %v", keep, err)
		}
	}
}
