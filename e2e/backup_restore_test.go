package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// schemaOf is pg_dump's schema without what differs each time.
func schemaOf(t *testing.T, pg *pgtest.Server, database string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(pg.Bin, "pg_dump"), "--schema-only", database)
	cmd.Env = append(os.Environ(), pg.Env(database)...)
	out, err := cmd.Output()
	must(t, err)
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool {
		return strings.HasPrefix(l, `\restrict`) || strings.HasPrefix(l, `\unrestrict`)
	})
	return strings.Join(lines, "\n")
}

func digests(t *testing.T, pg *pgtest.Server, database string) map[string]string {
	t.Helper()
	d, err := dataset.Digests(t.Context(), pg.URL(database))
	must(t, err)
	return d
}

// filled is a database with a small shop in it.
func filled(t *testing.T, pg *pgtest.Server, scale float64) string {
	t.Helper()
	name := pg.Database(t)
	must(t, dataset.Fill(t.Context(), pg.URL(name), scale))
	return name
}

// dropLater drops a database that a restore makes.
func dropLater(t *testing.T, pg *pgtest.Server, name string) string {
	t.Helper()
	t.Cleanup(func() { pg.DropDatabase(t, name) })
	return name
}

func TestARestoreGivesTheRowsAndTheSchemaOfTheSnapshot(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	s := running(t, pg)
	before := digests(t, pg, source)

	first := backup(t, s, "--database", source)
	must(t, dataset.Change(t.Context(), pg.URL(source), 0.05))
	after := digests(t, pg, source)
	second := backup(t, s, "--database", source)
	third := backup(t, s, "--database", source)

	if j := job(t, s, third); j.Result.Stats.NewChunks > 0 || j.Result.Stats.Chunks == 0 {
		t.Errorf("an unchanged database sent %d of %d chunks again", j.Result.Stats.NewChunks, j.Result.Stats.Chunks)
	}
	old, now := dropLater(t, pg, source+"_old"), dropLater(t, pg, source+"_now")
	ok(t, s, "restore", first, "--to", "db1/main", "--database", source+"="+old, "--wait")
	ok(t, s, "restore", second[:10], "--to", "main", "--database", source+"="+now, "--wait", "--jobs", "3")
	if d := cmp.Diff(before, digests(t, pg, old)); d != "" {
		t.Errorf("first snapshot: %s", d)
	}
	if d := cmp.Diff(after, digests(t, pg, now)); d != "" {
		t.Errorf("second snapshot: %s", d)
	}
	if d := cmp.Diff(schemaOf(t, pg, source), schemaOf(t, pg, now)); d != "" {
		t.Errorf("schema: %s", d)
	}

	out := ok(t, s, "snapshot", "tables", second, "-o", "name")
	if !strings.Contains(out, source+".shop.customers\n") {
		t.Errorf("snapshot tables: %s", out)
	}
	if out := ok(t, s, "snapshot", "show", second); !strings.Contains(out, source+": complete") {
		t.Errorf("snapshot show: %s", out)
	}
}

func TestEveryDatabaseOfAnInstanceIsRestoredOnAnother(t *testing.T) {
	from := pgtest.Start(t, pgtest.Options{})
	to := pgtest.Start(t, pgtest.Options{})
	sql(t, from, "postgres", "CREATE ROLE clerk LOGIN PASSWORD 'x'", "CREATE ROLE owner", `CREATE DATABASE "odd ""name"" é" OWNER owner`, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	sql(t, from, `odd "name" é`, "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 1000) i; GRANT SELECT ON t TO clerk")
	sql(t, from, "latin", `CREATE TABLE "tä" (x text); INSERT INTO "tä" VALUES ('grüße')`)
	sql(t, from, "postgres", `ALTER DATABASE latin SET work_mem = '7MB'`)

	s := running(t, from)
	must(t, s.Enroll(t.Context(), "db2", to.Env("postgres"), "--config", allowing(t, s, "restore-globals")))
	id := backup(t, s)
	refused(t, s, 6, []string{"clerk"}, "restore", id, "--to", "db2/main", "--database", `odd "name" é`, "--wait")
	ok(t, s, "restore", id, "--to", "db2/main", "--database", `odd "name" é`, "--database", "latin=latin2", "--globals", "--wait")

	if got := value(t, to.URL(`odd "name" é`), "SELECT count(*) || ' ' || has_table_privilege('clerk', 't', 'SELECT') FROM t"); got != "1000 true" {
		t.Errorf("restored table: %s", got)
	}
	if got := value(t, to.URL("postgres"), "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate || ' ' || (SELECT setconfig[1] FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = 'latin2'"); got != "LATIN1 C work_mem=7MB" {
		t.Errorf("restored database: %s", got)
	}
	if d := cmp.Diff(digests(t, from, "latin"), digests(t, to, "latin2")); d != "" {
		t.Error(d)
	}
}

func TestADryRunPlansAndChangesNothing(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.01)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	databases := func() string {
		return value(t, pg.URL("postgres"), "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")
	}
	before := databases()
	out := ok(t, s, "restore", id, "--to", "db1/main", "--database", source+"="+source+"_new", "--dry-run")
	if !strings.Contains(out, source+"_new") {
		t.Errorf("the plan does not name the new database:\n%s", out)
	}
	refused(t, s, 6, []string{source, "exists"}, "restore", id, "--to", "db1/main", "--database", source, "--dry-run")
	if now := databases(); now != before {
		t.Errorf("databases were %s, are %s", before, now)
	}
}

func TestReplaceSwapsOnlyWhenTheNewDatabaseIsEqual(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.01)
	s := running(t, pg)
	want := digests(t, pg, source)
	id := backup(t, s, "--database", source)
	sql(t, pg, source, "TRUNCATE shop.events", "DROP TABLE shop.files")

	refused(t, s, 6, []string{"exists", "--replace"}, "restore", id, "--to", "db1/main", "--database", source, "--wait")
	refused(t, s, 4, []string{"does not allow restore-replace"}, "restore", id, "--to", "db1/main", "--database", source, "--replace", "--yes", "--wait")

	_, err := s.Agents["db1"].Stop(t.Context())
	must(t, err)
	must(t, s.StartAgent(t.Context(), "db1", "", pg.Env("postgres"), "--config", allowing(t, s, "restore-replace")))
	must(t, s.Online(t.Context(), "db1/main"))
	ok(t, s, "restore", id, "--to", "db1/main", "--database", source, "--replace", "--yes", "--wait")
	if d := cmp.Diff(want, digests(t, pg, source)); d != "" {
		t.Error(d)
	}
}

// allowing writes an agent's configuration that allows more than the default.
func allowing(t *testing.T, s *harness.System, more string) string {
	t.Helper()
	config := filepath.Join(s.Dir, more+".yaml")
	must(t, os.WriteFile(config, []byte("allow: [backup, drill, restore-new, "+more+"]\n"), 0o600))
	return config
}

func TestOneDatabaseThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE good", "CREATE DATABASE bad", "CREATE ROLE tuskvault LOGIN BYPASSRLS", "GRANT pg_read_all_data, pg_monitor TO tuskvault", "REVOKE CONNECT ON DATABASE bad FROM PUBLIC")
	sql(t, pg, "good", "CREATE TABLE t AS SELECT i FROM generate_series(1, 5000) i")
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", append(pg.Env("postgres"), "PGUSER=tuskvault"))))
	refused(t, s, 6, []string{"bad", "GRANT CONNECT"}, "backup", "db1/main", "--wait")
	out := ok(t, s, "snapshot", "show", strings.TrimSpace(ok(t, s, "snapshot", "ls", "-o", "name")))
	for _, want := range []string{"incomplete", "good: complete", "bad: failed"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said of the snapshot:\n%s", want, out)
		}
	}
	must(t, s.Enroll(t.Context(), "db2", pg.Env("postgres")))
	id := strings.TrimSpace(ok(t, s, "snapshot", "ls", "-o", "name"))
	ok(t, s, "restore", id, "--to", "db2/main", "--database", "good=good2", "--wait")
	if n := value(t, pg.URL("good2"), "SELECT count(*)::text FROM t"); n != "5000" {
		t.Errorf("%s rows restored, want 5000", n)
	}
	refused(t, s, 6, []string{"bad"}, "restore", id, "--to", "db2/main", "--database", "bad=bad2", "--wait")
}

// An agent started by name alone and one that is stopped in the middle are
// covered by the tests of crashes; this one is about leaving in order.
func TestProgramsEndInOrderAndGoOnWhereTheyWere(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.01)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	must(t, s.Close(context.WithoutCancel(t.Context())))
	must(t, s.StartController(t.Context()))
	must(t, s.StartAgent(t.Context(), "db1", "", pg.Env("postgres")))
	must(t, s.Online(t.Context(), "db1/main"))
	if out := ok(t, s, "snapshot", "ls", "-o", "name"); strings.TrimSpace(out) != id {
		t.Errorf("snapshots after the restart: %s", out)
	}
	again := backup(t, s, "--database", source)
	if j := job(t, s, again); j.Result.Stats.NewChunks > 0 {
		t.Errorf("after the restart %d chunks were sent again", j.Result.Stats.NewChunks)
	}
}
