package selection

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Names are other names at the target, by those in the snapshot.
type Names struct {
	Roles map[pg.Name]pg.Name
	// Tablespaces; the empty name stands for the database's own.
	Tablespaces map[pg.Name]pg.Name
}

// Role gives the role that stands for one of the snapshot.
func (n Names) Role(r pg.Name) pg.Name {
	if to, ok := n.Roles[r]; ok {
		return to
	}
	return r
}

// Tablespace gives the tablespace that stands for one of the snapshot.
func (n Names) Tablespace(t pg.Name) pg.Name {
	if to, ok := n.Tablespaces[t]; ok {
		return to
	}
	return t
}

// ACL gives privileges with the roles mapped.
func (n Names) ACL(acl repo.ACL) repo.ACL {
	if len(n.Roles) == 0 || len(acl) == 0 {
		return acl
	}
	out := make(repo.ACL, len(acl))
	for i, x := range acl {
		x.Grantor = n.Role(x.Grantor)
		if x.Grantee != "" { // PUBLIC
			x.Grantee = n.Role(x.Grantee)
		}
		out[i] = x
	}
	return out
}

// Setting gives a setting NAME=VALUE whose value is a role or a tablespace with
// the name at the target.
func (n Names) Setting(s string) string {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return s
	}
	switch strings.ToLower(name) {
	case "role", "session_authorization":
		return name + "=" + string(n.Role(pg.Name(value)))
	case "default_tablespace":
		return name + "=" + string(n.Tablespace(pg.Name(value)))
	}
	return s
}

// Apply rewrites a part. It gives what names a mapped role in a way that cannot
// be told from other text: that is left as it is.
func (n Names) Apply(p *Part) ([]Note, error) {
	if len(n.Roles) == 0 && len(n.Tablespaces) == 0 {
		return nil, nil
	}
	var unsure []Note
	entries := make([]pgarchive.Entry, len(p.Archive.Entries))
	for i, e := range p.Archive.Entries {
		e.Owner, e.Tablespace = n.Role(e.Owner), n.Tablespace(e.Tablespace)
		for from := range n.Roles {
			if e.Desc != "COMMENT" && sqltext.Mentions(e.Defn, from) {
				unsure = append(unsure, Note{e.String(), fmt.Sprintf("its text names role %s, which is mapped to another; the text is left as it is", from.Display())})
			}
		}
		if len(n.Roles) > 0 {
			e.Defn = sqltext.MapRoles(e.Desc, e.Defn, n.Role)
			e.Tag = n.tag(&e)
		}
		entries[i] = e
	}
	d := *p.Database
	var err error
	if d.Properties, err = n.properties(d.Properties); err != nil {
		return nil, fmt.Errorf("properties of database %s: %w", d.Name.Display(), err)
	}
	if d.Settings, err = n.settings(d.Settings); err != nil {
		return nil, fmt.Errorf("settings of database %s: %w", d.Name.Display(), err)
	}
	d.PublicOwner = n.Role(d.PublicOwner)
	d.Statements = make([]string, len(p.Database.Statements))
	for i, q := range p.Database.Statements {
		d.Statements[i] = n.statement(q)
	}
	p.Database = &d
	p.Archive, err = p.Archive.With(entries)
	return bounded(unsure), err
}

// tag keeps the name of a user mapping, by which messages name it, in step.
func (n Names) tag(e *pgarchive.Entry) pg.Name {
	rest, ok := strings.CutPrefix(string(e.Tag), "USER MAPPING ")
	if !ok || e.Desc != "USER MAPPING" {
		return e.Tag
	}
	role, server, ok := strings.Cut(rest, " SERVER ")
	if !ok {
		return e.Tag
	}
	return "USER MAPPING " + n.Role(pg.Name(role)) + " SERVER " + pg.Name(server)
}

// statement rewrites one of those that stand in for what pg_dump leaves out:
// subscriptions and user mappings.
func (n Names) statement(q string) string {
	switch {
	case strings.HasPrefix(q, "ALTER SUBSCRIPTION "):
		if strings.Contains(q, " OWNER TO ") {
			return sqltext.MapRoles("OWNER", q, n.Role)
		}
	case strings.Contains(q, " USER MAPPING "):
		return sqltext.MapRoles("USER MAPPING", q, n.Role)
	}
	return q
}

// properties rewrites the row of pg_database.
func (n Names) properties(raw json.RawMessage) (json.RawMessage, error) {
	var row map[string]json.RawMessage
	if err := json.Unmarshal(raw, &row); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errs.Corrupt)
	}
	for key, to := range map[string]func(pg.Name) pg.Name{"owner": n.Role, "tablespace": n.Tablespace} {
		var name pg.Name
		if len(row[key]) == 0 {
			continue
		}
		if err := json.Unmarshal(row[key], &name); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", key, err, errs.Corrupt)
		}
		b, err := json.Marshal(to(name))
		if err != nil {
			return nil, err
		}
		row[key] = b
	}
	var acl repo.ACL
	if len(row["acl"]) > 0 {
		if err := json.Unmarshal(row["acl"], &acl); err != nil {
			return nil, fmt.Errorf("acl: %w: %w", err, errs.Corrupt)
		}
		b, err := json.Marshal(n.ACL(acl))
		if err != nil {
			return nil, err
		}
		row["acl"] = b
	}
	return json.Marshal(row)
}

func (n Names) settings(rows []json.RawMessage) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, len(rows))
	for i, raw := range rows {
		var s repo.SettingFacts
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%w: %w", err, errs.Corrupt)
		}
		s.Role = n.Role(s.Role)
		for j := range s.Settings {
			s.Settings[j] = n.Setting(s.Settings[j])
		}
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}
