package sqltext

import (
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// Literal writes a string as a literal, without the blank that Name.Literal may
// put before it.
func Literal(n pg.Name) string { return strings.TrimSpace(n.Literal()) }

// Literals writes a list of literals.
func Literals(all []pg.Name) string {
	var q []string
	for _, n := range all {
		q = append(q, Literal(n))
	}
	return strings.Join(q, ", ")
}
