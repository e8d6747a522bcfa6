package plan

import (
	"strconv"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Exported for tests.
var (
	FromDisplay = fromDisplay
	Elsewhere   = elsewhere
)

// CreateStatement gives CREATE DATABASE for properties and versions.
func CreateStatement(encoding string, p repo.DatabaseProperties, target pg.Version) string {
	return createDatabase(&DatabasePlan{Source: &repo.Database{Encoding: encoding}, Properties: p, Temporary: "tmp"}, target)
}

// CompareVersions gives the order of two versions, "?" when there is none.
func CompareVersions(a, b string) string {
	n, ok := compareVersions(a, b)
	if !ok {
		return "?"
	}
	return strconv.Itoa(n)
}
