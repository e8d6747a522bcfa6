package dump_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// onRows has f called once, at the first chunk of rows, while the reader waits.
func (m *memory) onRows(f func()) {
	var once sync.Once
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindRowsText {
			once.Do(f)
		}
		return nil
	}
}

func filled(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE filled AS SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g")
	return db
}

// noSessions checks that no session of a backup is left at the server.
func noSessions(t *testing.T, s *pgtest.Server) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(5 * time.Second)
	for {
		left := s.Query(t, "postgres", "SELECT application_name, query FROM pg_stat_activity WHERE application_name LIKE 'tuskvault%'")
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("sessions left: %v", left)
			return
		}
	}
}

func TestCancelStopsReadingWithinSeconds(t *testing.T) {
	s := shared.Server(t)
	db := filled(t, s)
	m := newMemory(small)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := fmt.Errorf("somebody asked: %w", errs.Canceled)
	m.onRows(func() { cancel(why) })
	begun := time.Now()
	_, err := dump.Run(ctx, options(s, m, db))
	if !errors.Is(err, why) || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	noSessions(t, s)
	if m.inUse != 0 {
		t.Errorf("%d buffers were not given back", m.inUse)
	}
}

func TestAFailingUploadEndsTheBackup(t *testing.T) {
	s := shared.Server(t)
	db := filled(t, s)
	m := newMemory(small)
	full := fmt.Errorf("store: %w", errs.Exhausted)
	m.before = func(kind seal.Kind) error {
		if kind == seal.KindRowsText {
			return full
		}
		return nil
	}
	snap, err := dump.Run(t.Context(), options(s, m, db))
	if !errors.Is(err, errs.Exhausted) || snap != nil {
		t.Errorf("%v, %v", snap, err)
	}
	noSessions(t, s)
}

func TestADatabaseWhoseCoordinatorDiesFails(t *testing.T) {
	// An idle coordinator is asked whether it lives; at the latest its COMMIT fails.
	for name, heartbeat := range map[string]time.Duration{"at a heartbeat": 50 * time.Millisecond, "at the end": time.Hour} {
		t.Run(name, func(t *testing.T) { coordinatorDies(t, heartbeat) })
	}
}

func coordinatorDies(t *testing.T, heartbeat time.Duration) {
	s := shared.Server(t)
	db, other := filled(t, s), s.Database(t)
	s.Exec(t, other, "CREATE TABLE t AS SELECT 1 AS i")
	m := newMemory(small)
	o := options(s, m, db, other)
	o.Heartbeat = heartbeat
	m.onRows(func() {
		s.Exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tuskvault % coordinator' AND datname = '"+db+"'")
	})
	snap, err := dump.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if snap.Complete || !strings.Contains(got(snap), db+" failed") || !strings.Contains(got(snap), other+" complete") {
		t.Errorf("%s", got(snap))
	}
	if !errors.Is(snap.Err, errs.Unavailable) || !strings.Contains(snap.Err.Error(), "database "+db) {
		t.Errorf("error %v", snap.Err)
	}
	if err := snap.Content.Validate(snap.References); err != nil {
		t.Error(err)
	}
}

func TestADatabaseThatIsDroppedFails(t *testing.T) {
	s := shared.Server(t)
	db := filled(t, s)
	m := newMemory(small)
	m.onRows(func() { s.DropDatabase(t, db) })
	_, err := dump.Run(t.Context(), options(s, m, db))
	if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "database "+db) {
		t.Errorf("error %v", err)
	}
}

// tools makes a folder with a pg_dump of ours; $REAL is the true one.
func tools(t *testing.T, s *pgtest.Server, script string) string {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\nREAL='" + filepath.Join(s.Bin, "pg_dump") + "'\nif [ \"$1\" = --version ]; then exec \"$REAL\" --version; fi\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAFailingPgDumpFailsTheDatabase(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t (i int)")
	for name, tc := range map[string]struct{ script, says string }{
		"it says why":                      {"echo 'pg_dump: error: out of luck' >&2; exit 1", "out of luck"},
		"after a whole archive":            {`"$REAL" "$@"; exit 3`, "exit status 3"},
		"it is killed":                     {`kill -9 $$`, "killed"},
		"it writes something else":         {`echo "-- SQL"`, "no archive"},
		"it writes nothing and is content": {`exit 0`, "no archive"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(s, newMemory(small), db)
			o.Config.ToolDirs = []string{tools(t, s, tc.script)}
			snap, err := dump.Run(t.Context(), o)
			if err == nil || snap.Content != nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("what it warns of is kept", func(t *testing.T) {
		o := options(s, newMemory(small), db)
		o.Config.ToolDirs = []string{tools(t, s, `echo "pg_dump: warning: beware" >&2; exec "$REAL" "$@"`)}
		snap := mustRun(t, o)
		if len(snap.Problems) != 1 || !strings.Contains(snap.Problems[0].Reason, "beware") || snap.Problems[0].Severity != "warning" {
			t.Errorf("problems %+v", snap.Problems)
		}
	})
	t.Run("what it says is one warning of bounded length", func(t *testing.T) {
		o := options(s, newMemory(small), db)
		o.Config.ToolDirs = []string{tools(t, s, `for i in $(seq 1 500); do echo "pg_dump: warning: circle $i" >&2; echo "pg_dump: detail: $(printf %2000s | tr ' ' x)" >&2; done; exec "$REAL" "$@"`)}
		snap := mustRun(t, o)
		if len(snap.Problems) != 1 {
			t.Fatalf("%d problems", len(snap.Problems))
		}
		if r := snap.Problems[0].Reason; len(r) > 2500 || !strings.Contains(r, "more lines") || strings.Contains(r, "pg_dump:") {
			t.Errorf("%d bytes: %s", len(r), r)
		}
	})
	t.Run("no secret is in its arguments", func(t *testing.T) {
		p := pgtest.Start(t, pgtest.Options{Password: "hidden-word"})
		seen := filepath.Join(t.TempDir(), "args")
		o := options(p, newMemory(small), "postgres")
		o.Config.Password = func() (string, error) { return p.Password, nil }
		o.Config.ToolDirs = []string{tools(t, p, `echo "$@" > '`+seen+`'; exec "$REAL" "$@"`)}
		mustRun(t, o)
		args, err := os.ReadFile(seen)
		if err != nil || !strings.Contains(string(args), "--snapshot=") || strings.Contains(string(args), "hidden-word") {
			t.Errorf("arguments %q, %v", args, err)
		}
	})
}

func TestCancelEndsPgDump(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := filepath.Join(t.TempDir(), "started")
	o := options(s, newMemory(small), db)
	o.Config.ToolDirs = []string{tools(t, s, `trap '' TERM; : > '`+started+`'; while :; do sleep 0.1; done`)}
	go func() {
		waitFor(t, func() bool { _, err := os.Stat(started); return err == nil })
		cancel()
	}()
	begun := time.Now()
	_, err := dump.Run(ctx, o)
	if !errors.Is(err, context.Canceled) || time.Since(begun) > 15*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
}

func TestTimeoutsOfTheRoleDoNotEndABackup(t *testing.T) {
	s := shared.Server(t)
	db := filled(t, s)
	role := pgtest.Unique("hasty")
	s.Exec(t, "postgres", "CREATE ROLE "+role+" LOGIN SUPERUSER", "ALTER ROLE "+role+" SET statement_timeout = '300ms'", "ALTER ROLE "+role+" SET lock_timeout = '50ms'",
		"ALTER ROLE "+role+" SET idle_in_transaction_session_timeout = '200ms'")
	t.Cleanup(func() { s.Exec(t, "postgres", "DROP ROLE "+role) })
	m := newMemory(small)
	m.onRows(func() { <-time.After(time.Second) })
	o := options(s, m, db)
	o.Config.User = role
	mustRun(t, o)
}

func TestALockTableThatIsTooSmallIsNamed(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_locks_per_transaction": "10", "max_connections": "20", "max_wal_senders": "0", "wal_level": "minimal", "autovacuum": "off"}})
	s.Exec(t, "postgres", "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE 'CREATE SCHEMA s' || i; END LOOP; END $$")
	for i := range 30 {
		s.Exec(t, "postgres", fmt.Sprintf("DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE 'CREATE TABLE s%d.t' || i || ' ()'; END LOOP; END $$", i+1))
	}
	_, err := dump.Run(t.Context(), options(s, newMemory(small), "postgres"))
	if !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "lock 3000 tables") {
		t.Errorf("error %v", err)
	}
}

func TestAHundredThousandLargeObjectsTakeNoMemory(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	count := 100_000
	if testing.Short() {
		count = 10_000
	}
	s.Exec(t, db, fmt.Sprintf("SELECT count(lo_from_bytea(0, decode(md5(g::text), 'hex'))) FROM generate_series(1, %d) g", count))
	m := newMemory(small)
	m.discard = true
	var peak uint64
	m.before = func(seal.Kind) error {
		var st runtime.MemStats
		m.mu.Lock()
		defer m.mu.Unlock()
		runtime.ReadMemStats(&st)
		peak = max(peak, st.HeapAlloc)
		return nil
	}
	runtime.GC()
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	snap := mustRun(t, options(s, m, db))
	o := only(t, snap).LargeObjects
	if o.Count != int64(count) || o.Rows != int64(count) {
		t.Errorf("large objects %+v", o)
	}
	if grown := int64(peak) - int64(st.HeapAlloc); grown > 32<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
}
