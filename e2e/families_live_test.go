package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// What a file of SQL cannot tell: things that happen while a backup or a restore
// runs, and what must be refused.

// asBackupRole is a system whose agent is a role with every right but to see
// rows behind row security.
func asBackupRole(t *testing.T, pg *pgtest.Server) *harness.System {
	t.Helper()
	sql(t, pg, "postgres", "CREATE ROLE tuskvault LOGIN", "GRANT pg_read_all_data, pg_monitor TO tuskvault")
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", append(pg.Env("postgres"), "PGUSER=tuskvault"))))
	return s
}

func TestRowsThatTheRoleCannotSeeAreRefusedNeverLeftOut(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	if majorOf(t, pg) < 14 {
		t.Skip("pg_read_all_data is there from version 14 on")
	}
	s := asBackupRole(t, pg)
	for name, statements := range map[string]string{
		"enabled":   "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (i < 10)",
		"forced":    "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100); ALTER TABLE t OWNER TO tuskvault; ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (i < 10)",
		"all_seen":  "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true)",
		"partition": "CREATE TABLE p (i int) PARTITION BY LIST (i); CREATE TABLE t PARTITION OF p DEFAULT; INSERT INTO p SELECT generate_series(1, 100); ALTER TABLE t ENABLE ROW LEVEL SECURITY",
	} {
		sql(t, pg, "postgres", "CREATE DATABASE "+name)
		sql(t, pg, name, statements)
		refused(t, s, 6, []string{"public.t", "BYPASSRLS"}, "backup", "db1/main", "--database", name, "--wait")
	}
	if out := ok(t, s, "snapshot", "ls", "-o", "name"); out != "" {
		t.Fatalf("there are snapshots: %s", out)
	}
	sql(t, pg, "postgres", "ALTER ROLE tuskvault BYPASSRLS")
	id := backup(t, s)
	for name, tables := range tablesOf(t, s, id) {
		for table, v := range tables {
			if v.Rows != 100 {
				t.Errorf("%s.%s: %d rows of 100", name, table, v.Rows)
			}
		}
	}
}

func TestADatabaseThatAcceptsNoConnectionsFailsAlone(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE open", "CREATE DATABASE shut", "ALTER DATABASE shut ALLOW_CONNECTIONS false")
	sql(t, pg, "open", "CREATE TABLE t AS SELECT 1 AS i")
	s := running(t, pg)
	refused(t, s, 6, []string{"shut", "ALLOW_CONNECTIONS"}, "backup", "db1/main", "--wait")
	refused(t, s, 6, []string{"shut", "ALLOW_CONNECTIONS"}, "backup", "db1/main", "--database", "shut", "--wait")
	out := ok(t, s, "snapshot", "show", strings.TrimSpace(ok(t, s, "snapshot", "ls", "-o", "name")))
	says(t, "snapshot show", out, "open: complete", "shut: failed")
	ok(t, s, "backup", "db1/main", "--exclude-database", "shut", "--wait")
}

// The invariants hold in every state that some transaction committed, so they
// must hold in the restored database.
func TestABackupAmongDDLIsOneMomentOfTheDatabase(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE busy")
	sql(t, pg, "busy", "CREATE TABLE refilled (i int, n int)", "INSERT INTO refilled SELECT g, 1 FROM generate_series(1, 500) g", "CREATE TABLE retyped (v int)", "INSERT INTO retyped SELECT generate_series(1, 500)",
		"CREATE TABLE renamed_a (i int)", "INSERT INTO renamed_a VALUES (7)", "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 10) AS x FROM generate_series(1, 200000) i",
		"CREATE TABLE comes AS SELECT 1 AS i", "CREATE TABLE parted (k int) PARTITION BY LIST (k)", "CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1)", "INSERT INTO parted VALUES (1)")
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for _, loop := range [][]string{
		{"BEGIN; TRUNCATE refilled; INSERT INTO refilled SELECT g, %[1]d FROM generate_series(1, 500) g; COMMIT"},
		{"ALTER TABLE retyped ALTER v TYPE bigint", "ALTER TABLE retyped ALTER v TYPE int"},
		{"BEGIN; DROP TABLE comes; CREATE TABLE comes AS SELECT 1 AS i; COMMIT"},
		{"ALTER TABLE renamed_a RENAME TO renamed_b", "ALTER TABLE renamed_b RENAME TO renamed_a"},
		{"BEGIN; ALTER TABLE parted DETACH PARTITION part_1; DROP TABLE part_1; CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1); INSERT INTO parted VALUES (1); COMMIT"},
	} {
		c, err := pgconn.Connect(t.Context(), pg.URL("busy"))
		must(t, err)
		busy.Go(func() { churn(ctx, t, c, loop) })
	}
	s := running(t, pg)
	for i := range 3 {
		id := backup(t, s, "--database", "busy")
		name := fmt.Sprintf("still_%d", i)
		ok(t, s, "restore", id, "--to", "db1/main", "--database", "busy="+name, "--wait")
		got := value(t, pg.URL(name), `SELECT (SELECT count(*) || ' ' || count(DISTINCT n) FROM refilled) || ' ' || (SELECT count(*) || ' ' || sum(v) FROM retyped) || ' ' || (SELECT sum(i) FROM comes) || ' ' || (SELECT count(*) FROM parted)
			|| ' ' || (SELECT count(*) FROM big) || ' ' || (SELECT count(*) FROM pg_class WHERE relname ~ '^renamed_[ab]$')`)
		if got != "500 1 500 125250 1 1 200000 1" {
			t.Errorf("snapshot %d: %s", i, got)
		}
	}
	cancel()
	busy.Wait()
}

// churn repeats statements until ctx ends.
func churn(ctx context.Context, t *testing.T, c *pgconn.PgConn, loop []string) {
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // its statement may have been cut
	tick := time.NewTicker(700 * time.Millisecond)             // a database in which something is changed seven times a second
	defer tick.Stop()
	for i := 0; ; i++ {
		q := strings.ReplaceAll(loop[i%len(loop)], "%[1]d", fmt.Sprint(i))
		if _, err := c.Exec(ctx, q).ReadAll(); err != nil {
			if ctx.Err() == nil {
				t.Errorf("%s: %v", q, err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func TestALockedTableIsWaitedFor(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE held")
	sql(t, pg, "held", "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
	s := running(t, pg)
	c, err := pgconn.Connect(t.Context(), pg.URL("held"))
	must(t, err)
	_, err = c.Exec(t.Context(), "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; INSERT INTO t VALUES (11)").ReadAll()
	must(t, err)
	var v jobs
	must(t, s.JSON(t.Context(), &v, "backup", "db1/main", "--database", "held"))
	must(t, s.Eventually(t.Context(), "the backup waits for the lock", s.Agents["db1"], func() (bool, error) {
		return value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'") != "0", nil
	}))
	_, err = c.Exec(t.Context(), "COMMIT").ReadAll()
	must(t, err)
	must(t, c.Close(t.Context()))
	ok(t, s, "job", "watch", v.Jobs[0].ID)
	if n := tablesOf(t, s, job(t, s, v.Jobs[0].ID).SnapshotID)["held"]["t"].Rows; n != 11 {
		t.Errorf("%d rows, want what the lock's holder committed too: 11", n)
	}
}

func TestManySmallLargeObjectsTakeNoMoreMemory(t *testing.T) {
	few, many := 1000, 20_000
	if long() {
		many = 100_000
	}
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE ROLE fam_many", "CREATE DATABASE few", "CREATE DATABASE many")
	fill := func(database string, n int) {
		for from := 1; from <= n; from += 5000 {
			to := min(n, from+4999)
			sql(t, pg, database, fmt.Sprintf("SELECT count(lo_from_bytea(20000 + g, convert_to('object ' || g, 'UTF8'))) FROM generate_series(%d, %d) g", from, to))
		}
		sql(t, pg, database, "UPDATE pg_largeobject_metadata SET lomowner = 'fam_many'::regrole, lomacl = '{fam_many=rw/fam_many,=r/fam_many}' WHERE oid::int8 % 3 = 0")
	}
	fill("few", few)
	fill("many", many)
	s := running(t, pg)
	peak := map[string]int64{}
	for _, name := range []string{"few", "many"} {
		start := time.Now()
		id := backup(t, s, "--database", name)
		read := time.Since(start)
		start = time.Now()
		ok(t, s, "restore", id, "--to", "db1/main", "--database", name+"="+name+"2", "--wait")
		peak[name] = s.Agents["db1"].PeakMemory()
		t.Logf("%s: backup %s, restore %s, peak memory of the agent %d MiB", name, read.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), peak[name]>>20)
		if d := cmp.Diff(digests(t, pg, name), digests(t, pg, name+"2")); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if growth := peak["many"] - peak["few"]; growth > 48<<20 {
		t.Errorf("%d large objects took %d MiB more than %d", many, growth>>20, few)
	}
}

func TestRowsBeyondHalfAGigabyteAreRead(t *testing.T) {
	if !long() {
		t.Skip("a long test: set TUSKVAULT_LONG")
	}
	pg := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_wal_size": "4GB"}})
	sql(t, pg, "postgres", "CREATE DATABASE wide")
	sql(t, pg, "wide", "CREATE TABLE w (id int PRIMARY KEY, b bytea, c bytea, t text)", "ALTER TABLE w ALTER b SET STORAGE EXTERNAL, ALTER c SET STORAGE EXTERNAL, ALTER t SET STORAGE EXTERNAL",
		"INSERT INTO w SELECT 1, x || x, NULL, 'six hundred megabytes' FROM decode(repeat('abcdef0123', 60000000), 'hex') x", // no text of more than 1 GiB can be made
		"INSERT INTO w SELECT 2, x || x, x || x, 'two of three hundred' FROM decode(repeat('00ff', 75000000), 'hex') x",
		"INSERT INTO w SELECT g, decode(repeat(md5(g::text), 1000), 'hex'), NULL, 't' FROM generate_series(3, 500) g", "INSERT INTO w VALUES (1000, NULL, NULL, repeat('0123456789', 60000000))")
	s := running(t, pg)
	id := backup(t, s, "--database", "wide")
	ok(t, s, "restore", id, "--to", "db1/main", "--database", "wide=wide2", "--wait")
	const sum = "SELECT md5(string_agg(concat_ws(' ', id, md5(b), md5(c), md5(t), length(b), length(t)), ',' ORDER BY id)) || count(*) FROM w"
	if want, got := value(t, pg.URL("wide"), sum), value(t, pg.URL("wide2"), sum); want != got {
		t.Errorf("source %s, restored %s", want, got)
	}
	peak := s.Agents["db1"].PeakMemory() >> 20
	t.Logf("peak memory of the agent %d MiB", peak)
	if peak > 400 {
		t.Errorf("the agent took %d MiB: a row is kept whole", peak)
	}
}

// halfMade is the database that a restore has begun to fill.
func halfMade(t *testing.T, s *harness.System, pg *pgtest.Server) string {
	t.Helper()
	const name = "SELECT coalesce(max(datname), '') FROM pg_database WHERE datname LIKE 'tuskvault_restore_%' AND shobj_description(oid, 'pg_database') <> ''"
	must(t, s.Eventually(t.Context(), "rows are being restored", s.Agents["db1"], func() (bool, error) {
		return value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE datname LIKE 'tuskvault_restore_%' AND (query LIKE 'COPY%FROM STDIN' OR query LIKE '%CREATE INDEX%')") != "0", nil
	}))
	return value(t, pg.URL("postgres"), name)
}

// dropCommand finds the command in what a program said.
func dropCommand(t *testing.T, text, name string) string {
	t.Helper()
	from := strings.Index(text, `DROP DATABASE "`+name+`"`)
	if from < 0 {
		t.Fatalf("no command to drop %s in: %s", name, text)
	}
	command, _, _ := strings.Cut(text[from:], ";")
	return command
}

// big is a database whose restore takes seconds.
func bigDatabase(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	sql(t, pg, "postgres", "CREATE DATABASE big")
	sql(t, pg, "big", "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 5) AS x FROM generate_series(1, 300000) i", "CREATE INDEX a ON t (x)", "CREATE INDEX b ON t (x, i)")
}

func TestARestoreCutInTheMiddleLeavesAMarkedDatabaseThatOneCommandDrops(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	bigDatabase(t, pg)
	sql(t, pg, "postgres", "CREATE DATABASE target_stays")
	c := newCrashing(t, pg)
	id := backup(t, c.System, "--database", "big")
	restore := c.started("restore", id, "--to", "db1/main", "--database", "big=copy")
	name := halfMade(t, c.System, pg)
	must(t, c.Agents["db1"].Kill())
	if n := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = 'copy'"); n != "0" {
		t.Error("the database has its name before it is complete")
	}
	mark := value(t, pg.URL("postgres"), "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '"+name+"'")
	says(t, "its comment", mark, "half-made", "copy", restore)
	t.Logf("the mark: %s", mark)
	sql(t, pg, "postgres", dropCommand(t, mark, name))
	// The job goes on by itself when the agent is back, and leaves no mark.
	must(t, c.StartAgent(t.Context(), "db1", "", pg.Env("postgres")))
	c.finish(restore)
	if got := value(t, pg.URL("copy"), "SELECT count(*)::text FROM t"); got != "300000" {
		t.Errorf("%s rows", got)
	}
	if left := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'tuskvault%' OR shobj_description(oid, 'pg_database') LIKE 'half-made%'"); left != "0" {
		t.Errorf("%s databases are left or marked", left)
	}
}

func TestARestoreWhoseServerDiesSaysHowToDropWhatIsLeft(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Fsync: true})
	bigDatabase(t, pg)
	s := system(t)
	config := s.Dir + "/controller.yaml"
	must(t, os.WriteFile(config, []byte("jobs:\n  attempts: 1\n"), 0o600))
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context(), "--config", config), s.Enroll(t.Context(), "db1", pg.Env("postgres"))))
	id := backup(t, s, "--database", "big")
	var v jobs
	must(t, s.JSON(t.Context(), &v, "restore", id, "--to", "db1/main", "--database", "big=copy"))
	name := halfMade(t, s, pg)
	must(t, pg.Crash())
	r := s.Ctl(t.Context(), "job", "watch", v.Jobs[0].ID)
	shown := r.Stdout + r.Stderr + ok(t, s, "job", "show", v.Jobs[0].ID)
	if r.Code != 6 {
		t.Errorf("job watch: exit code %d\n%s", r.Code, shown)
	}
	must(t, pg.Start(t.Context()))
	if n := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = 'copy'"); n != "0" {
		t.Error("the database has its name before it is complete")
	}
	command := dropCommand(t, shown, name)
	t.Logf("the command: %s", command)
	if value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'") == "1" {
		sql(t, pg, "postgres", command)
	}
	ok(t, s, "restore", id, "--to", "db1/main", "--database", "big=copy", "--wait")
}
