package plan

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// GlobalsPlan is what is created for the whole server: roles that are missing,
// and tablespaces that the databases need. What exists is never touched, but for
// its password where that was asked for.
type GlobalsPlan struct {
	Roles []repo.RoleFacts
	// Passwords are of roles that exist, Kept are roles that stay as they are, and
	// Mapped those that others stand for.
	Passwords   []repo.RoleFacts
	Kept        []pg.Name
	Mapped      []pg.Name
	Memberships []repo.MembershipFacts
	Settings    []repo.SettingFacts
	Tablespaces []repo.TablespaceFacts
	Parameters  []repo.ParameterFacts
}

func (g *GlobalsPlan) hasRole(name pg.Name) bool {
	return slices.ContainsFunc(g.Roles, func(r repo.RoleFacts) bool { return r.Name == name })
}

func (g *GlobalsPlan) hasTablespace(name pg.Name) bool {
	return slices.ContainsFunc(g.Tablespaces, func(t repo.TablespaceFacts) bool { return t.Name == name })
}

func decode[T any](p *Plan, what string, rows []json.RawMessage) []T {
	all := make([]T, 0, len(rows))
	for _, raw := range rows {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			p.refuse("", what, "cannot be read from the manifest: "+err.Error(), "")
			return nil
		}
		all = append(all, v)
	}
	return all
}

// globals decides what to create.
func (p *Plan) globals(content *repo.Content, needs map[*repo.Database]*Needs) {
	if !p.Request.Globals {
		return
	}
	from, g := content.Logical.Globals, &p.Globals
	for _, r := range decode[repo.RoleFacts](p, "roles", from.Roles) {
		p.role(g, r)
	}
	if len(g.Roles)+len(g.Passwords) > 0 && !p.Target.Superuser {
		p.refuse("", "role "+p.Target.Role.Display(), "only a superuser can create roles with their passwords", "ALTER ROLE "+p.Target.Role.Quote()+" SUPERUSER;")
	}
	if len(g.Roles) > 0 && !from.PasswordsRead {
		p.warn("", "roles", "the snapshot has no passwords: roles are created without", "set them with ALTER ROLE … PASSWORD")
	}
	known := func(n pg.Name) bool { return p.Target.Roles[n] || g.hasRole(n) }
	for _, m := range decode[repo.MembershipFacts](p, "memberships", from.Memberships) {
		m.Role, m.Member, m.Grantor = p.Names.Role(m.Role), p.Names.Role(m.Member), p.Names.Role(m.Grantor)
		if (g.hasRole(m.Role) || g.hasRole(m.Member)) && known(m.Role) && known(m.Member) {
			g.Memberships = append(g.Memberships, m)
		}
	}
	for _, s := range decode[repo.SettingFacts](p, "settings of roles", from.RoleSettings) {
		for i := range s.Settings {
			s.Settings[i] = p.Names.Setting(s.Settings[i])
		}
		if g.hasRole(s.Role) {
			g.Settings = append(g.Settings, s)
		}
	}
	for _, t := range decode[repo.TablespaceFacts](p, "tablespaces", from.Tablespaces) {
		if p.Target.Tablespaces[t.Name] || !p.needsTablespace(needs, t.Name) {
			continue
		}
		t.Owner, t.ACL = p.Names.Role(t.Owner), p.Names.ACL(t.ACL)
		if t.Location == "" {
			p.refuse("", "tablespace "+t.Name.Display(), "the snapshot does not say where it was", "CREATE TABLESPACE "+t.Name.Quote()+" LOCATION '…';")
			continue
		}
		g.Tablespaces = append(g.Tablespaces, t)
	}
	for _, x := range decode[repo.ParameterFacts](p, "privileges on parameters", from.ParameterACLs) {
		if p.Target.Version.Major() < 15 {
			break
		}
		everybody := x
		everybody.ACL = slices.DeleteFunc(slices.Clone(x.ACL), func(i repo.ACLItem) bool { return i.Grantee != "" })
		for _, q := range factsql.ParameterGrants(everybody) {
			p.warn("", "parameter "+pg.Name(x.Name).Display(), "every role had a privilege on it: it is not granted, since that would give it to the roles of this server too", q+";")
		}
		x.ACL = slices.DeleteFunc(p.Names.ACL(x.ACL), func(i repo.ACLItem) bool { return !g.hasRole(i.Grantee) })
		if len(x.ACL) > 0 {
			g.Parameters = append(g.Parameters, x)
		}
	}
}

// role decides about one role of the snapshot.
func (p *Plan) role(g *GlobalsPlan, r repo.RoleFacts) {
	_, mapped := p.Names.Roles[r.Name]
	switch {
	case mapped:
		g.Mapped = append(g.Mapped, r.Name)
	case !p.Target.Roles[r.Name]:
		g.Roles = append(g.Roles, r)
	case p.Request.OverwritePasswords && r.Password != nil && r.Name != p.Target.Role: // whose own password lets us in
		g.Passwords = append(g.Passwords, r)
	default:
		g.Kept = append(g.Kept, r.Name)
	}
}

func (p *Plan) needsTablespace(needs map[*repo.Database]*Needs, name pg.Name) bool {
	for i := range p.Databases {
		if n := needs[p.Databases[i].Source]; n != nil {
			if _, ok := n.Tablespaces[name]; ok {
				return true
			}
		}
	}
	return false
}

// Lines words it for people.
func (g *GlobalsPlan) Lines() []string {
	var all []string
	for _, r := range g.Roles {
		all = append(all, "create role "+r.Name.Display())
	}
	for _, r := range g.Passwords {
		all = append(all, "role "+r.Name.Display()+" exists: its password is set to the snapshot's, nothing else")
	}
	for i, r := range g.Kept {
		if i == maxListed {
			all = append(all, fmt.Sprintf("%d more roles exist: left as they are", len(g.Kept)-i))
			break
		}
		all = append(all, "role "+r.Display()+" exists: left as it is")
	}
	for _, r := range g.Mapped {
		all = append(all, "role "+r.Display()+" is not created: another stands for it")
	}
	for _, t := range g.Tablespaces {
		all = append(all, "create tablespace "+t.Name.Display()+" at "+pg.Name(t.Location).Display())
	}
	return all
}
