package export

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/factsql"
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
		s.line(unlessThere("SELECT FROM pg_catalog.pg_roles WHERE rolname = "+lit(f.Name), factsql.CreateRole(f)))
		if f.Comment != nil {
			s.line(factsql.Comment("ROLE "+f.Name.Quote(), f.Comment) + ";")
		}
	})
}

func (r *run) memberships(s *script) error {
	return each("memberships", r.content.Logical.Globals.Memberships, func(m repo.MembershipFacts) {
		s.line(factsql.Membership(m, r.content.Instance.Version) + ";")
	})
}

func (r *run) roleSettings(s *script) error {
	return each("settings of roles", r.content.Logical.Globals.RoleSettings, func(f repo.SettingFacts) {
		who := "ALL"
		if f.Role != "" {
			who = f.Role.Quote()
		}
		for _, text := range f.Settings {
			if _, clause, ok := factsql.Setting(text); ok {
				s.line("ALTER ROLE " + who + " " + clause + ";")
			}
		}
	})
}

func (r *run) parameters(s *script) error {
	return each("privileges on parameters", r.content.Logical.Globals.ParameterACLs, func(f repo.ParameterFacts) {
		for _, q := range factsql.ParameterGrants(f) {
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
		s.line(factsql.CreateTablespace(t) + ";")
		for _, o := range t.Options {
			if _, q, ok := factsql.TablespaceOption(t, o); ok {
				s.line(q + ";")
			}
		}
		for _, q := range grants(object, t.Owner, t.ACL) {
			s.line(q)
		}
		if t.Comment != nil {
			s.line(factsql.Comment(object, t.Comment) + ";")
		}
	})
}

// standing are the databases that every new server has.
var standing = []pg.Name{"postgres", "template1", "template0"}

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
			_, clause, ok := factsql.Setting(text)
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
		s.line(factsql.Comment(object, p.Comment) + ";")
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
