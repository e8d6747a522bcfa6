package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// shared is the PostgreSQL of the tests that do not harm it.
var shared pgtest.Shared

// programs are built once for all tests.
var programs harness.Binaries

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "tuskvault-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }() // the system's temporary folder
		programs, err = harness.Build(context.Background(), "..", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return shared.Main(m)
}

// long tells whether tests that take minutes may run.
func long() bool { return os.Getenv("TUSKVAULT_LONG") != "" }

// system prepares a controller and stops everything when the test ends.
func system(t *testing.T) *harness.System {
	t.Helper()
	s, err := harness.New(programs, t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		err := s.Close(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Errorf("stop the programs: %v", err)
		}
		if t.Failed() {
			logs(t, s)
		}
	})
	return s
}

// logs shows the ends of the programs' logs.
func logs(t *testing.T, s *harness.System) {
	files, _ := filepath.Glob(filepath.Join(s.Dir, "*.log"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		t.Logf("%s:\n%s", filepath.Base(f), b[max(0, len(b)-6000):])
	}
}

// running prepares a controller with one agent, db1, that looks after pg.
func running(t *testing.T, pg *pgtest.Server, agentArgs ...string) *harness.System {
	t.Helper()
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context())))
	must(t, s.Enroll(t.Context(), "db1", pg.Env("postgres"), agentArgs...))
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ok runs tuskctl and wants exit code 0.
func ok(t *testing.T, s *harness.System, args ...string) string {
	t.Helper()
	r := s.Ctl(t.Context(), args...)
	must(t, r.Err())
	return r.Stdout
}

// refused runs tuskctl and wants an exit code and words on standard output or error.
func refused(t *testing.T, s *harness.System, code int, words []string, args ...string) {
	t.Helper()
	r := s.Ctl(t.Context(), args...)
	if r.Code != code {
		t.Errorf("tuskctl %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.Stdout+r.Stderr, w) {
			t.Errorf("tuskctl %s: %q is not said:\n%s%s", strings.Join(args, " "), w, r.Stdout, r.Stderr)
		}
	}
}

// backup makes a snapshot and gives its id.
func backup(t *testing.T, s *harness.System, args ...string) string {
	t.Helper()
	var v jobs
	must(t, s.JSON(t.Context(), &v, append([]string{"backup", "db1/main", "--wait"}, args...)...))
	if len(v.Jobs) != 1 || v.Jobs[0].SnapshotID == "" {
		t.Fatalf("no snapshot in %+v", v)
	}
	return v.Jobs[0].SnapshotID
}

// jobs is what tuskctl prints of jobs.
type jobs struct {
	Jobs []jobView `json:"jobs"`
}

type jobView struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	SnapshotID string `json:"snapshot_id"`
	Message    string `json:"message"`
	Attempts   []struct {
		State string `json:"state"`
		Error string `json:"error"`
	} `json:"attempts"`
	Result *struct {
		Stats struct {
			Chunks    int64 `json:"chunks"`
			NewChunks int64 `json:"new_chunks"`
		} `json:"stats"`
		Databases []struct {
			Database       string `json:"database"`
			Target         string `json:"target"`
			Complete       bool   `json:"complete"`
			Error          string `json:"error"`
			Tables         int64  `json:"tables"`
			TablesVerified int64  `json:"tables_verified"`
			TablesCompared int64  `json:"tables_compared"`
		} `json:"databases"`
		Problems []struct {
			Severity string `json:"severity"`
			Database string `json:"database"`
			Object   string `json:"object"`
			Reason   string `json:"reason"`
			Hint     string `json:"hint"`
		} `json:"problems"`
	} `json:"result"`
}

func job(t *testing.T, s *harness.System, id string) jobView {
	t.Helper()
	var v struct {
		Job jobView `json:"job"`
	}
	must(t, s.JSON(t.Context(), &v, "job", "show", id))
	return v.Job
}

// sql runs statements as the superuser.
func sql(t *testing.T, pg *pgtest.Server, database string, statements ...string) {
	t.Helper()
	pg.Exec(t, database, statements...)
}

// value gives the first column of the first row.
func value(t *testing.T, url, query string) string {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	r := c.ExecParams(t.Context(), query, nil, nil, nil, nil).Read()
	must(t, r.Err)
	if len(r.Rows) == 0 {
		return ""
	}
	return string(r.Rows[0][0])
}

// holding runs statements in a session of its own, which lives until the result
// is called.
func holding(t *testing.T, pg *pgtest.Server, database, statements string) (release func()) {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), pg.URL(database))
	must(t, err)
	_, err = c.Exec(t.Context(), statements).ReadAll()
	must(t, err)
	release = func() { _ = c.Close(context.WithoutCancel(t.Context())) } // a second time does nothing
	t.Cleanup(release)
	return release
}
