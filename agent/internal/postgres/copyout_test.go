package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// gather reads a COPY whole and checks that pieces make up rows.
func gather(t *testing.T, c *postgres.Conn, sql string, bin bool) ([]string, error) {
	t.Helper()
	var rows []string
	var row bytes.Buffer
	n, err := c.CopyOut(t.Context(), sql, bin, func(p postgres.Piece) error {
		if p.First != (row.Len() == 0) && p.Row > 0 {
			t.Errorf("first %v after %d bytes", p.First, row.Len())
		}
		row.Write(p.Data)
		if p.Last {
			if row.Len() != p.Row {
				t.Errorf("row of %d bytes said %d", row.Len(), p.Row)
			}
			rows = append(rows, row.String())
			row.Reset()
		}
		return nil
	})
	if err == nil && n != int64(len(rows)) {
		t.Errorf("%d rows, counted %d", len(rows), n)
	}
	return rows, err
}

func TestCopyOutGivesWholeRowsOfAnyWidth(t *testing.T) {
	s := shared.Server(t)
	c := connect(t, s, "postgres")
	rows, err := gather(t, c, "COPY (SELECT repeat('x', n) FROM unnest(ARRAY[0, 1, 65530, 65535, 65536, 65537, 200000, 3]) n) TO STDOUT", false)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{0, 1, 65530, 65535, 65536, 65537, 200000, 3} {
		if rows[i] != strings.Repeat("x", n)+"\n" {
			t.Errorf("row %d has %d bytes, want %d", i, len(rows[i]), n+1)
		}
	}
}

func TestCopyOutTakesHeaderAndTrailerOffBinaryRows(t *testing.T) {
	s := shared.Server(t)
	c := connect(t, s, "postgres")
	rows, err := gather(t, c, "COPY (SELECT g::int4 FROM generate_series(1, 3) g) TO STDOUT (FORMAT binary)", true)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if r != "\x00\x01\x00\x00\x00\x04\x00\x00\x00"+string(rune(i+1)) {
			t.Errorf("row %d = %q", i, r)
		}
	}
	if rows, err := gather(t, c, "COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)", true); err != nil || len(rows) != 0 {
		t.Errorf("no rows gave %q, %v", rows, err)
	}
	if rows, err := gather(t, c, "COPY (SELECT FROM generate_series(1, 2)) TO STDOUT (FORMAT binary)", true); err != nil || len(rows) != 2 {
		t.Errorf("rows without columns gave %q, %v", rows, err)
	}
	wide, err := gather(t, c, "COPY (SELECT decode(repeat('ab', 150000), 'hex')) TO STDOUT (FORMAT binary)", true)
	if err != nil || len(wide) != 1 || len(wide[0]) != 2+4+150000 {
		t.Errorf("wide row: %v", err)
	}
}

// slowWrite is a socket whose next write, once armed, lasts until its answer has
// been read and the read after that has begun.
type slowWrite struct {
	net.Conn
	armed atomic.Bool
	reads chan struct{}
}

func (s *slowWrite) Read(p []byte) (int, error) {
	if s.armed.Load() {
		s.reads <- struct{}{}
	}
	return s.Conn.Read(p)
}

func (s *slowWrite) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if s.armed.Load() {
		<-s.reads
		<-s.reads
		s.armed.Store(false)
	}
	return n, err
}

func TestRowsAreWholeAfterAWriteThatTookLong(t *testing.T) {
	c := connect(t, shared.Server(t), "postgres")
	slow := &slowWrite{reads: make(chan struct{}, 2)}
	if err := c.Wrap(func(n net.Conn) net.Conn { slow.Conn = n; return slow }); err != nil {
		t.Fatal(err)
	}
	slow.armed.Store(true)
	if err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	rows, err := gather(t, c, "COPY (SELECT repeat('x', 100) FROM generate_series(1, 10000)) TO STDOUT", false)
	if err != nil || len(rows) != 10000 {
		t.Errorf("%d rows of 10000: %v", len(rows), err)
	}
}

func TestTheConnectionCanBeUsedAfterEachEndOfACopy(t *testing.T) {
	s := shared.Server(t)
	c := connect(t, s, "postgres")
	stop := errors.New("sink has had enough")
	for name, run := range map[string]func() error{
		"an error before any row": func() error { _, err := gather(t, c, "COPY nowhere TO STDOUT", false); return err },
		"an error after rows": func() error {
			_, err := gather(t, c, "COPY (SELECT 1 / (5000 - g) FROM generate_series(1, 9000) g) TO STDOUT", false)
			return err
		},
		"no COPY": func() error { _, err := gather(t, c, "SELECT 1", false); return err },
		"the sink's failure": func() error {
			_, err := c.CopyOut(t.Context(), "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT", false, func(postgres.Piece) error { return stop })
			if !errors.Is(err, stop) {
				t.Errorf("sink's error became %v", err)
			}
			return err
		},
		"cancellation": func() error {
			ctx, cancel := context.WithCancelCause(t.Context())
			begun := time.Now()
			_, err := c.CopyOut(ctx, "COPY (SELECT repeat('x', 9000), pg_sleep(0.01) FROM generate_series(1, 100000) g) TO STDOUT", false, func(postgres.Piece) error { cancel(stop); return nil })
			if !errors.Is(err, stop) || time.Since(begun) > 5*time.Second {
				t.Errorf("cancellation gave %v after %s", err, time.Since(begun))
			}
			return err
		},
		"cancellation while the server is silent": func() error {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, stop)
			defer cancel()
			begun := time.Now()
			_, err := c.CopyOut(ctx, "COPY (SELECT pg_sleep(100)) TO STDOUT", false, func(postgres.Piece) error { return nil })
			if !errors.Is(err, stop) || time.Since(begun) > 5*time.Second {
				t.Errorf("cancellation gave %v after %s", err, time.Since(begun))
			}
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if c.Lost() {
			t.Fatalf("%s: connection lost", name)
		}
		if rows, err := gather(t, c, "COPY (VALUES (1), (2)) TO STDOUT", false); err != nil || strings.Join(rows, "") != "1\n2\n" {
			t.Errorf("after %s: %q, %v", name, rows, err)
		}
		var one int
		if err := c.One(t.Context(), &one, "SELECT 1"); err != nil || one != 1 {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

func TestACopyWhoseSessionIsKilledIsAnError(t *testing.T) {
	s := shared.Server(t)
	c := connect(t, s, "postgres")
	killed := false
	_, err := c.CopyOut(t.Context(), "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT", false, func(postgres.Piece) error {
		if !killed {
			killed = true
			s.Exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND query LIKE 'COPY%'")
		}
		return nil
	})
	if !errors.Is(err, errs.Unavailable) || !c.Lost() {
		t.Errorf("error %v, lost %v", err, c.Lost())
	}
	if err := c.Exec(t.Context(), "SELECT 1"); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a lost connection gave %v", err)
	}
}

func TestMemoryDoesNotDependOnTheWidthOfARow(t *testing.T) {
	s := shared.Server(t)
	c := connect(t, s, "postgres")
	const width = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	largest := 0
	_, err := c.CopyOut(t.Context(), "COPY (SELECT repeat('x', 67108864)) TO STDOUT", false, func(p postgres.Piece) error {
		largest = max(largest, len(p.Data))
		_, err := io.Discard.Write(p.Data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 || largest > 64<<10 {
		t.Errorf("a row of %d bytes allocated %d bytes, pieces of up to %d", width, got, largest)
	}
}
