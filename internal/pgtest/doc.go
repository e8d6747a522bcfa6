// Package pgtest starts real, throw-away PostgreSQL servers for tests and
// demonstrations. There is no fake of PostgreSQL in this repository.
//
// Each server has a folder, a unix socket and a TCP port of its own. A small
// supervising shell runs it: the shell waits on a pipe that this process holds,
// and when the pipe closes (Close was called, the test panicked, the process was
// killed) it stops the server and removes the folder. So nothing stays behind,
// whatever happens here.
//
// A test binary that needs many databases shares one server:
//
//	var shared pgtest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		db := shared.Server(t).Database(t)
//		…
//	}
//
// Where no PostgreSQL is installed tests are skipped, or fail when
// REQUIRE_SERVICES=1. PostgreSQL refuses to run as root; then the server runs
// as the user "postgres", else "nobody".
package pgtest
