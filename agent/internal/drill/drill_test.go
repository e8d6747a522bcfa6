package drill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/drill"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/report"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// What a drill must get along with: a tablespace, a role that nobody else has, a
// subscription, a database that lets nobody in and one that is read-only, and the
// one that every server has already.
func TestADrillOfAWholeInstancePasses(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical", "autovacuum": "off"}})
	space := filepath.Join(s.Dir, "space")
	s.Exec(t, "postgres", "CREATE ROLE owner_of_it LOGIN PASSWORD 'secret'", "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE inside LOCATION ''",
		"CREATE DATABASE shop OWNER owner_of_it", "CREATE DATABASE closed", "CREATE TABLE in_postgres AS SELECT 1 AS i")
	mkdirFor(t, s, space)
	s.Exec(t, "postgres", "CREATE TABLESPACE fast LOCATION '"+space+"'")
	s.Exec(t, "shop", "CREATE TABLE t (i int PRIMARY KEY, x text) TABLESPACE fast", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i",
		"CREATE TABLE u AS SELECT i, i % 7 AS j FROM generate_series(1, 3000) i", "CREATE INDEX ON u (j) TABLESPACE inside", "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t",
		"CREATE TABLE p (i int) PARTITION BY RANGE (i); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)", "INSERT INTO p VALUES (1), (2)",
		"SELECT lo_from_bytea(0, 'abc')", "CREATE SUBSCRIPTION sub CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)",
		"CREATE EXTENSION pg_stat_statements", "ALTER DATABASE shop SET default_transaction_read_only = on", "ALTER DATABASE shop CONNECTION LIMIT 0")
	t.Cleanup(func() {
		s.Exec(t, "postgres", "ALTER DATABASE shop RESET default_transaction_read_only")
		s.Exec(t, "shop", "ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "DROP SUBSCRIPTION sub")
	})
	s.Exec(t, "closed", "CREATE TABLE c AS SELECT 1 AS i")
	v := backUp(t, s)
	before := list(t, space)

	o := options(t, reachable(t), s, v)
	g := ground(t, o)
	r, rep := held(t, g, v.drill(func(d *job.Drill) {
		d.Assertions = []job.Assertion{
			{Database: "shop", Name: "a", SQL: "SELECT count(*) = 5000 FROM t"},
			{Database: "shop", Name: "b", SQL: "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", Expect: "f"},
			{Database: "shop", Name: "c", SQL: "SELECT count(*) FROM pg_subscription WHERE subenabled", Expect: "0"},
			{Database: "closed", Name: "d", SQL: "SELECT i = 1 FROM c"},
		}
	}))
	if rep.Verdict != report.Passed || rep.WithoutAmcheck() != (serverMajor(t, s) < 14) || len(rep.Databases) != 3 {
		t.Fatalf("verdict %s: %s\n%+v", rep.Verdict, rep.Reason, rep.Databases)
	}
	shop := rep.Databases[slices.IndexFunc(rep.Databases, func(d report.Database) bool { return d.Name == "shop" })]
	if shop.Equal != 3 || shop.Differing+shop.NotCompared != 0 || shop.Rows != 8002 || shop.DiskBytes < 1<<20 || len(shop.Work) != 5 || len(shop.Assertions) != 3 {
		t.Errorf("shop %+v", shop)
	}
	if rep.Job == "" || rep.Snapshot != v.job.String() || rep.Host.ServerVersion/10000 != serverMajor(t, s) || rep.Ended.Before(rep.Started) || rep.TransferredBytes != 11 {
		t.Errorf("report %+v", rep)
	}
	if os.Geteuid() == 0 && !rep.Host.NetworkIsolated {
		t.Error("root cannot take the network away?")
	}
	if r.Stats.Rows != 8004 || len(r.Databases) != 3 {
		t.Errorf("result %+v", r)
	}
	if d := cmp.Diff(before, list(t, space)); d != "" {
		t.Errorf("the place where the snapshot had its tablespace was touched: %s", d)
	}
	if found := g.Look(t.Context()); found.Refusal != "" || found.FreeDiskBytes == 0 || len(found.Servers) == 0 || !slices.Contains(found.Servers[0].Extensions, "plpgsql") {
		t.Errorf("look %+v", found)
	}
}

func mkdirFor(t *testing.T, s *pgtest.Server, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(st.Uid), int(st.Gid)); err != nil {
		t.Fatal(err)
	}
}

// list gives everything below a folder.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error { all = append(all, p); return err })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func serverMajor(t *testing.T, s *pgtest.Server) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(s.Query(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000")[0][0], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// harm is a database with three tables, of which one holds "tell" in its rows.
func harm(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a AS SELECT i FROM generate_series(1, 50) i", "CREATE TABLE b AS SELECT 'tell' || i AS x FROM generate_series(1, 50) i",
		"CREATE TABLE c AS SELECT i FROM generate_series(1, 70) i")
	return db
}

func TestWhatIsNotAsItWasFailsTheDrillAndNamesTheTable(t *testing.T) {
	s := shared.Server(t)
	db, fine := harm(t, s), s.Database(t)
	s.Exec(t, fine, "CREATE TABLE f AS SELECT 1 AS i")
	v := backUp(t, s, db, fine)
	g := ground(t, options(t, reachable(t), s, v))
	of := func(rep *report.Report, name string) report.Database {
		return rep.Databases[slices.IndexFunc(rep.Databases, func(d report.Database) bool { return d.Name == name })]
	}
	both := func(d *job.Drill) { d.Databases, d.KeepGoing = []string{db, fine}, true }

	v.bend = func(_ context.Context, _ seal.Kind, plain []byte) ([]byte, error) {
		return bytes.ReplaceAll(plain, []byte("tell7\n"), []byte("tell8\n")), nil
	}
	r, rep := held(t, g, v.drill(both))
	d := of(rep, db)
	if rep.Verdict != report.Failed || d.Differing != 1 || d.Equal != 2 || d.Tables[0].Name != "public.b" || d.Tables[0].Result != report.Differs || r.Retryable {
		t.Errorf("a lie: %s, %+v", rep.Verdict, d)
	}
	if f := of(rep, fine); f.Verdict != report.Passed {
		t.Errorf("the other database: %+v", f)
	}

	v.bend = func(_ context.Context, _ seal.Kind, plain []byte) ([]byte, error) {
		if bytes.Contains(plain, []byte("tell7\n")) {
			return nil, fmt.Errorf("chunk 3: does not open: %w", errs.Corrupt)
		}
		return plain, nil
	}
	r, rep = held(t, g, v.drill(nil))
	d = of(rep, db)
	if rep.Verdict != report.Failed || !d.Damaged || d.Differing != 1 || d.Equal != 2 || !strings.Contains(d.Reason, "public.b") || !strings.Contains(r.Err, "public.b") || r.Retryable {
		t.Errorf("damage: %s, %+v", rep.Verdict, d)
	}
}

func TestAssertionsHoldOrDoNotAndCannotDoMore(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	secret := filepath.Join(reachable(t), "by_copy")
	s.Exec(t, db, "CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i", "CREATE SEQUENCE q", "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE t FORCE ROW LEVEL SECURITY")
	v := backUp(t, s, db)
	g := ground(t, options(t, reachable(t), s, v))
	cases := []struct {
		sql, expect string
		want        report.Outcome
		says        string
	}{
		{"SELECT count(*) = 10 FROM t", "", report.Holds, `"t"`},
		{"SELECT count(*) = 10 FROM t;  ", "", report.Holds, ""},
		{"SELECT true -- yes", "", report.Holds, ""},
		{"VALUES (true)", "", report.Holds, ""},
		{"WITH x AS (SELECT 1) SELECT count(*) FROM x", "1", report.Holds, ""},
		{`SELECT E'a\tb\\'`, "a\tb\\", report.Holds, ""},
		{"SELECT current_setting('transaction_read_only')", "on", report.Holds, ""},
		{"SELECT count(*) > 10 FROM t", "", report.DoesNotHold, `"f"`},
		{"SELECT NULL::boolean", "", report.DoesNotHold, "NULL"},
		{"SELECT NULL::text", `\N`, report.DoesNotHold, "NULL"},
		{"SELECT count(*) FROM t", "11", report.DoesNotHold, `"10", expected "11"`},
		{"SELECT 't'::text", "", report.AssertionFailed, "no boolean"},
		{"SELECT true WHERE false", "", report.AssertionFailed, "no row"},
		{"SELECT true FROM t", "", report.AssertionFailed, "more than one row"},
		{"SELECT true, true", "", report.AssertionFailed, "2 columns"},
		{"SELECT repeat('x', 300000)", "x", report.AssertionFailed, "more than"},
		{"SELECT true; SELECT true", "", report.AssertionFailed, "multiple commands"},
		{"SELECT true) TO '" + secret + "' --", "", report.AssertionFailed, "syntax error"},
		{"SELECT true) TO PROGRAM 'touch " + secret + "' --", "", report.AssertionFailed, "syntax error"},
		{"COPY (SELECT 1) TO PROGRAM 'touch " + secret + "'", "", report.AssertionFailed, ""},
		{"SELECT $1::boolean", "", report.AssertionFailed, "parameters"},
		{"SELECT nothing FROM here", "", report.AssertionFailed, "does not exist"},
		{"INSERT INTO t VALUES (1) RETURNING true", "", report.AssertionFailed, "read-only"},
		{"SELECT nextval('q') > 0", "", report.AssertionFailed, "permission denied"},
		{"SELECT pg_read_file('/etc/passwd') <> ''", "", report.AssertionFailed, "permission denied"},
		{"SELECT rolpassword IS NOT NULL FROM pg_authid LIMIT 1", "", report.AssertionFailed, ""},
	}
	_, rep := held(t, g, v.drill(func(d *job.Drill) {
		for i, c := range cases {
			d.Assertions = append(d.Assertions, job.Assertion{Database: db, Name: fmt.Sprint(i), SQL: c.sql, Expect: c.expect})
		}
	}))
	if rep.Verdict != report.Failed || len(rep.Databases[0].Assertions) != len(cases) {
		t.Fatalf("%s: %+v", rep.Verdict, rep.Databases[0].Assertions)
	}
	for i, c := range cases {
		got := rep.Databases[0].Assertions[i]
		if strings.Contains(c.sql, "pg_authid") {
			continue // below
		}
		if got.Result != c.want || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%s: %s, %s", c.sql, got.Result, got.Detail)
		}
	}
	if _, err := os.Stat(secret); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an assertion wrote a file: %v", err)
	}
}

func TestACanceledDrillStopsAndLeavesNothing(t *testing.T) {
	s := shared.Server(t)
	v := backUp(t, s, harm(t, s))
	o := options(t, reachable(t), s, v)
	g := ground(t, o)
	ctx, cancel := context.WithCancelCause(t.Context())
	v.bend = func(ctx context.Context, kind seal.Kind, plain []byte) ([]byte, error) {
		if kind == seal.KindRowsText {
			if left := running(t, o.Base); len(left) == 0 {
				t.Error("nothing runs while rows are restored")
			}
			cancel(fmt.Errorf("the operator canceled it: %w", errs.Canceled))
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return plain, nil
	}
	r := g.Execute(ctx, v.drill(nil), silent{})
	if r.Outcome != job.Canceled || r.Drill != nil || !strings.Contains(r.Err, "the operator canceled it") {
		t.Errorf("result %+v", r)
	}
	nothingLeft(t, o.Base)

	// A peer that was away says nothing of the snapshot, and may be back.
	v.bend = func(context.Context, seal.Kind, []byte) ([]byte, error) {
		return nil, fmt.Errorf("controller: %w", errs.Unavailable)
	}
	if r, rep := held(t, g, v.drill(nil)); rep.Verdict != report.Incomplete || !r.Retryable {
		t.Errorf("away: %s, %+v", rep.Verdict, r)
	}

	// Over time is no cancellation: it is reported, and not tried again.
	v.bend = func(ctx context.Context, kind seal.Kind, plain []byte) ([]byte, error) {
		if kind == seal.KindRowsText {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return plain, nil
	}
	r, rep := held(t, g, v.drill(func(d *job.Drill) { d.Timeout = 3 * time.Second }))
	if rep.Verdict != report.Incomplete || r.Retryable || !strings.Contains(r.Err, "longer than it may") {
		t.Errorf("result %+v", r)
	}
}

func TestWhereNoDrillCanBeHeldIsSaid(t *testing.T) {
	s := shared.Server(t)
	v := backUp(t, s, harm(t, s))
	for name, c := range map[string]struct {
		change func(o *drill.Options)
		says   string
	}{
		"inside a data directory":  {func(o *drill.Options) { o.Base = filepath.Join(s.Data, "d") }, "inside of the data directory " + s.Data},
		"above a data directory":   {func(o *drill.Options) { o.Base = s.Dir }, "is inside of it"},
		"a parent that is missing": {func(o *drill.Options) { o.Base = "/nowhere/at/all" }, "no such file"},
		"no such user":             {func(o *drill.Options) { o.User = "nobody_of_this_name" }, "nobody_of_this_name"},
		"no room":                  {func(o *drill.Options) { o.MinFree = 1 << 60 }, "must stay free"},
	} {
		o := options(t, reachable(t), s, v)
		c.change(&o)
		g := drill.New(o)
		r, rep := held(t, g, v.drill(nil))
		g.Close()
		if rep.Verdict != report.Incomplete || !strings.Contains(r.Err, c.says) {
			t.Errorf("%s: %s, %s", name, rep.Verdict, r.Err)
		}
		if found := g.Look(t.Context()); found.Refusal == "" && name != "a parent that is missing" && name != "no room" {
			t.Errorf("%s: nothing is refused beforehand", name)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Data, "d")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made in the data directory: %v", err)
	}
	if os.Geteuid() == 0 {
		o := options(t, reachable(t), s, v)
		closed := filepath.Join(filepath.Dir(o.Base), "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		o.Base = filepath.Join(closed, "d")
		if found := drill.New(o).Look(t.Context()); !strings.Contains(found.Refusal, "cannot pass through "+closed) {
			t.Errorf("look %+v", found)
		}
	}
}

func TestTwoAgentsDoNotShareAFolder(t *testing.T) {
	s := shared.Server(t)
	v := backUp(t, s, harm(t, s))
	o := options(t, reachable(t), s, v)
	first, second := ground(t, o), drill.New(o)
	if err := os.Mkdir(o.Base, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := first.Clear(); err != nil {
		t.Fatal(err)
	}
	if err := second.Clear(); !errors.Is(err, errs.Conflict) {
		t.Errorf("clear: %v", err)
	}
	if _, rep := held(t, second, v.drill(nil)); rep.Verdict != report.Incomplete || !strings.Contains(rep.Reason, "another agent uses it") {
		t.Errorf("%s: %s", rep.Verdict, rep.Reason)
	}
}

// alone makes the test binary hold one drill until it is killed: the variable
// names the folder.
const alone = "TUSKVAULT_TEST_DRILL"

// A killed agent: the server ends by itself, and the next start removes the rest,
// also where the path is too long for a socket, and where the agent is no root.
func TestWhatAKilledAgentLeavesIsRemovedByTheNext(t *testing.T) {
	s := shared.Server(t)
	db := harm(t, s)
	dir := reachable(t)
	long := filepath.Join(dir, strings.Repeat("long", 20))
	ordinary := filepath.Join(dir, "ordinary")
	for _, d := range []string{long, ordinary} {
		if err := os.Mkdir(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "program")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{long, ordinary} {
		cmd := exec.Command(program, "-test.run=^TestHoldsADrillUntilItIsKilled$")
		cmd.Env = append(os.Environ(), alone+"="+parent, "DRILL_DB="+db, "DRILL_HOST="+s.Dir, fmt.Sprintf("DRILL_PORT=%d", s.Port), "DRILL_BIN="+s.Bin)
		cmd.Dir, cmd.Stdout = dir, os.Stderr
		if parent == ordinary && os.Geteuid() == 0 {
			info, err := os.Stat(s.Data)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if err := os.Chown(ordinary, int(st.Uid), int(st.Gid)); err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "rows are asked for", func() bool { _, err := os.Stat(filepath.Join(parent, "restoring")); return err == nil })
		if len(running(t, parent)) == 0 {
			t.Error("no server runs")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		until(t, "the server has ended with its agent", func() bool { return len(running(t, parent)) == 0 })
		base := filepath.Join(parent, "d")
		if err := os.Chown(base, os.Geteuid(), os.Getegid()); err != nil { // we are not who was killed
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(base, "drill-*", "mark")); len(left) != 1 {
			t.Errorf("marks %v", left)
		}
		sockets, _ := filepath.Glob(filepath.Join(os.TempDir(), "tuskvault-drill-[0-9]*"))
		// Something that is not a drill's is left alone.
		foreign := filepath.Join(base, "drill-not-ours")
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.WriteFile(filepath.Join(foreign, "x"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		g := drill.New(options(t, parent, s, nil))
		if err := g.Clear(); err == nil || !strings.Contains(err.Error(), "drill-not-ours") {
			t.Errorf("clear: %v", err)
		}
		g.Close()
		if left, _ := filepath.Glob(filepath.Join(base, "drill-*")); len(left) != 1 || left[0] != foreign {
			t.Errorf("left behind: %v", left)
		}
		if parent == long {
			for _, dir := range sockets {
				if _, err := os.Stat(dir); err == nil && strings.Contains(dir, "drill-test") {
					t.Errorf("socket folder %s is left", dir)
				}
			}
			if len(sockets) == 0 {
				t.Error("the socket was not put elsewhere")
			}
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited until %s", what)
		case <-tick.C:
		}
	}
}

// TestHoldsADrillUntilItIsKilled is what the test above runs.
func TestHoldsADrillUntilItIsKilled(t *testing.T) {
	parent := os.Getenv(alone)
	if parent == "" {
		t.Skip("run by another test")
	}
	s := &pgtest.Server{Dir: os.Getenv("DRILL_HOST"), Bin: os.Getenv("DRILL_BIN")}
	if _, err := fmt.Sscan(os.Getenv("DRILL_PORT"), &s.Port); err != nil {
		t.Fatal(err)
	}
	v := backUp(t, s, os.Getenv("DRILL_DB"))
	v.bend = func(ctx context.Context, kind seal.Kind, plain []byte) ([]byte, error) {
		if kind == seal.KindRowsText {
			if err := os.WriteFile(filepath.Join(parent, "restoring"), nil, 0o600); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return plain, nil
	}
	r := drill.New(options(t, parent, s, v)).Execute(t.Context(), v.drill(nil), silent{})
	t.Errorf("it ended: %+v", r)
}

func TestAFolderThatOthersCanWriteToIsNotUsed(t *testing.T) {
	s := shared.Server(t)
	o := options(t, reachable(t), s, nil)
	if err := errors.Join(os.Mkdir(o.Base, 0o755), os.Chmod(o.Base, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := drill.New(o).Clear(); !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "others can write") {
		t.Errorf("clear: %v", err)
	}
	link := filepath.Join(filepath.Dir(o.Base), "link")
	if err := errors.Join(os.Chmod(o.Base, 0o711), os.Symlink(o.Base, link)); err != nil {
		t.Fatal(err)
	}
	o.Base = link
	if err := drill.New(o).Clear(); !errors.Is(err, errs.Invalid) {
		t.Errorf("clear of a link: %v", err)
	}
}
