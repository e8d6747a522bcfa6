package export

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// globals writes what belongs to the whole server as a script for any of its
// databases. Roles that exist are left as they are, their passwords first of all.
func (r *run) globals(out io.Writer) error {
	g := &r.content.Logical.Globals
	s := newScript(out, !r.NoRestrict)
	s.comment("Roles, their settings and tablespaces of snapshot %s, instance %s, PostgreSQL %s", r.Snapshot, pg.Name(r.content.Instance.Name).Display(), r.content.Instance.Version)
	s.comment("Load it as a superuser: psql -X -v ON_ERROR_STOP=1 -d postgres -f FILE")
	switch {
	case !g.PasswordsRead:
		s.comment("The snapshot has no passwords: set them with ALTER ROLE ... PASSWORD")
	case !r.Passwords:
		s.comment("Without passwords, as asked for: set them with ALTER ROLE ... PASSWORD")
	}
	s.line("")
	s.settings()
	s.line("SET client_encoding = 'UTF8';")
	s.line("SET standard_conforming_strings = on;")
	s.line("")
	for _, part := range []func(*script) error{r.roles, r.memberships, r.roleSettings, r.parameters, r.tablespaces} {
		if err := part(s); err != nil {
			return err
		}
	}
	if err := s.close(); err != nil {
		return fmt.Errorf("write the script: %w", errs.OfFile(err))
	}
	return nil
}

// each decodes rows of the shared catalogs.
func each[T any](what string, rows []json.RawMessage, fn func(T)) error {
	for _, raw := range rows {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("%s: %w: %w", what, err, errs.Corrupt)
		}
		fn(v)
	}
	return nil
}

// unlessThere wraps a statement so that it is executed if a condition finds no
// row. Blocks are literals: what is in them is quoted twice.
func unlessThere(condition, statement string) string {
	return "DO " + lit(pg.Name("BEGIN IF NOT EXISTS ("+condition+") THEN "+statement+"; END IF; END")) + ";"
}

func (r *run) roles(s *script) error {
	return each("roles", r.content.Logical.Globals.Roles, func(f repo.RoleFacts) {
		if !r.Passwords {
			f.Password = nil
		}
		s.line(unlessThere("SELECT FROM pg_catalog.pg_roles WHERE rolname = "+lit(f.Name), createRole(f)))
		if f.Comment != nil {
			s.line("COMMENT ON ROLE " + f.Name.Quote() + " IS " + lit(pg.Name(*f.Comment)) + ";")
		}
	})
}

func createRole(f repo.RoleFacts) string {
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
		q.WriteString(" PASSWORD " + lit(pg.Name(*f.Password)))
	}
	if f.ValidUntil != nil {
		q.WriteString(" VALID UNTIL " + lit(pg.Name(*f.ValidUntil)))
	}
	return q.String()
}

func (r *run) memberships(s *script) error {
	return each("memberships", r.content.Logical.Globals.Memberships, func(m repo.MembershipFacts) {
		var with []string
		for _, o := range []struct {
			name string
			on   *bool
		}{{"INHERIT", m.Inherit}, {"SET", m.Set}} { // since version 16
			if o.on != nil {
				with = append(with, o.name+" "+strings.ToUpper(fmt.Sprint(*o.on)))
			}
		}
		switch {
		case m.Admin && len(with) > 0:
			with = append([]string{"ADMIN TRUE"}, with...)
		case m.Admin:
			with = []string{"ADMIN OPTION"}
		}
		q := "GRANT " + m.Role.Quote() + " TO " + m.Member.Quote()
		if len(with) > 0 {
			q += " WITH " + strings.Join(with, ", ")
		}
		s.line(q + ";")
	})
}

func (r *run) roleSettings(s *script) error {
	return each("settings of roles", r.content.Logical.Globals.RoleSettings, func(f repo.SettingFacts) {
		who := "ALL"
		if f.Role != "" {
			who = f.Role.Quote()
		}
		for _, text := range f.Settings {
			if clause, ok := setting(text); ok {
				s.line("ALTER ROLE " + who + " " + clause + ";")
			}
		}
	})
}

func (r *run) parameters(s *script) error {
	return each("privileges on parameters", r.content.Logical.Globals.ParameterACLs, func(f repo.ParameterFacts) {
		for _, i := range f.ACL {
			to := "PUBLIC"
			if i.Grantee != "" {
				to = i.Grantee.Quote()
			}
			q := "GRANT " + privilege(i.Privilege) + " ON PARAMETER " + quotedParts(f.Name) + " TO " + to
			if i.Grantable {
				q += " WITH GRANT OPTION"
			}
			s.line(q + ";")
		}
	})
}

// tablespaces come last: they need folders on the server's host, and cannot be
// made conditionally.
func (r *run) tablespaces(s *script) error {
	return each("tablespaces", r.content.Logical.Globals.Tablespaces, func(t repo.TablespaceFacts) {
		object := "TABLESPACE " + t.Name.Quote()
		s.comment("The folder must exist, be empty, and belong to the user of the server")
		s.line("CREATE " + object + " OWNER " + t.Owner.Quote() + " LOCATION " + lit(pg.Name(t.Location)) + ";")
		for _, o := range t.Options {
			if name, value, ok := strings.Cut(o, "="); ok {
				s.line("ALTER " + object + " SET (" + pg.Name(name).Quote() + " = " + lit(pg.Name(value)) + ");")
			}
		}
		for _, q := range grants(object, t.Owner, t.ACL) {
			s.line(q)
		}
		if t.Comment != nil {
			s.line("COMMENT ON " + object + " IS " + lit(pg.Name(*t.Comment)) + ";")
		}
	})
}

// quotedLists are the settings whose value is a list of identifiers, stored with
// the quotes they need. They are set element by element; any other value is one literal.
var quotedLists = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"temp_tablespaces": true, "unix_socket_directories": true, "restrict_nonsystem_relation_kind": true, "synchronized_standby_slots": true,
}

// setting turns "name=value" of pg_db_role_setting into "SET name TO value".
func setting(text string) (clause string, ok bool) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", false
	}
	literal := lit(pg.Name(value))
	if quotedLists[strings.ToLower(name)] {
		var list []string
		for _, v := range splitList(value) {
			list = append(list, lit(pg.Name(v)))
		}
		if literal = strings.Join(list, ", "); literal == "" {
			literal = "''"
		}
	}
	return "SET " + quotedParts(name) + " TO " + literal, true
}

// quotedParts quotes the parts of a setting's name.
func quotedParts(name string) string {
	var parts []string
	for p := range strings.SplitSeq(name, ".") {
		parts = append(parts, pg.Name(p).Quote())
	}
	return strings.Join(parts, ".")
}

// splitList splits a list of identifiers at commas outside quotes, and takes the
// quotes off.
func splitList(s string) []string {
	var list []string
	for i := 0; i < len(s); {
		switch s[i] {
		case ' ', ',', '\t', '\n':
			i++
		case '"':
			n := quotedLength(s[i:])
			list = append(list, strings.ReplaceAll(strings.Trim(s[i:i+n], `"`), `""`, `"`))
			i += n
		default:
			n := strings.IndexByte(s[i:], ',')
			if n < 0 {
				n = len(s) - i
			}
			list = append(list, strings.TrimRight(s[i:i+n], " \t\n"))
			i += n
		}
	}
	return list
}

// standing are the databases that every new server has.
var standing = []pg.Name{"postgres", "template1", "template0"}

// createDatabase gives the statement that makes an empty database, with the words
// that the source's version has for it.
func createDatabase(d *repo.Database, p repo.DatabaseProperties, source pg.Version) string {
	q := "CREATE DATABASE " + d.Name.Quote() + " TEMPLATE template0 ENCODING " + lit(pg.Name(d.Encoding))
	add := func(option string, value pg.Name) {
		if value != "" {
			q += " " + option + " " + lit(value)
		}
	}
	add("LC_COLLATE", p.Collate)
	add("LC_CTYPE", p.Ctype)
	if source.Major() >= 15 {
		q += " LOCALE_PROVIDER " + p.Provider
		switch p.Provider {
		case "icu":
			add("ICU_LOCALE", pg.Name(p.Locale))
			add("ICU_RULES", pg.Name(p.ICURules))
		case "builtin":
			add("BUILTIN_LOCALE", pg.Name(p.Locale))
		}
	}
	if p.Tablespace != "" && p.Tablespace != "pg_default" {
		q += " TABLESPACE " + p.Tablespace.Quote()
	}
	return q + ";"
}

// databaseSettings gives a database its owner, privileges and settings; these
// come after its rows, which some of the settings would be in the way of.
func databaseSettings(s *script, d *repo.Database, p repo.DatabaseProperties) error {
	object := "DATABASE " + d.Name.Quote()
	s.line("ALTER " + object + " OWNER TO " + p.Owner.Quote() + ";")
	for _, q := range grants(object, p.Owner, p.ACL) {
		s.line(q)
	}
	if err := each("settings of database "+d.Name.Display(), d.Settings, func(f repo.SettingFacts) {
		for _, text := range f.Settings {
			clause, ok := setting(text)
			switch {
			case !ok:
			case f.Role != "":
				s.line("ALTER ROLE " + f.Role.Quote() + " IN " + object + " " + clause + ";")
			default:
				s.line("ALTER " + object + " " + clause + ";")
			}
		}
	}); err != nil {
		return err
	}
	if p.Comment != nil {
		s.line("COMMENT ON " + object + " IS " + lit(pg.Name(*p.Comment)) + ";")
	}
	if p.ConnectionLimit >= 0 {
		s.line(fmt.Sprintf("ALTER %s CONNECTION LIMIT %d;", object, p.ConnectionLimit))
	}
	if p.IsTemplate && !slices.Contains(standing, d.Name) {
		s.line("ALTER " + object + " IS_TEMPLATE true;")
	}
	if !p.AllowConnections {
		s.line("ALTER " + object + " ALLOW_CONNECTIONS false;")
	}
	return nil
}
