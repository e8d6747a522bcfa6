package print_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
)

func TestOffATerminalALineComesWithEachPhaseAndEveryFewSeconds(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	p := print.NewProgress(&out, false, 0, func() time.Time { return now })
	for i := range 12 {
		p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup db1/main", State: "running", Phase: "data",
			Parts: []print.Part{{Name: "a", Rows: int64(i) * 100, Bytes: int64(i) << 20, Total: 20 << 20, TablesTotal: 2}, {Name: "b", Bytes: 1 << 20, Total: 1 << 20, Tables: 1, TablesTotal: 1}}})
		now = now.Add(time.Second)
	}
	p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup db1/main", State: "failed", Ended: true, Message: "no space left"})
	p.Close()
	want := []string{
		"03:04:05  backup db1/main abcdef01: running, data, 1/3 tables, 0 rows, 1.0 MiB",
		"03:04:10  backup db1/main abcdef01: running, data, 1/3 tables, 500 rows, 6.0 MiB, 1.0 MiB/s, about 15s left",
		"03:04:15  backup db1/main abcdef01: running, data, 1/3 tables, 1,000 rows, 11.0 MiB, 1.0 MiB/s, about 10s left",
		"03:04:17  backup db1/main abcdef01: failed: no space left",
	}
	if d := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); d != "" {
		t.Error(d)
	}
}

func TestSessionsBehindOurLocksAreSaid(t *testing.T) {
	var out bytes.Buffer
	p := print.NewProgress(&out, false, 0, time.Now)
	p.Update(print.JobProgress{ID: "abcdef0123", Title: "backup", State: "running", Blocked: []string{"pid 12 waits 3s for public.t"}})
	if !strings.Contains(out.String(), "waits behind our locks: pid 12 waits 3s for public.t") {
		t.Error(out.String())
	}
}
