package pgtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/pgtest"
)

var shared pgtest.Shared

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_CHILD") != "" {
		child()
	}
	os.Exit(shared.Main(m))
}

func TestAServerAnswersOnItsSocketAndItsPort(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT generate_series(1,3) AS i")
	if got := s.Query(t, db, "SELECT sum(i) FROM t"); got[0][0] != "6" {
		t.Errorf("sum = %v", got)
	}
	c, err := pgconn.Connect(t.Context(), s.TCP(db))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAServerWithAPasswordAsksForIt(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Password: `it's \ secret`})
	if _, err := pgconn.Connect(t.Context(), s.As(pgtest.Superuser, "wrong", "postgres")); err == nil {
		t.Error("a wrong password was let in")
	}
	if got := s.Query(t, "postgres", "SELECT 1"); got[0][0] != "1" {
		t.Errorf("query = %v", got)
	}
}

func TestAServerIsRemovedWhenItIsClosed(t *testing.T) {
	s, err := pgtest.Open(t.Context(), pgtest.Options{})
	if err != nil {
		t.Skip(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("folder %s is still there: %v", s.Dir, err)
	}
}

func TestAServerCanBeStoppedCrashedAndStartedAgain(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	s.Exec(t, "postgres", "CREATE TABLE kept (i int)")
	for _, end := range []func() error{s.Stop, s.Crash} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := pgconn.Connect(t.Context(), s.URL("postgres")); err == nil {
			t.Error("a stopped server answered")
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Query(t, "postgres", "SELECT * FROM kept")
	}
}

func TestAStandbyFollowsItsPrimary(t *testing.T) {
	p := shared.Server(t)
	s := pgtest.Start(t, pgtest.Options{Primary: p})
	if got := s.Query(t, "postgres", "SELECT pg_is_in_recovery()"); got[0][0] != "t" {
		t.Errorf("in recovery = %v", got)
	}
}

func TestMoreExtensionsCanBeCreated(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Extensions: map[string]string{
		"tvtest.control":  "default_version = '1.0'\nrelocatable = true\n",
		"tvtest--1.0.sql": "CREATE TABLE tvtest_conf (k int);\n",
	}})
	s.Exec(t, "postgres", "CREATE EXTENSION tvtest", "SELECT * FROM tvtest_conf")
}

// child opens a server, prints its folder and panics.
func child() {
	s, err := pgtest.Open(context.Background(), pgtest.Options{})
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(s.Dir + "\n")
	panic("a test panics")
}

func TestAServerIsRemovedWhenTheProcessPanics(t *testing.T) {
	shared.Server(t) // skips where there is no PostgreSQL
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	out, err := cmd.Output()
	dir := strings.TrimSpace(string(out))
	if err == nil || !strings.Contains(filepath.Base(dir), "tuskvault-pg-") {
		t.Fatalf("child: %v, output %q", err, out)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("folder %s is still there", dir)
		}
	}
}
