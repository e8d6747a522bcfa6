package load

import (
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// globalStatements give the globals, in order. version is the target's.
func globalStatements(g *plan.GlobalsPlan, version pg.Version) []statement {
	var all []statement
	for _, r := range g.Roles {
		all = append(all, roleStatements(r)...)
	}
	for _, r := range g.Passwords {
		all = append(all, statement{sql: "ALTER ROLE " + r.Name.Quote() + " PASSWORD " + sqltext.Literal(pg.Name(*r.Password))})
	}
	for _, m := range g.Memberships {
		all = append(all, statement{sql: factsql.Membership(m, version), optional: "membership of " + m.Member.Display() + " in " + m.Role.Display()})
	}
	for _, s := range g.Settings {
		for _, text := range s.Settings {
			if name, clause, ok := factsql.Setting(text); ok {
				all = append(all, statement{sql: "ALTER ROLE " + s.Role.Quote() + " " + clause, optional: "setting " + name + " of role " + s.Role.Display()})
			}
		}
	}
	for _, x := range g.Parameters {
		for _, q := range factsql.ParameterGrants(x) {
			all = append(all, statement{sql: q, optional: "privilege on parameter " + x.Name})
		}
	}
	return all
}

// tablespaceStatements come apart: CREATE TABLESPACE takes no transaction.
func tablespaceStatements(t repo.TablespaceFacts) []statement {
	object := "TABLESPACE " + t.Name.Quote()
	all := []statement{{sql: factsql.CreateTablespace(t)}}
	for _, o := range t.Options {
		if name, q, ok := factsql.TablespaceOption(t, o); ok {
			all = append(all, statement{sql: q, optional: "option " + name + " of tablespace " + t.Name.Display()})
		}
	}
	if list := grants(object, t.Owner, t.ACL); len(list) > 0 {
		all = append(all, statement{sql: "BEGIN; " + strings.Join(list, " ") + " COMMIT"})
	}
	if t.Comment != nil {
		all = append(all, statement{sql: factsql.Comment(object, t.Comment)})
	}
	return all
}

func roleStatements(r repo.RoleFacts) []statement {
	all := []statement{{sql: factsql.CreateRole(r)}}
	if r.Comment != nil {
		all = append(all, statement{sql: factsql.Comment("ROLE "+r.Name.Quote(), r.Comment)})
	}
	return all
}
