package load

import (
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// finishStatements give the database, still under its temporary name, its owner,
// privileges, settings and the rest. Each is tried by itself where optional is
// set: a setting that the server does not know must not cost the whole restore.
func finishStatements(p *plan.Plan, d *plan.DatabasePlan, settings []dbSetting) []statement {
	var all []statement
	object := "DATABASE " + d.Temporary.Quote()
	if !p.Request.NoOwner {
		all = append(all, statement{sql: "ALTER " + object + " OWNER TO " + d.Properties.Owner.Quote()})
		for _, q := range grants(object, d.Properties.Owner, d.Properties.ACL) {
			all = append(all, statement{sql: q})
		}
	}
	for _, s := range settings {
		name, clause, ok := factsql.Setting(s.text)
		if !ok {
			continue
		}
		what := "setting " + name
		q := "ALTER " + object + " " + clause
		if s.role != "" {
			if p.Request.NoOwner && !p.Target.Roles[s.role] {
				continue
			}
			what += " of role " + s.role.Display()
			q = "ALTER ROLE " + s.role.Quote() + " IN " + object + " " + clause
		}
		all = append(all, statement{sql: q, optional: what})
	}
	if n := d.Properties.ConnectionLimit; n >= 0 {
		all = append(all, statement{sql: fmt.Sprintf("ALTER %s CONNECTION LIMIT %d", object, n)})
	}
	if d.Properties.IsTemplate {
		all = append(all, statement{sql: "ALTER " + object + " IS_TEMPLATE true"})
	}
	if !d.Properties.AllowConnections {
		all = append(all, statement{sql: "ALTER " + object + " ALLOW_CONNECTIONS false"})
	}
	// Without one it is taken away: until here it is the mark of a half-made one.
	return append(all, statement{sql: factsql.Comment(object, d.Properties.Comment)})
}

// statement is one of a list; optional names it when its failure is a warning.
type statement struct {
	sql      string
	optional string
}

// dbSetting is one setting of a database, of all roles or of one.
type dbSetting struct {
	role pg.Name
	text string
}
