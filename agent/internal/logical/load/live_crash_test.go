package load_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// wire is between a restore and its server, and ends at the n-th statement: every
// connection is cut, before the statement is handed on or right after it. To the
// server that is what kill -9 of the agent is.
type wire struct {
	server string // socket
	at     int
	after  bool
	ended  func() // called once, before connections are cut

	mu         sync.Mutex
	seen       int
	swap       int // statement that begins the swap
	dead       bool
	conns      []net.Conn
	statements []string
	work       sync.WaitGroup
	ending     sync.WaitGroup // ended, while it runs
}

// through serves a wire and gives its port.
func through(t *testing.T, s *pgtest.Server, w *wire) int {
	t.Helper()
	w.server = filepath.Join(s.Dir, fmt.Sprintf(".s.PGSQL.%d", s.Port))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.work.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for _, c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("unix", w.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	w.conns = append(w.conns, client, server)
	dead := w.dead
	w.mu.Unlock()
	if dead {
		return
	}
	w.work.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	for first := true; ; first = false {
		kind, body, err := message(client, first)
		if err != nil {
			return
		}
		hit := (kind == 'Q' || kind == 'P') && w.count(body)
		if hit && !w.after {
			w.end()
			return
		}
		if _, err := server.Write(body); err != nil {
			return
		}
		if hit {
			w.end()
			return
		}
	}
}

func (w *wire) end() {
	if w.ended != nil {
		w.ended()
	}
	w.cut()
	w.ending.Done()
}

// count counts a statement and tells whether it is the one.
func (w *wire) count(body []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen++
	if w.swap == 0 && bytes.Contains(body, []byte("BEGIN ISOLATION LEVEL READ COMMITTED")) {
		w.swap = w.seen
	}
	w.statements = append(w.statements, string(body[5:min(len(body), 120)]))
	if w.seen != w.at {
		return false
	}
	w.ending.Add(1) // before the restore can notice
	return true
}

// message reads one message of the front end, whole.
func message(r io.Reader, first bool) (kind byte, whole []byte, err error) {
	head := make([]byte, 5)
	if first {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	whole = append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, whole[len(head):]); err != nil {
		return 0, nil, err
	}
	if !first {
		kind = head[0]
	}
	return kind, whole, nil
}

// tables of the crash tests: items refer to orders.
var crashTables = []string{"sales.orders", "sales.items"}

// crashCase is a live database whose rows changed after its snapshot.
type crashCase struct {
	s        *pgtest.Server
	db       string
	m        *memory
	c        *repo.Content
	old, new string
}

func newCrashCase(t *testing.T, s *pgtest.Server) *crashCase {
	t.Helper()
	x := &crashCase{s: s, db: liveDatabase(t, s)}
	x.s.Exec(t, x.db, "ALTER TABLE sales.orders DISABLE TRIGGER logs")
	x.m, x.c = backUp(t, s, x.db)
	x.new = x.state(t)
	x.age(t)
	x.old = x.state(t)
	return x
}

func (x *crashCase) state(t *testing.T) string {
	t.Helper()
	return rowsOf(t, x.s, x.db, crashTables[0]) + "; " + rowsOf(t, x.s, x.db, crashTables[1])
}

// age makes the rows what they were before a replacement.
func (x *crashCase) age(t *testing.T) {
	t.Helper()
	x.s.Exec(t, x.db, "DELETE FROM sales.items WHERE id % 3 = 0 OR id > 3000; DELETE FROM sales.orders WHERE id > 1990; UPDATE sales.orders SET n = 5")
}

// run restores through a wire.
func (x *crashCase) run(t *testing.T, id repo.JobID, w *wire, r job.Restore) error {
	t.Helper()
	cfg := config(x.s)
	if w != nil {
		cfg.Host, cfg.Port = "127.0.0.1", through(t, x.s, w)
		cfg.Password = func() (string, error) { return x.s.Password, nil }
	}
	if w != nil {
		defer w.ending.Wait()
	}
	p, err := load.Prepare(t.Context(), load.Options{Config: cfg, Source: source{x.m}, Reporter: &recorder{}}, x.c, id, r)
	if err != nil {
		return err
	}
	return p.Run(t.Context()).Err
}

// retry is the next attempt of the same job. Rows that were written after an
// attempt that did replace them must not be replaced once more.
func (x *crashCase) retry(t *testing.T, id repo.JobID, r job.Restore) {
	t.Helper()
	state := x.state(t)
	if state != x.old && state != x.new {
		t.Fatalf("half replaced: %s; old %s, new %s", state, x.old, x.new)
	}
	if state == x.new {
		x.s.Exec(t, x.db, "INSERT INTO sales.items (id, ord, what) VALUES (9999, 1, 'after')")
	}
	if err := x.run(t, id, nil, r); err != nil {
		t.Fatalf("the next attempt: %v", err)
	}
	if state == x.new {
		if n := x.s.Query(t, x.db, "DELETE FROM sales.items WHERE what = 'after' RETURNING 1"); len(n) != 1 {
			t.Error("rows written after the first attempt were replaced by the second")
		}
	}
	if got := x.state(t); got != x.new {
		t.Errorf("after the next attempt: %s, want %s", got, x.new)
	}
	left := schemas(t, x.s, x.db)
	if strings.Contains(left, "restore") || strings.Contains(left, " ") {
		t.Errorf("left: %s", left)
	}
	x.s.Exec(t, x.db, "DROP SCHEMA "+left+" CASCADE")
	x.age(t)
}

// steps gives the statements at which to cut: every fourth of the swap, every other at its end, and before
// it some of those that load; all of them in a long test.
func steps(clean *wire) []int {
	var all []int
	for n := 1; n <= clean.seen; n++ {
		if n >= clean.swap && (n%4 == 0 || n > clean.seen-9 && n%2 == 0) || n%40 == 0 || os.Getenv("TUSKVAULT_LONG") != "" {
			all = append(all, n)
		}
	}
	return all
}

func TestAnAgentKilledAtAnyStepLeavesLiveTablesWhole(t *testing.T) {
	s := shared.Server(t)
	x := newCrashCase(t, s)
	r := live(x.db, true, crashTables...)
	r.Jobs = 1
	clean := &wire{}
	id := repo.NewID()
	if err := x.run(t, id, clean, r); err != nil {
		t.Fatal(err)
	}
	x.retry(t, id, r)
	if clean.swap == 0 {
		t.Fatal("no swap was seen")
	}
	t.Logf("%d statements, the swap from %d on", clean.seen, clean.swap)
	for _, n := range steps(clean) {
		for _, after := range []bool{false, true} {
			// After most statements is before the next one.
			if after && (n < clean.swap || (n < clean.seen-8 || n%4 != 0) && os.Getenv("TUSKVAULT_LONG") == "") {
				continue
			}
			id := repo.NewID()
			if err := x.run(t, id, &wire{at: n, after: after}, r); err == nil && n <= clean.seen-6 { // statistics come last, and are no failure
				t.Errorf("cut at statement %d (%s): no error", n, clean.statements[n-1])
			}
			x.settle(t)
			x.retry(t, id, r)
			if t.Failed() {
				t.Fatalf("cut at statement %d, after it: %v: %s", n, after, clean.statements[n-1])
			}
		}
	}
}

// settle waits until no session of a restore is left: the server notices a lost
// connection when it next reads from it.
func (x *crashCase) settle(t *testing.T) {
	t.Helper()
	x.s.Exec(t, x.db, "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'tuskvault restore' AND datname = current_database()) LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$")
}

func TestAServerKilledWhileRowsAreReplacedComesBackWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server several times")
	}
	s := pgtest.Start(t, pgtest.Options{})
	x := newCrashCase(t, s)
	r := live(x.db, true, crashTables...)
	r.Jobs = 1
	clean := &wire{}
	id := repo.NewID()
	if err := x.run(t, id, clean, r); err != nil {
		t.Fatal(err)
	}
	x.retry(t, id, r)
	for n := clean.swap - 1; n <= clean.seen-3; n++ {
		if os.Getenv("TUSKVAULT_LONG") == "" && n%7 != 0 {
			continue
		}
		id := repo.NewID()
		crash := func() {
			if err := s.Crash(); err != nil {
				t.Error(err)
			}
		}
		if err := x.run(t, id, &wire{at: n, after: n%2 == 0, ended: crash}, r); err == nil {
			t.Errorf("the server was killed at statement %d: no error", n)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.retry(t, id, r)
		if t.Failed() {
			t.Fatalf("killed at statement %d: %s", n, clean.statements[n-1])
		}
	}
}

func TestABesideRestoreKilledAtAnyStepIsDoneByTheNextAttempt(t *testing.T) {
	s := shared.Server(t)
	x := newCrashCase(t, s)
	r := live(x.db, false, crashTables...)
	r.Jobs, r.LiveSchema = 1, "side"
	clean := &wire{}
	if err := x.run(t, repo.NewID(), clean, r); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, x.db, "DROP SCHEMA side CASCADE")
	for n := 1; n <= clean.seen; n++ {
		if n < clean.seen-4 && n%40 != 0 && os.Getenv("TUSKVAULT_LONG") == "" {
			continue
		}
		id := repo.NewID()
		_ = x.run(t, id, &wire{at: n, after: n%2 == 0}, r) // what counts is what it leaves
		x.settle(t)
		if left := schemas(t, s, x.db); strings.Contains(left, "side") && len(s.Query(t, x.db, "SELECT 1 WHERE obj_description('side'::regnamespace) ~ 'done; 2 tables'")) == 0 {
			t.Errorf("cut at statement %d: a schema with the asked name that is not complete", n)
		}
		if err := x.run(t, id, nil, r); err != nil {
			t.Fatalf("cut at statement %d: the next attempt: %v", n, err)
		}
		if left := schemas(t, s, x.db); left != "side" {
			t.Errorf("cut at statement %d: schemas %s", n, left)
		}
		if got := rowsOf(t, s, x.db, "side.orders") + "; " + rowsOf(t, s, x.db, "side.items"); got != x.new || x.state(t) != x.old {
			t.Errorf("cut at statement %d: beside %s, live %s", n, got, x.state(t))
		}
		s.Exec(t, x.db, "DROP SCHEMA side CASCADE")
	}
}
