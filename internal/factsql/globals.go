package factsql

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// CreateRole gives the statement that makes a role, with its password if the facts
// have one.
func CreateRole(f repo.RoleFacts) string {
	var q strings.Builder
	q.WriteString("CREATE ROLE " + f.Name.Quote() + " WITH")
	for _, o := range []struct {
		on   bool
		name string
	}{{f.Superuser, "SUPERUSER"}, {f.Inherit, "INHERIT"}, {f.CreateRole, "CREATEROLE"}, {f.CreateDB, "CREATEDB"}, {f.Login, "LOGIN"},
		{f.Replication, "REPLICATION"}, {f.BypassRLS, "BYPASSRLS"}} {
		if q.WriteByte(' '); !o.on {
			q.WriteString("NO")
		}
		q.WriteString(o.name)
	}
	if f.ConnectionLimit >= 0 {
		fmt.Fprintf(&q, " CONNECTION LIMIT %d", f.ConnectionLimit)
	}
	if f.Password != nil {
		q.WriteString(" PASSWORD " + literal(*f.Password))
	}
	if f.ValidUntil != nil {
		q.WriteString(" VALID UNTIL " + literal(*f.ValidUntil))
	}
	return q.String()
}

// Membership gives the statement that makes a role a member of another, in the
// words of the version that will read it: since 16 more than ADMIN can be said.
func Membership(m repo.MembershipFacts, version pg.Version) string {
	q := "GRANT " + m.Role.Quote() + " TO " + m.Member.Quote()
	var with []string
	switch {
	case version.Major() >= 16:
		if m.Admin {
			with = append(with, "ADMIN TRUE")
		}
		for _, o := range []struct {
			name string
			on   *bool
		}{{"INHERIT", m.Inherit}, {"SET", m.Set}} {
			if o.on != nil {
				with = append(with, o.name+" "+strings.ToUpper(fmt.Sprint(*o.on)))
			}
		}
	case m.Admin:
		with = append(with, "ADMIN OPTION")
	}
	if len(with) > 0 {
		q += " WITH " + strings.Join(with, ", ")
	}
	return q
}

// CreateTablespace gives the statement that makes a tablespace; its folder must be there.
func CreateTablespace(t repo.TablespaceFacts) string {
	return "CREATE TABLESPACE " + t.Name.Quote() + " OWNER " + t.Owner.Quote() + " LOCATION " + literal(t.Location)
}

// TablespaceOption gives the statement that sets an option, "name=value" as the
// catalogs have it, with its name; false for what is none.
func TablespaceOption(t repo.TablespaceFacts, option string) (name, sql string, ok bool) {
	name, value, ok := strings.Cut(option, "=")
	if !ok {
		return "", "", false
	}
	return name, "ALTER TABLESPACE " + t.Name.Quote() + " SET (" + pg.Name(name).Quote() + " = " + literal(value) + ")", true
}

// Comment gives the statement that comments on an object; nil takes a comment away.
func Comment(object string, text *string) string {
	if text == nil {
		return "COMMENT ON " + object + " IS NULL"
	}
	return "COMMENT ON " + object + " IS " + literal(*text)
}

// CreateDatabase gives the statement that makes an empty database, in the words
// of the version that will read it: before 15 there was one provider of locales
// and no word for it.
func CreateDatabase(name pg.Name, encoding string, p repo.DatabaseProperties, version pg.Version) string {
	q := "CREATE DATABASE " + name.Quote() + " TEMPLATE template0 ENCODING " + literal(encoding)
	add := func(option, value string) {
		if value != "" {
			q += " " + option + " " + literal(value)
		}
	}
	add("LC_COLLATE", string(p.Collate))
	add("LC_CTYPE", string(p.Ctype))
	if version.Major() >= 15 {
		q += " LOCALE_PROVIDER " + p.Provider
		switch p.Provider {
		case "icu":
			add("ICU_LOCALE", string(p.Locale))
			if version.Major() >= 16 {
				add("ICU_RULES", string(p.ICURules))
			}
		case "builtin":
			add("BUILTIN_LOCALE", string(p.Locale))
		}
	}
	if p.Tablespace != "" && p.Tablespace != "pg_default" {
		q += " TABLESPACE " + p.Tablespace.Quote()
	}
	return q
}
