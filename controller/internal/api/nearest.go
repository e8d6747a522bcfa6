package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Bounds of the search for near matches: it runs only on a miss, costs
// O(names × bytes²) and must stay cheap for a caller who misses on purpose.
const (
	maxNearMatches   = 3
	maxNearNames     = 2000
	maxNearNameBytes = 64
)

// notFound gives a NotFound error for a thing of the noun, with the names that
// look like the one asked for.
func notFound(noun, asked string, names []string) error {
	near := nearest(asked, names)
	if len(near) == 0 {
		return fmt.Errorf("%s %q: %w", noun, asked, errs.NotFound)
	}
	return fmt.Errorf("%s %q: %w; near matches: %s", noun, asked, errs.NotFound, strings.Join(near, ", "))
}

// nearest gives the names that a person may have meant, best first.
func nearest(asked string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	asked = strings.ToLower(clip(asked, maxNearNameBytes))
	limit := max(2, len(asked)/3)
	var found []candidate
	for _, name := range names[:min(len(names), maxNearNames)] {
		lower := strings.ToLower(clip(name, maxNearNameBytes))
		d := distance(asked, lower)
		if _, last, ok := strings.Cut(lower, "/"); ok {
			d = min(d, distance(asked, last))
		}
		if len(asked) >= 3 && strings.Contains(lower, asked) {
			d = min(d, 1)
		}
		if d <= limit {
			found = append(found, candidate{name, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range found[:min(len(found), maxNearMatches)] {
		out = append(out, c.name)
	}
	return out
}

// distance is the number of single-byte edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
