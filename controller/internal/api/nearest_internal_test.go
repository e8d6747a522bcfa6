package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAMissNamesWhatWasProbablyMeant(t *testing.T) {
	names := []string{"db1/main", "db2/main", "web/reporting", "db1/archive", "other/x"}
	for _, c := range []struct {
		asked string
		want  []string
	}{
		{"db1/mian", []string{"db1/main"}},
		{"reporting", []string{"web/reporting"}},
		{"REPORTIN", []string{"web/reporting"}},
		{"db3/main", []string{"db1/main", "db2/main"}},
		{"archive", []string{"db1/archive"}},
		{"completely-different", nil},
		{"", nil},
	} {
		if diff := cmp.Diff(c.want, near(c.asked, names)); diff != "" && c.asked != "" {
			t.Errorf("%q (-want +got):\n%s", c.asked, diff)
		}
	}
	if got := near("a", make([]string, 100_000)); len(got) > maxNearMatches {
		t.Errorf("%d near matches, want at most %d", len(got), maxNearMatches)
	}
}
