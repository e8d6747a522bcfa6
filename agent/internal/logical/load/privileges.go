package load

import (
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// grants gives the statements that set the privileges of an object. What another
// role than the owner granted is one text of several statements, which belong
// into one transaction.
func grants(object string, owner pg.Name, acl repo.ACL) []string {
	var all []string
	for _, g := range factsql.Grants(object, owner, acl) {
		q := g.SQL + ";"
		if g.As != "" {
			q = "SET LOCAL SESSION AUTHORIZATION " + g.As.Quote() + "; " + q + " SET LOCAL SESSION AUTHORIZATION DEFAULT;"
		}
		all = append(all, q)
	}
	return all
}
