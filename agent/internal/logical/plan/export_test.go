package plan

import (
	"strconv"
)

// Exported for tests.
var (
	FromDisplay = fromDisplay
	Elsewhere   = elsewhere
)

// CompareVersions gives the order of two versions, "?" when there is none.
func CompareVersions(a, b string) string {
	n, ok := compareVersions(a, b)
	if !ok {
		return "?"
	}
	return strconv.Itoa(n)
}
