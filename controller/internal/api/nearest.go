package api

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/nearest"
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
	found := near(asked, names)
	if len(found) == 0 {
		return fmt.Errorf("%s %q: %w", noun, asked, errs.NotFound)
	}
	return fmt.Errorf("%s %q: %w; near matches: %s", noun, asked, errs.NotFound, strings.Join(found, ", "))
}

// near gives the names that a person may have meant, best first.
func near(asked string, names []string) []string {
	asked = strings.ToLower(clip(asked, maxNearNameBytes))
	limit := max(2, len(asked)/3)
	return nearest.Names(names[:min(len(names), maxNearNames)], maxNearMatches, limit, func(name string) int {
		lower := strings.ToLower(clip(name, maxNearNameBytes))
		d := nearest.Distance(asked, lower, limit)
		if _, last, ok := strings.Cut(lower, "/"); ok {
			d = min(d, nearest.Distance(asked, last, limit))
		}
		if len(asked) >= 3 && strings.Contains(lower, asked) {
			d = min(d, 1)
		}
		return d
	})
}
