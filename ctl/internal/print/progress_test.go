package print_test

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
)

func TestOffATerminalALineComesWithEachPhaseAndEveryFewSeconds(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	p := print.NewProgress(&out, 0, 0, func() time.Time { return now })
	for i := range 12 {
		p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup db1/main", State: "running", Phase: "data", Rate: int64(min(i, 1)) << 20, Left: time.Duration(20*min(i, 1)-i) * time.Second,
			Parts: []print.Part{{Name: "a", Rows: int64(i) * 100, Bytes: int64(i) << 20, Total: 20 << 20, TablesTotal: 2, Busy: []print.Busy{
				{Name: "public.small", Phase: "copying", Bytes: 10, Total: 100}, {Name: "public.orders", Phase: "copying", Bytes: int64(i) << 20, Total: 20 << 20}}}, {Name: "b", Bytes: 1 << 20, Total: 1 << 20, Tables: 1, TablesTotal: 1}}})
		now = now.Add(time.Second)
	}
	p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup db1/main", State: "failed", Ended: true, Message: "no space left"})
	p.Close()
	want := []string{
		"03:04:05  backup db1/main abcdef01: running, data, 1/3 tables, 0 rows, 1.0 MiB, public.orders copying 0%",
		"03:04:10  backup db1/main abcdef01: running, data, 1/3 tables, 500 rows, 6.0 MiB, 1.0 MiB/s, about 15s left, public.orders copying 25%",
		"03:04:15  backup db1/main abcdef01: running, data, 1/3 tables, 1,000 rows, 11.0 MiB, 1.0 MiB/s, about 10s left, public.orders copying 50%",
		"03:04:17  backup db1/main abcdef01: failed: no space left",
	}
	if d := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); d != "" {
		t.Error(d)
	}
}

func TestTablesAreSaidOnOneLine(t *testing.T) {
	for want, b := range map[string]print.Busy{
		"public.orders  copying  1,200 of 4,000 rows,  1.0 MiB of 3.0 MiB":             {Name: "public.orders", Phase: "copying", Rows: 1200, RowsTotal: 4000, Bytes: 1 << 20, Total: 3 << 20},
		"public.orders  copying  1,200 of about 4,000 rows,  1.0 MiB of about 3.0 MiB": {Name: "public.orders", Phase: "copying", Rows: 1200, RowsTotal: 4000, Bytes: 1 << 20, Total: 3 << 20, Estimated: true},
		"large objects  copying  1.0 MiB":                                              {Name: "large objects", Phase: "copying", Bytes: 1 << 20},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOnATerminalTheTablesAtWorkAreDrawnWithinItsSize(t *testing.T) {
	var out syncBuffer
	p := print.NewProgress(&out, 60, 6, time.Now)
	part := print.Part{Name: "app", Phase: "data", Rows: 10, Bytes: 100, Total: 1000, TablesTotal: 9}
	for i := range 9 {
		part.Busy = append(part.Busy, print.Busy{Name: "public.table_with_a_rather_long_name_" + string(rune('a'+i)), Phase: "copying", Bytes: 1, Total: int64(i)})
	}
	job := print.JobProgress{ID: "abcdef0123", Title: "restore db1/main", State: "running", Parts: []print.Part{part}}
	p.Update(job)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), "long_name_i") {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the largest table is not drawn: %q", out.String())
		}
	}
	p.Update(print.JobProgress{ID: "abcdef0123", Title: "restore db1/main", State: "succeeded", Ended: true})
	p.Close()
	text := out.String()
	for letter, want := range map[string]bool{"i": true, "h": true, "g": true, "f": false, "a": false} {
		if strings.Contains(text, "long_name_"+letter) != want {
			t.Errorf("table %s is drawn: %v", letter, !want)
		}
	}
	for l := range strings.Lines(text) {
		if n := len([]rune(escapes.ReplaceAllString(strings.TrimSpace(l), ""))); n > 60 {
			t.Errorf("a line of %d letters: %q", n, l)
		}
	}
}

// escapes are what moves the cursor.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestSessionsBehindOurLocksAreSaid(t *testing.T) {
	var out bytes.Buffer
	p := print.NewProgress(&out, 0, 0, time.Now)
	p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup", State: "running", Blocked: []string{"pid 12 waits 3s for public.t"}})
	if !strings.Contains(out.String(), "waits behind our locks: pid 12 waits 3s for public.t") {
		t.Error(out.String())
	}
}
