package nearest_test

import (
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/internal/nearest"
)

func TestDistanceCountsEditsUpToABound(t *testing.T) {
	for _, c := range []struct {
		a, b string
		most int
		want int
	}{
		{"", "", 5, 0}, {"abc", "abc", 0, 0}, {"abc", "abd", 2, 1}, {"abc", "ab", 2, 1}, {"kitten", "sitting", 5, 3}, {"mian", "main", 2, 2},
		{"abc", "xyz", 2, 3}, {"abc", "abcdefgh", 2, 3}, {"abc", "abd", 0, 1}, {"", "abc", 9, 3},
	} {
		if got := nearest.Distance(c.a, c.b, c.most); got != c.want {
			t.Errorf("%q to %q, at most %d: %d, want %d", c.a, c.b, c.most, got, c.want)
		}
		if got := nearest.Distance(c.b, c.a, c.most); got != c.want {
			t.Errorf("%q to %q, the other way round: %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestNamesGivesTheNearestFirst(t *testing.T) {
	far := map[string]int{"a": 2, "b": 1, "c": 1, "d": 3, "e": 0}
	got := nearest.Names([]string{"a", "d", "c", "b", "e"}, 3, 2, func(n string) int { return far[n] })
	if !slices.Equal(got, []string{"e", "b", "c"}) {
		t.Errorf("%q", got)
	}
	if got := nearest.Names([]string{"d"}, 3, 2, func(n string) int { return far[n] }); got != nil {
		t.Errorf("%q", got)
	}
}
