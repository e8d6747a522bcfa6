package report_test

import (
	"bytes"
	"testing"

	"github.com/tuskvault/tuskvault/internal/report"
)

// FuzzDecode: what an agent calls a report is refused, or is exactly what the
// format writes.
func FuzzDecode(f *testing.F) {
	var r report.Report
	if b, err := r.Encode(); err == nil {
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte(`{"tuskvault_drill_report":1}`))
	f.Add([]byte(`{"tuskvault_drill_report":9999}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := report.Decode(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("read and written again it is another document: %v\n%s\n%s", err, b, again)
		}
	})
}
