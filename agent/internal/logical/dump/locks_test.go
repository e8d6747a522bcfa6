package dump_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// session opens a session of its own.
func session(t *testing.T, s *pgtest.Server, db string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func do(t *testing.T, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

// until waits until a query gives a row.
func until(t *testing.T, s *pgtest.Server, sql string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for len(s.Query(t, "postgres", sql)) == 0 {
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("never true: %s", sql)
			return
		}
	}
}

const waitingForLock = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'tuskvault % coordinator'`

// A session truncates, or rewrites, a table while the backup waits for its lock.
// With the snapshot taken before the lock the table would come out empty,
// without an error.
func TestRowsAreNotLostWhenATableIsRewrittenWhileItIsLocked(t *testing.T) {
	s := shared.Server(t)
	for name, change := range map[string]string{
		"truncate and fill": "TRUNCATE t; INSERT INTO t SELECT generate_series(1, 70)",
		"rewrite":           "ALTER TABLE t ALTER i TYPE bigint; INSERT INTO t SELECT generate_series(1, 20)",
		"drop and create":   "DROP TABLE t; CREATE TABLE t AS SELECT generate_series(1, 70) AS i",
	} {
		t.Run(name, func(t *testing.T) {
			db := s.Database(t)
			s.Exec(t, db, "CREATE TABLE t AS SELECT generate_series(1, 50) AS i", "CREATE TABLE other AS SELECT 1 AS x")
			c := session(t, s, db)
			do(t, c, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
			done := make(chan struct{})
			go func() {
				defer close(done)
				until(t, s, waitingForLock)
				do(t, c, change)
				do(t, c, "COMMIT")
			}()
			m := newMemory(small)
			snap := mustRun(t, options(s, m, db))
			<-done
			if n := len(m.lines(t, snap, tableOf(t, only(t, snap), "t"))); n != 70 {
				t.Errorf("%d rows, want 70", n)
			}
		})
	}
}

// Tables come faster than they can be locked: the last of them are locked after
// the snapshot, and nothing is missing.
func TestTablesThatKeepComingAreReadWhole(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE old AS SELECT generate_series(1, 7) AS i")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int)
	c := session(t, s, db)
	go func() {
		n := 0
		for ; ctx.Err() == nil && n < 2000; n++ {
			do(t, c, fmt.Sprintf("CREATE TABLE c%d AS SELECT generate_series(1, 7) AS i", n))
		}
		done <- n
	}()
	until(t, s, "SELECT 1 FROM pg_stat_activity WHERE datname = '"+db+"' AND query LIKE 'CREATE TABLE c%'")
	m := newMemory(small)
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindArchive {
			stop() // everything is locked by now
		}
		return nil
	}
	snap := mustRun(t, options(s, m, db))
	stop()
	made := <-done
	d := only(t, snap)
	for i := range d.Tables {
		if n := len(m.lines(t, snap, &d.Tables[i])); n != 7 {
			t.Errorf("table %s has %d rows of 7", d.Tables[i].Name, n)
		}
	}
	if len(d.Tables) < 2 || len(d.Tables) > made+1 {
		t.Errorf("%d tables of %d", len(d.Tables), made+1)
	}
}

func TestALockThatIsNotHadNamesWhoHoldsIt(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE held (i int)", "CREATE TABLE held2 (i int)")
	c := session(t, s, db)
	do(t, c, "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
	o := options(s, newMemory(small), db)
	o.Request.LockWait = 1500 * time.Millisecond
	begun := time.Now()
	snap, err := dump.Run(t.Context(), o)
	if !errors.Is(err, errs.Busy) || time.Since(begun) > 10*time.Second {
		t.Fatalf("%v after %s", err, time.Since(begun))
	}
	for _, want := range []string{"public.held is locked by session", "of postgres", "LOCK TABLE held"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if snap.Content != nil || len(snap.Problems) != 1 || snap.Problems[0].Hint == "" {
		t.Errorf("snapshot %+v", snap)
	}
}

// While rows are read, DDL queues behind our lock. Workers cannot lock the table
// any more; the coordinator can still read it.
func TestATableWithQueuedDDLIsReadByTheCoordinator(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE first AS SELECT g, repeat('x', 500) FROM generate_series(1, 5000) g", "CREATE TABLE altered AS SELECT generate_series(1, 30) AS i")
	m := newMemory(small)
	o := options(s, m, db)
	o.Request.Workers = 1
	o.Watch = 100 * time.Millisecond
	rec := &recorder{}
	o.Reporter = rec
	queued := make(chan struct{})
	started := false
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindRowsText && !started { // one worker: no other goroutine puts rows
			started = true
			c := session(t, s, db)
			go func() {
				defer close(queued)
				do(t, c, "ALTER TABLE altered ADD COLUMN j int")
			}()
			until(t, s, `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE altered%'`)
			waitFor(t, func() bool { return strings.Contains(rec.blocked(), "waits for public.altered") })
		}
		return nil
	}
	snap := mustRun(t, o)
	<-queued
	if n := len(m.lines(t, snap, tableOf(t, only(t, snap), "altered"))); n != 30 {
		t.Errorf("%d rows, want 30", n)
	}
	if b := rec.blocked(); !strings.Contains(b, "waits for public.altered") || !strings.Contains(b, "ALTER TABLE altered") {
		t.Errorf("blocked sessions reported: %q", b)
	}
}

// waitFor waits until something becomes true, and goes on if it never does.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Error("waited in vain")
			return
		}
	}
}

func TestThePolicyGivesADatabaseUpThatBlocksDDL(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE wanted AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
	m := newMemory(small)
	o := options(s, m, db)
	o.Watch = 100 * time.Millisecond
	o.Request.AbortOnBlockedDDL, o.Request.Patience = true, time.Second
	altered := make(chan struct{})
	var begun time.Time
	m.before = func(kind seal.Kind) error {
		if kind != seal.KindRowsText {
			return nil
		}
		if begun.IsZero() { // one table, one worker reads it
			begun = time.Now()
			c := session(t, s, db)
			go func() {
				defer close(altered)
				do(t, c, "ALTER TABLE wanted ADD COLUMN j int")
			}()
		}
		<-time.After(50 * time.Millisecond) // a slow store
		return nil
	}
	_, err := dump.Run(t.Context(), o)
	<-altered
	if !errors.Is(err, errs.Busy) || !strings.Contains(err.Error(), "given up after 1s") || !strings.Contains(err.Error(), "ALTER TABLE wanted") {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(begun); waited > 10*time.Second {
		t.Errorf("the application waited %s", waited)
	}
}

// slowDump is a folder with a pg_dump that lets a schema change queue before it.
func slowDump(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	dir := t.TempDir()
	real := filepath.Join(s.Client(), "pg_dump")
	script := "#!/bin/sh\n[ \"$1\" = --version ] || sleep 1\nexec '" + real + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The change waits for the coordinator, pg_dump for the change, and the
// coordinator for pg_dump. More often than a database is tried otherwise.
func TestASchemaChangeQueuedBeforePgDumpCostsATryNotTheBackup(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
	o := options(s, newMemory(small), db)
	o.Config.ToolDirs = []string{slowDump(t, s)}
	const changes = 3
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range changes {
			until(t, s, `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND l.mode = 'AccessShareLock' AND a.datname = '`+db+`'
				AND a.application_name LIKE 'tuskvault % coordinator' AND l.relation = `+s.Query(t, db, "SELECT 't'::regclass::oid")[0][0])
			do(t, session(t, s, db), fmt.Sprintf("ALTER TABLE t ADD COLUMN c%d int", i))
		}
	}()
	start := time.Now()
	snap := mustRun(t, o)
	<-done
	if got := len(tableOf(t, only(t, snap), "t").Columns); got != 1+changes {
		t.Errorf("%d columns, want those of all changes", got)
	}
	if took := time.Since(start); took > 25*time.Second {
		t.Errorf("it took %s: pg_dump was left to wait", took)
	}
}
