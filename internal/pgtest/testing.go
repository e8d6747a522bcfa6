package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Start starts a server for one test and stops it when the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s, err := Open(t.Context(), opts)
	fatalOrSkip(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close PostgreSQL: %v", err)
		}
	})
	return s
}

// fatalOrSkip ends the test if err is set: skipped when PostgreSQL is not
// installed and nobody requires it.
func fatalOrSkip(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errs.NotFound) && os.Getenv("REQUIRE_SERVICES") != "1":
		t.Skipf("no PostgreSQL: %v", err)
	default:
		t.Fatalf("start PostgreSQL: %v", err)
	}
}

// Shared is one server for all tests of a test binary, started when the first
// asks. The zero value is ready; see the package's example.
type Shared struct {
	// Options of the server; set them before the first use.
	Options Options

	once   sync.Once
	server *Server
	err    error
}

// Main runs the tests, stops the server and returns the exit code.
func (s *Shared) Main(m *testing.M) int {
	code := m.Run()
	if err := s.Close(); err != nil {
		_, _ = os.Stderr.WriteString("close PostgreSQL: " + err.Error() + "\n")
		return max(code, 1)
	}
	return code
}

// Close stops the server if it was started. Main calls it.
func (s *Shared) Close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// Server gives the server, starting it if need be.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	// The server outlives the test that happens to be the first.
	s.once.Do(func() { s.server, s.err = Open(context.WithoutCancel(t.Context()), s.Options) })
	fatalOrSkip(t, s.err)
	return s.server
}

// Unique gives a name that no other test uses, for databases and roles.
func Unique(prefix string) string {
	return prefix + "_" + strings.ToLower(rand.Text()[:10])
}

// Database creates an empty database for one test and drops it when the test
// ends. more is added to CREATE DATABASE, for example "ENCODING 'LATIN1'
// TEMPLATE template0".
func (s *Server) Database(t testing.TB, more ...string) string {
	t.Helper()
	name := Unique("db")
	s.Exec(t, "postgres", `CREATE DATABASE "`+name+`" `+strings.Join(more, " "))
	t.Cleanup(func() { s.DropDatabase(t, name) })
	return name
}

// DropDatabase drops a database if it exists, with the sessions in it.
func (s *Server) DropDatabase(t testing.TB, name string) {
	t.Helper()
	s.Exec(t, "postgres", `DROP DATABASE IF EXISTS "`+strings.ReplaceAll(name, `"`, `""`)+`" WITH (FORCE)`)
}

// Exec runs SQL in a database as the superuser, each string as one simple
// query, and fails the test on an error.
func (s *Server) Exec(t testing.TB, database string, sql ...string) {
	t.Helper()
	s.query(t, database, sql)
}

// Query runs SQL in a database as the superuser and returns the rows of the
// last statement as text, NULL as the empty string.
func (s *Server) Query(t testing.TB, database, sql string) [][]string {
	t.Helper()
	return s.query(t, database, []string{sql})
}

func (s *Server) query(t testing.TB, database string, sql []string) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute) // also for clean-up
	defer cancel()
	c, err := pgconn.Connect(ctx, s.URL(database))
	if err != nil {
		t.Fatalf("connect to %s: %v", database, err)
	}
	defer func() { _ = c.Close(ctx) }() // the statements have ended already
	var out [][]string
	for _, q := range sql {
		res, err := c.Exec(ctx, q).ReadAll()
		if err != nil {
			t.Fatalf("%v in database %s: %s", err, database, q)
		}
		out = out[:0]
		if len(res) == 0 {
			continue
		}
		for _, row := range res[len(res)-1].Rows {
			var r []string
			for _, v := range row {
				r = append(r, string(v))
			}
			out = append(out, r)
		}
	}
	return out
}
