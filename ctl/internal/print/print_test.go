package print_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestJSONHasNumbersForSizesAndBracketsForEmptyLists(t *testing.T) {
	var b bytes.Buffer
	err := print.JSON(&b, &tuskvaultv1.ListSnapshotsResponse{Snapshots: []*tuskvaultv1.Snapshot{{
		Id: "ab", PlainBytes: 1 << 60, SystemIdentifier: 1<<63 + 1,
		StartTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"plain_bytes": 1152921504606846976`, `"system_identifier": "9223372036854775809"`,
		`"start_time": "2026-01-02T03:04:05Z"`, `"commit_time": null`, `"complete": false`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing from\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := print.JSON(&b, &tuskvaultv1.GetStatusResponse{CatalogExportLag: durationpb.New(1500 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if l, ok := v["notices"].([]any); !ok || len(l) != 0 {
		t.Errorf("notices is %v, want []", v["notices"])
	}
	if v["catalog_export_lag"] != "1.5s" {
		t.Errorf("lag is %v", v["catalog_export_lag"])
	}
}

func TestYAMLSaysTheSameAsJSON(t *testing.T) {
	var b bytes.Buffer
	if err := print.YAML(&b, &tuskvaultv1.Labels{Values: map[string]string{"env": "prod", "no": "on"}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("values:\n  env: \"prod\"\n  \"no\": \"on\"\n", b.String()); d != "" {
		t.Fatal(d)
	}
}

func TestNarrowTerminalCutsFlexibleColumnsOnly(t *testing.T) {
	tab := &print.Table{Columns: []print.Column{{Head: "NAME"}, {Head: "MESSAGE", Flex: true}, {Head: "BYTES", Right: true}, {Head: "ID", Wide: true}}}
	tab.Row("db1/main", strings.Repeat("m", 60), "12", "abc")
	tab.Row("db2/main", "evil\nname\x1b[2J", "3456", "def")
	var b bytes.Buffer
	p := print.Printer{Out: &b, Format: print.FormatTable, Width: 40}
	if err := p.Print(print.View{Table: tab}); err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		if n := len([]rune(l)); n > 40 {
			t.Errorf("%d wide: %q", n, l)
		}
	}
	if !strings.Contains(b.String(), "db1/main") || !strings.Contains(b.String(), "…") || strings.Contains(b.String(), "\x1b") || strings.Contains(b.String(), "abc") {
		t.Errorf("got\n%s", b.String())
	}
}

func TestWordsForPeople(t *testing.T) {
	for in, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", -1: "unknown", 1<<40 - 1: "1.0 TiB"} {
		if got := print.Size(in); got != want {
			t.Errorf("Size(%d) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -123: "-123"} {
		if got := print.Count(in); got != want {
			t.Errorf("Count(%d) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{0: "0s", 90 * time.Second: "90s", 3 * time.Minute: "3m", 47 * time.Hour: "47h", 100 * time.Hour: "4d"} {
		if got := print.Span(in); got != want {
			t.Errorf("Span(%v) = %s, want %s", in, got, want)
		}
	}
}
