package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestEachBadFieldIsInvalidAndNamed(t *testing.T) {
	many := make([]string, maxGlobs+1)
	for i := range many {
		many[i] = "x"
	}
	_, requestErr := parseRequestID("zz")
	_, zeroErr := parseRequestID(strings.Repeat("0", 32))
	_, shortTTL := parseTTL(durationpb.New(time.Millisecond))
	_, longTTL := parseTTL(durationpb.New(8 * 24 * time.Hour))
	_, brokenTTL := parseTTL(&durationpb.Duration{Seconds: 1, Nanos: -1})
	_, levelErr := parseLevel("loud")
	_, pageErr := parsePage(&tuskvaultv1.PageRequest{Size: 1001})
	_, negativePage := parsePage(&tuskvaultv1.PageRequest{Size: -1})
	_, tokenErr := parsePage(&tuskvaultv1.PageRequest{Token: strings.Repeat("a", 2000)})
	_, stateErr := fromJobStates([]tuskvaultv1.JobState{tuskvaultv1.JobState_JOB_STATE_UNSPECIFIED})
	_, newerState := fromJobStates([]tuskvaultv1.JobState{99})
	_, mapErr := parseMappings([]*tuskvaultv1.DatabaseMapping{{Source: "a", Target: "c"}, {Source: "b", Target: "c"}})
	_, emptyMap := parseMappings([]*tuskvaultv1.DatabaseMapping{{Target: "c"}})
	_, momentErr := parseMoment("13am")
	for name, c := range map[string]struct {
		field string
		err   error
	}{
		"id that is no id":        {"request_id", requestErr},
		"id of zeros":             {"request_id", zeroErr},
		"ttl too short":           {"ttl", shortTTL},
		"ttl too long":            {"ttl", longTTL},
		"ttl that is none":        {"ttl", brokenTTL},
		"level":                   {"level", levelErr},
		"page too large":          {"page.size", pageErr},
		"page negative":           {"page.size", negativePage},
		"token too long":          {"page.token", tokenErr},
		"state unspecified":       {"states", stateErr},
		"state of a newer client": {"states", newerState},
		"two onto one":            {"databases", mapErr},
		"mapping of nothing":      {"databases", emptyMap},
		"twelve-hour time":        {"snapshot", momentErr},
		"pattern":                 {"databases", checkGlobs("databases", []string{"a[b"})},
		"empty pattern":           {"databases", checkGlobs("databases", []string{""})},
		"too many patterns":       {"databases", checkGlobs("databases", many)},
		"negative workers":        {"workers", checkWorkers("workers", -1)},
		"too many workers":        {"workers", checkWorkers("workers", 1000)},
		"label key":               {"labels", checkLabels("labels", map[string]string{"Env": "x"})},
		"label value":             {"labels", checkLabels("labels", map[string]string{"env": strings.Repeat("x", 64)})},
		"name with a slash":       {"name", checkName("name", "a/b")},
		"name too long":           {"name", checkName("name", strings.Repeat("x", 64))},
		"name of bytes":           {"name", checkName("name", "a\xff")},
		"reference empty":         {"agent", checkReference("agent", "")},
		"reference with escape":   {"agent", checkReference("agent", "a\x1b[31m")},
		"reason too long":         {"reason", checkReason(strings.Repeat("x", 501))},
	} {
		if !errors.Is(c.err, errs.Invalid) || !strings.Contains(c.err.Error(), "field "+c.field) {
			t.Errorf("%s: got %v, want Invalid naming field %s", name, c.err, c.field)
		}
	}
}

func TestAMomentWithoutAZoneIsUTC(t *testing.T) {
	want := time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)
	for _, text := range []string{"2026-01-31T23:00:00Z", "2026-02-01T00:00:00+01:00", "2026-01-31 23:00", "2026-01-31T23:00:00"} {
		if got, err := parseMoment(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestPagesCoverAllRowsOnceEvenWhenRowsComeAndGo(t *testing.T) {
	rows := []string{"a", "b", "c", "d", "e"}
	key := func(s string) string { return s }
	first, next, err := take(rows, catalog.Page{Size: 2}, key)
	if err != nil || strings.Join(first, "") != "ab" || next == "" {
		t.Fatalf("first page %v, next %q, %v", first, next, err)
	}
	second, next, err := take([]string{"b2", "c", "d", "e"}, catalog.Page{Size: 2, Token: next}, key) // a and b are gone, b2 is new
	if err != nil || strings.Join(second, "") != "b2c" || next == "" {
		t.Fatalf("second page %v, next %q, %v", second, next, err)
	}
	last, next, err := take(rows, catalog.Page{Size: 2, Token: next}, key)
	if err != nil || strings.Join(last, "") != "de" || next != "" {
		t.Fatalf("last page %v, next %q, %v", last, next, err)
	}
	if _, _, err := take(rows, catalog.Page{Size: 2, Token: "%"}, key); !errors.Is(err, errs.Invalid) {
		t.Errorf("a token that is none: %v", err)
	}
}

func TestAPageEndsEarlyRatherThanBecomeTooLarge(t *testing.T) {
	rows := []int{1, 2, 3, 4, 5, 6}
	list := func(p catalog.Page) ([]int, string, error) {
		at := len(p.Token)
		next := strings.Repeat("x", at+1)
		if at+1 == len(rows) {
			next = ""
		}
		return rows[at : at+1], next, nil
	}
	var got []int
	for page, calls := (catalog.Page{Size: 5}), 0; ; calls++ {
		if calls > 10 {
			t.Fatal("does not end")
		}
		n := 0
		next, err := gather(page, list, func(i int) (int, error) { got = append(got, i); n++; return maxPageBytes/2 + 1, nil })
		if err != nil {
			t.Fatal(err)
		}
		if n > 2 {
			t.Errorf("a page of %d rows of half a page each", n)
		}
		if next == "" {
			break
		}
		page.Token = next
	}
	if len(got) != len(rows) {
		t.Errorf("got %v, want %v", got, rows)
	}
}
