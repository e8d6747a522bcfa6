package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// transferred is what a job's last attempt got over the wire, in bytes.
func transferred(t *testing.T, s *harness.System, id string) int64 {
	t.Helper()
	var v struct {
		Job struct {
			Result struct {
				Stats struct {
					TransferredBytes json.Number `json:"transferred_bytes"`
				} `json:"stats"`
			} `json:"result"`
		} `json:"job"`
	}
	must(t, s.JSON(t.Context(), &v, "job", "show", id))
	n, err := v.Job.Result.Stats.TransferredBytes.Int64()
	must(t, err)
	return n
}

// restored starts a restore, waits and gives the job's id.
func restored(t *testing.T, s *harness.System, args ...string) string {
	t.Helper()
	var v jobs
	must(t, s.JSON(t.Context(), &v, append(append([]string{"restore"}, args...), "--wait")...))
	return v.Jobs[0].ID
}

func TestAFewTablesBecomeANewDatabaseAndNothingElseIsFetched(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	sql(t, pg, source, "CREATE TABLE shop.noise AS SELECT i, md5(i::text) || md5((i+1)::text) AS x FROM generate_series(1, 100000) i")
	s := running(t, pg)
	id := backup(t, s, "--database", source)

	part := dropLater(t, pg, source+"_part")
	plan := ok(t, s, "restore", id, "--to", "db1/main", "-d", source+"="+part, "--table", "shop.ord*", "--table", "customers", "--dry-run")
	says(t, "plan", plan, "table shop.orders_2024: ", "table shop.customers: ", "comes along: TYPE shop.status", "VIEW shop", "what holds between tables is not restored")
	job := restored(t, s, id, "--to", "db1/main", "-d", source+"="+part, "--table", "shop.ord*", "--table", "customers")
	whole := dropLater(t, pg, source+"_whole")
	all := restored(t, s, id, "--to", "db1/main", "-d", source+"="+whole)
	small := dropLater(t, pg, source+"_small")
	tiny := restored(t, s, id, "--to", "db1/main", "-d", source+"="+small, "--table", "shop.files", "--schema-only")
	for _, table := range []string{"shop.orders", "shop.customers"} {
		q := "SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)) FROM " + table + " t"
		if want, got := value(t, pg.URL(source), q), value(t, pg.URL(part), q); want != got {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
	if got := value(t, pg.URL(part), "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'shop'::regnamespace"); got != "customers orders orders_2024 orders_2025 orders_rest" {
		t.Errorf("tables: %s", got)
	}
	some, most, least := transferred(t, s, job), transferred(t, s, all), transferred(t, s, tiny)
	t.Logf("fetched: everything %d bytes, two tables %d, no rows %d", most, some, least)
	if some > most/2 || least > 100<<10 || least > some/2 {
		t.Errorf("fetched: everything %d bytes, two tables %d, no rows %d", most, some, least)
	}
	refused(t, s, 6, []string{"table shop.custmers", "matches nothing", "near matches: shop.customers"}, "restore", id, "--to", "db1/main", "-d", source+"=never", "--table", "shop.custmers", "--wait")
	refused(t, s, 2, []string{"exclude each other"}, "restore", id, "--to", "db1/main", "--schema-only", "--data-only")
	refused(t, s, 2, []string{"needs live"}, "restore", id, "--to", "db1/main", "--live-schema", "x")
}

func TestTablesComeIntoADatabaseInUse(t *testing.T) {
	pg := shared.Server(t)
	db := pg.Database(t)
	sql(t, pg, db, "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'row ' || i FROM generate_series(1, 20000) i; CREATE VIEW seen AS SELECT count(*) AS n FROM t; CREATE TABLE refs (t int REFERENCES t); INSERT INTO refs VALUES (7)")
	s := running(t, pg)
	id := backup(t, s, "--database", db)
	const digest = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM %t t"
	rows := func(table string) string { return value(t, pg.URL(db), strings.ReplaceAll(digest, "%t", table)) }
	want := rows("t")
	sql(t, pg, db, "DELETE FROM t WHERE id % 2 = 0; UPDATE t SET v = 'spoilt' WHERE id = 9")
	spoilt := rows("t")

	out := ok(t, s, "restore", id, "--to", "db1/main", "-d", db, "--table", "t", "--live", "--live-schema", "yesterday", "--wait")
	says(t, "result", out, `DROP SCHEMA "yesterday" CASCADE;`, "1 tables equal on the way in")
	if rows("yesterday.t") != want || rows("t") != spoilt {
		t.Errorf("beside: %s, live: %s", rows("yesterday.t"), rows("t"))
	}
	refused(t, s, 6, []string{"schema yesterday", "it exists already"}, "restore", id, "--to", "db1/main", "-d", db, "--table", "t", "--live", "--live-schema", "yesterday", "--wait")

	// In place needs a word of the agent and of the person.
	refused(t, s, 2, []string{"--yes"}, "restore", id, "--to", "db1/main", "-d", db, "--table", "t", "--live", "--replace")
	refused(t, s, 4, []string{"restore-replace"}, "restore", id, "--to", "db1/main", "-d", db, "--table", "t", "--live", "--replace", "--yes")
	_, err := s.Agents["db1"].Stop(t.Context())
	must(t, err)
	must(t, s.StartAgent(t.Context(), "db1", "", pg.Env("postgres"), "--config", allowing(t, s, "restore-replace")))
	must(t, s.Online(t.Context(), "db1/main"))
	out = ok(t, s, "restore", id, "--to", "db1/main", "-d", db, "--table", "t", "--live", "--replace", "--yes", "--wait")
	says(t, "result", out, "keeps the rows that were replaced", "DROP SCHEMA \"tuskvault_replaced_")
	if rows("t") != want || value(t, pg.URL(db), "SELECT n::text FROM seen") != "20000" {
		t.Errorf("in place: %s, want %s", rows("t"), want)
	}
	kept := value(t, pg.URL(db), "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tuskvault%'")
	if rows(kept+".t") != spoilt {
		t.Errorf("kept: %s, want %s", rows(kept+".t"), spoilt)
	}
}

func TestAnAgentKilledBeforeTheSwapIsRetriedAndNeverHalfDone(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE app")
	sql(t, pg, "app", "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 5000) i; CREATE TABLE b AS SELECT * FROM a")
	c := newCrashing(t, pg)
	_, err := c.Agents["db1"].Stop(t.Context())
	must(t, err)
	start := func() {
		must(t, c.StartAgent(t.Context(), "db1", "", pg.Env("postgres"), "--config", allowing(t, c.System, "restore-replace")))
		must(t, c.Online(t.Context(), "db1/main"))
	}
	start()
	id := backup(t, c.System, "--database", "app")
	sql(t, pg, "app", "DELETE FROM a WHERE id > 10; DELETE FROM b WHERE id > 10")
	count := func() string {
		return value(t, pg.URL("app"), "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)")
	}
	// A writer keeps the swap waiting while the agent is killed.
	rounds := 1
	if long() {
		rounds = 10
	}
	for range rounds {
		lock := holding(t, pg, "app", "BEGIN; LOCK TABLE b IN ROW EXCLUSIVE MODE")
		job := strings.TrimSpace(ok(t, c.System, "restore", id, "--to", "db1/main", "-d", "app", "--table", "a", "--table", "b", "--live", "--replace", "--yes", "-o", "name"))
		must(t, c.Eventually(t.Context(), "the rows are staged", c.Agents["db1"], func() (bool, error) {
			return value(t, pg.URL("app"), "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'tuskvault_restore%' AND relname = 'b'") == "1", nil
		}))
		c.pause(1000e6)
		must(t, c.Agents["db1"].Kill())
		if got := count(); got != "10 10" {
			t.Fatalf("after the kill: %s rows", got)
		}
		lock()
		start()
		ok(t, c.System, "job", "watch", job)
		if got := count(); got != "5000 5000" {
			t.Errorf("after the retry: %s rows", got)
		}
		if left := value(t, pg.URL("app"), "SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname LIKE 'tuskvault_restore%'"); left != "" {
			t.Errorf("left: %s", left)
		}
		sql(t, pg, "app", "DELETE FROM a WHERE id > 10; DELETE FROM b WHERE id > 10")
	}
}

func TestWhatIsDamagedIsNamedAndTheRestIsRestored(t *testing.T) {
	pg := shared.Server(t)
	db := pg.Database(t)
	sql(t, pg, db, "CREATE TABLE early AS SELECT i, md5(i::text) AS x FROM generate_series(1, 20000) i")
	s := running(t, pg)
	backup(t, s, "--database", db)
	first := packs(t, s)
	sql(t, pg, db, "CREATE TABLE late AS SELECT i, md5((i * 7)::text) AS x FROM generate_series(1, 20000) i; ALTER TABLE late ADD PRIMARY KEY (i); CREATE TABLE refs (i int REFERENCES late); INSERT INTO refs VALUES (7)")
	id := backup(t, s, "--database", db)
	digest := func(name, table string) string {
		return value(t, pg.URL(name), "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM "+table+" t")
	}
	restore := []string{"restore", id, "--to", "db1/main", "-d"}

	// A pack is gone: known before anything is touched.
	gone := map[string]string{}
	for _, p := range first {
		gone[p] = p + ".away"
		must(t, os.Rename(p, gone[p]))
	}
	refused(t, s, 6, []string{"table public.early", "rows cannot be read whole", "in no pack of the store", "--skip-damaged"}, append(restore, db+"=gone", "--dry-run")...)
	refused(t, s, 6, []string{"table public.early", "--skip-damaged"}, append(restore, db+"=gone", "--wait")...)
	some := dropLater(t, pg, db+"_some")
	out := ok(t, s, append(restore, db+"="+some, "--skip-damaged", "--wait")...)
	says(t, "result", out, "table public.early", "it is left empty", "incomplete")
	if digest(some, "late") != digest(db, "late") || digest(some, "refs") != digest(db, "refs") || digest(some, "early") != "0 0" {
		t.Errorf("late %s, early %s", digest(some, "late"), digest(some, "early"))
	}
	// A table that is whole is restored by itself.
	late := dropLater(t, pg, db+"_late")
	ok(t, s, append(restore, db+"="+late, "--table", "late", "--wait")...)
	for p, away := range gone {
		must(t, os.Rename(away, p))
	}

	// Bytes are flipped in a pack: found while loading, with the table's name.
	for _, p := range first {
		b, err := os.ReadFile(p)
		must(t, err)
		for i := len(b) / 4; i < len(b)/2; i += 1000 {
			b[i] ^= 0xff
		}
		must(t, os.Rename(p, gone[p]))
		must(t, os.WriteFile(p, b, 0o600))
	}
	refused(t, s, 6, []string{"public.early", "corrupt", "was dropped"}, append(restore, db+"=flipped", "--wait")...)
	flipped := dropLater(t, pg, db+"_flipped")
	out = ok(t, s, append(restore, db+"="+flipped, "--skip-damaged", "--wait")...)
	says(t, "result", out, "table public.early", "it is left empty")
	if digest(flipped, "late") != digest(db, "late") || digest(flipped, "early") != "0 0" {
		t.Errorf("late %s, early %s", digest(flipped, "late"), digest(flipped, "early"))
	}
	for p, away := range gone {
		must(t, os.Rename(away, p))
	}

	// The manifest is damaged: nothing is begun.
	var snapshot string
	must(t, filepath.WalkDir(s.StoreDir(), func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, "snapshots") && strings.Contains(path, id) {
			snapshot = path
		}
		return err
	}))
	b, err := os.ReadFile(snapshot)
	must(t, err)
	b[len(b)*3/4] ^= 0xff
	must(t, os.Remove(snapshot))
	must(t, os.WriteFile(snapshot, b, 0o600))
	refused(t, s, 6, []string{"corrupt"}, append(restore, db+"=manifest", "--skip-damaged", "--wait")...)
	if n := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname IN ('gone', 'flipped', 'manifest') OR datname LIKE 'tuskvault%'"); n != "0" {
		t.Errorf("%s databases were begun", n)
	}
}

func TestRolesAreRestoredByThemselvesAndPasswordsOnDemand(t *testing.T) {
	from, to := pgtest.Start(t, pgtest.Options{}), pgtest.Start(t, pgtest.Options{})
	sql(t, from, "postgres", "CREATE ROLE ann LOGIN PASSWORD 'new'", "CREATE ROLE bob LOGIN PASSWORD 'b'", "CREATE TABLE t (i int); ALTER TABLE t OWNER TO bob")
	sql(t, to, "postgres", "CREATE ROLE ann LOGIN PASSWORD 'old'", "CREATE ROLE robert")
	s := running(t, from)
	must(t, s.Enroll(t.Context(), "db2", to.Env("postgres"), "--config", allowing(t, s, "restore-globals, restore-replace")))
	id := backup(t, s)
	password := func(role string) string {
		return value(t, to.URL("postgres"), "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
	}
	old := password("ann")
	out := ok(t, s, "restore", id, "--to", "db2/main", "--globals-only", "--wait")
	says(t, "result", out, "create role bob", "role ann exists: left as it is")
	if password("ann") != old || password("bob") == "" {
		t.Error("passwords")
	}
	refused(t, s, 2, []string{"overwrite passwords", "--yes"}, "restore", id, "--to", "db2/main", "--globals-only", "--overwrite-passwords", "--wait")
	out = ok(t, s, "restore", id, "--to", "db2/main", "--globals-only", "--overwrite-passwords", "--yes", "--wait")
	says(t, "result", out, "role ann exists: its password is set to the snapshot's")
	if want := value(t, from.URL("postgres"), "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'"); password("ann") != want {
		t.Error("the password was not set")
	}
	ok(t, s, "restore", id, "--to", "db2/main", "-d", "postgres=mapped", "--role-map", "bob=robert", "--wait")
	if d := cmp.Diff("robert", value(t, to.URL("mapped"), "SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'")); d != "" {
		t.Error(d)
	}
}
