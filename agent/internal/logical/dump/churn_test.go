package dump_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// lockTries is how often the backup starts locking over, in one session.
const lockTries = 5

// gate stops the backup at each of its tries: before it can lock the table gate
// it must wait for a session of the test, which has a lock on it by then.
type gate struct {
	s    *pgtest.Server
	db   string
	held *pgconn.PgConn
	had  chan error // told when held has its lock
}

func newGate(t *testing.T, s *pgtest.Server, db string) *gate {
	t.Helper()
	g := &gate{s: s, db: db}
	g.queue(t)
	return g
}

// queue has a new session lock the gate, when it can.
func (g *gate) queue(t *testing.T) {
	t.Helper()
	c, had := session(t, g.s, g.db), make(chan error, 1)
	g.held, g.had = c, had
	go func() {
		_, err := c.Exec(t.Context(), "BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE").ReadAll()
		had <- err
	}()
	until(t, g.s, fmt.Sprintf("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND pid = %d", c.PID()))
}

// waitsFor waits until the coordinator waits for a lock on a table.
func (g *gate) waitsFor(t *testing.T, table string) {
	t.Helper()
	until(t, g.s, fmt.Sprintf(`SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.application_name LIKE 'tuskvault %% coordinator'
		AND a.datname = '%s' AND l.relation = %s`, g.db, g.s.Query(t, g.db, "SELECT '"+table+"'::regclass::oid")[0][0]))
}

// next lets the backup go on to its next try, if it makes one: a lock is queued
// behind the backup's before the backup gets it.
func (g *gate) next(t *testing.T) {
	t.Helper()
	last := *g
	g.queue(t)
	last.open(t)
}

// open lets the backup go on for good.
func (g *gate) open(t *testing.T) {
	t.Helper()
	if err := <-g.had; err != nil {
		t.Errorf("lock the gate: %v", err)
	}
	do(t, g.held, "COMMIT")
}

// locked gives the relations of a database that its coordinator has locked.
func locked(t *testing.T, s *pgtest.Server, db string) []string {
	t.Helper()
	var all []string
	for _, row := range s.Query(t, db, `SELECT c.relname FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
		WHERE l.granted AND l.mode = 'AccessShareLock' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND a.application_name LIKE 'tuskvault % coordinator' AND c.relkind = 'r'`) {
		all = append(all, row[0])
	}
	return all
}

// At each try a table comes while the backup waits, so the last one is locked
// after the snapshot, and is changed in between. By the snapshot it has its old
// rows, but they are gone, or are under another name: nothing but its file, or
// its name, tells.
func TestATableThatIsChangedBeforeItIsLockedLateIsReadWhole(t *testing.T) {
	s := shared.Server(t)
	for name, c := range map[string]struct{ change, table string }{
		"rewritten": {"TRUNCATE late; INSERT INTO late SELECT generate_series(1, 70)", "late"},
		"renamed":   {"ALTER TABLE late RENAME TO other; INSERT INTO other SELECT generate_series(1, 20); CREATE TABLE late (i int)", "other"},
		"moved":     {"CREATE SCHEMA s; ALTER TABLE late SET SCHEMA s; INSERT INTO s.late SELECT generate_series(1, 20)", "late"},
	} {
		t.Run(name, func(t *testing.T) {
			db := s.Database(t)
			s.Exec(t, db, "CREATE TABLE gate ()")
			g := newGate(t, s, db)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range lockTries - 1 {
					g.waitsFor(t, "gate")
					s.Exec(t, db, fmt.Sprintf("CREATE TABLE c%d AS SELECT generate_series(1, 7) AS i", i))
					g.next(t)
				}
				g.waitsFor(t, "gate")
				s.Exec(t, db, "CREATE TABLE late AS SELECT generate_series(1, 50) AS i")
				other := session(t, s, db)
				do(t, other, "BEGIN; LOCK TABLE late IN ACCESS EXCLUSIVE MODE")
				g.open(t)
				g.waitsFor(t, "late")
				do(t, other, c.change)
				do(t, other, "COMMIT")
			}()
			m := newMemory(small)
			o := options(s, m, db)
			rec := &recorder{}
			o.Reporter = rec
			snap := mustRun(t, o)
			<-done
			if n := len(m.lines(t, snap, tableOf(t, only(t, snap), c.table))); n != 70 {
				t.Errorf("%d rows, want 70", n)
			}
			if !slices.ContainsFunc(rec.logs, func(l string) bool { return strings.Contains(l, "trying again") && strings.Contains(l, "public.late") }) {
				t.Errorf("logs: %q", rec.logs)
			}
		})
	}
}

// The same without a change: the table is locked late, and read.
func TestATableThatIsLockedLateIsLocked(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE gate ()")
	g := newGate(t, s, db)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lockTries {
			g.waitsFor(t, "gate")
			s.Exec(t, db, fmt.Sprintf("CREATE TABLE c%d AS SELECT generate_series(1, 7) AS i", i))
			if i < lockTries-1 {
				g.next(t)
			}
		}
		g.open(t)
	}()
	m := newMemory(small)
	var have []string
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindArchive && have == nil { // one goroutine puts the archive
			have = locked(t, s, db)
		}
		return nil
	}
	snap := mustRun(t, options(s, m, db))
	<-done
	d := only(t, snap)
	for _, tab := range d.Tables {
		if !slices.Contains(have, string(tab.Name)) {
			t.Errorf("table %s was not locked when the snapshot was in use; locked: %v", tab.Name, have)
		}
	}
	if tab := tableOf(t, d, fmt.Sprintf("c%d", lockTries-1)); len(m.lines(t, snap, tab)) != 7 {
		t.Errorf("%d rows", tab.Rows)
	}
}

// At each try a table that was listed is dropped before it can be locked.
func TestTablesThatKeepGoingDoNotStopABackup(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE gate ()", "CREATE TABLE kept AS SELECT generate_series(1, 7) AS i")
	for i := range lockTries {
		s.Exec(t, db, fmt.Sprintf("CREATE TABLE d%d ()", i))
	}
	g := newGate(t, s, db)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lockTries {
			g.waitsFor(t, "gate")
			s.Exec(t, db, fmt.Sprintf("DROP TABLE d%d", i))
			if i < lockTries-1 {
				g.next(t)
			}
		}
		g.open(t)
	}()
	m := newMemory(small)
	o := options(s, m, db)
	rec := &recorder{}
	o.Reporter = rec
	snap := mustRun(t, o)
	<-done
	d := only(t, snap)
	if len(d.Tables) != 2 || len(m.lines(t, snap, tableOf(t, d, "kept"))) != 7 {
		t.Errorf("tables %+v", d.Tables)
	}
	if slices.ContainsFunc(rec.logs, func(l string) bool { return strings.Contains(l, "trying again") }) {
		t.Errorf("the database was opened again: %q", rec.logs)
	}
}

// While the backup waits, a table that it has listed gets another name, and a
// view its old one: the lock by name is then on the view.
func TestATableWhoseNameAViewTookIsLockedAllTheSame(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE gate ()", "CREATE TABLE t AS SELECT generate_series(1, 7) AS i")
	g := newGate(t, s, db)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.waitsFor(t, "gate")
		s.Exec(t, db, "ALTER TABLE t RENAME TO moved", "CREATE VIEW t AS SELECT 1")
		g.open(t)
	}()
	m := newMemory(small)
	var have []string
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindArchive && have == nil { // one goroutine puts the archive
			have = locked(t, s, db)
		}
		return nil
	}
	snap := mustRun(t, options(s, m, db))
	<-done
	if tab := tableOf(t, only(t, snap), "moved"); len(m.lines(t, snap, tab)) != 7 || !slices.Contains(have, "moved") {
		t.Errorf("%d rows; locked: %v", tab.Rows, have)
	}
}

// A database whose tables never stand still is given up, for now.
func TestADatabaseThatKeepsChangingIsBusy(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE gate ()")
	g := newGate(t, s, db)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for open := range 2 { // the database is opened twice
			for i := range lockTries - 1 {
				g.waitsFor(t, "gate")
				s.Exec(t, db, fmt.Sprintf("CREATE TABLE c%d_%d ()", open, i))
				g.next(t)
			}
			g.waitsFor(t, "gate")
			s.Exec(t, db, fmt.Sprintf("CREATE TABLE late%d AS SELECT 1 AS i", open))
			c := session(t, s, db)
			do(t, c, fmt.Sprintf("BEGIN; LOCK TABLE late%d IN ACCESS EXCLUSIVE MODE", open))
			g.next(t)
			g.waitsFor(t, fmt.Sprintf("late%d", open))
			do(t, c, fmt.Sprintf("TRUNCATE late%d; COMMIT", open))
		}
		<-ctx.Done()
		g.open(t)
	}()
	_, err := dump.Run(t.Context(), options(s, newMemory(small), db))
	stop()
	<-done
	if !errors.Is(err, errs.Busy) || errs.KindOf(err) != errs.Busy || !strings.Contains(err.Error(), "public.late1") {
		t.Errorf("error %v", err)
	}
}
