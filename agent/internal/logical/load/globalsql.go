package load

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
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
		all = append(all, statement{sql: membership(m, version), optional: "membership of " + m.Member.Display() + " in " + m.Role.Display()})
	}
	for _, s := range g.Settings {
		for _, text := range s.Settings {
			if name, clause, ok := setting(text); ok {
				all = append(all, statement{sql: "ALTER ROLE " + s.Role.Quote() + " " + clause, optional: "setting " + name + " of role " + s.Role.Display()})
			}
		}
	}
	for _, x := range g.Parameters {
		for _, i := range x.ACL {
			q := "GRANT " + privilege(i.Privilege) + " ON PARAMETER " + pg.Name(x.Name).Quote() + " TO " + i.Grantee.Quote()
			all = append(all, statement{sql: q, optional: "privilege on parameter " + x.Name})
		}
	}
	return all
}

// tablespaceStatements come apart: CREATE TABLESPACE takes no transaction.
func tablespaceStatements(t repo.TablespaceFacts) []statement {
	object := "TABLESPACE " + t.Name.Quote()
	all := []statement{{sql: "CREATE " + object + " OWNER " + t.Owner.Quote() + " LOCATION " + sqltext.Literal(pg.Name(t.Location))}}
	for _, o := range t.Options {
		if name, value, ok := strings.Cut(o, "="); ok {
			all = append(all, statement{sql: "ALTER " + object + " SET (" + pg.Name(name).Quote() + " = " + sqltext.Literal(pg.Name(value)) + ")", optional: "option " + name + " of tablespace " + t.Name.Display()})
		}
	}
	if list := grants(object, t.Owner, t.ACL); len(list) > 0 {
		all = append(all, statement{sql: "BEGIN; " + strings.Join(list, " ") + " COMMIT"})
	}
	if t.Comment != nil {
		all = append(all, statement{sql: "COMMENT ON " + object + " IS " + sqltext.Literal(pg.Name(*t.Comment))})
	}
	return all
}

func roleStatements(r repo.RoleFacts) []statement {
	var q strings.Builder
	q.WriteString("CREATE ROLE " + r.Name.Quote() + " WITH")
	for _, o := range []struct {
		on   bool
		name string
	}{{r.Superuser, "SUPERUSER"}, {r.Inherit, "INHERIT"}, {r.CreateRole, "CREATEROLE"}, {r.CreateDB, "CREATEDB"}, {r.Login, "LOGIN"},
		{r.Replication, "REPLICATION"}, {r.BypassRLS, "BYPASSRLS"}} {
		if !o.on {
			q.WriteString(" NO" + o.name)
		} else {
			q.WriteString(" " + o.name)
		}
	}
	if r.ConnectionLimit >= 0 {
		fmt.Fprintf(&q, " CONNECTION LIMIT %d", r.ConnectionLimit)
	}
	if r.Password != nil {
		q.WriteString(" PASSWORD " + sqltext.Literal(pg.Name(*r.Password)))
	}
	if r.ValidUntil != nil {
		q.WriteString(" VALID UNTIL " + sqltext.Literal(pg.Name(*r.ValidUntil)))
	}
	all := []statement{{sql: q.String()}}
	if r.Comment != nil {
		all = append(all, statement{sql: "COMMENT ON ROLE " + r.Name.Quote() + " IS " + sqltext.Literal(pg.Name(*r.Comment))})
	}
	return all
}

func membership(m repo.MembershipFacts, version pg.Version) string {
	q := "GRANT " + m.Role.Quote() + " TO " + m.Member.Quote()
	var with []string
	if m.Admin {
		with = append(with, "ADMIN OPTION")
	}
	if version.Major() >= 16 {
		if m.Admin {
			with = []string{"ADMIN TRUE"}
		}
		for _, o := range []struct {
			name string
			on   *bool
		}{{"INHERIT", m.Inherit}, {"SET", m.Set}} {
			if o.on != nil {
				with = append(with, o.name+" "+strings.ToUpper(fmt.Sprint(*o.on)))
			}
		}
	}
	if len(with) > 0 {
		q += " WITH " + strings.Join(with, ", ")
	}
	return q
}
