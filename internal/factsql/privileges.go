package factsql

import (
	"slices"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Grant is one statement about privileges.
type Grant struct {
	SQL string
	// As is the role that must execute it; empty for the owner, or whoever may.
	As pg.Name
}

// Grants gives the statements that set the privileges of a new object, say
// "DATABASE x" or "LARGE OBJECT 7", as acl has them, with the grantors that it
// names. A nil acl is what a new object has, and needs none.
func Grants(object string, owner pg.Name, acl repo.ACL) []Grant {
	if acl == nil {
		return nil
	}
	all := []Grant{{SQL: "REVOKE ALL ON " + object + " FROM PUBLIC"}, {SQL: "REVOKE ALL ON " + object + " FROM " + owner.Quote()}}
	// Who hands on a privilege must have it first: the owner's own grants come before
	// those of others.
	items := slices.Clone(acl)
	slices.SortStableFunc(items, func(a, b repo.ACLItem) int { return rank(a, owner) - rank(b, owner) })
	for _, i := range items {
		g := Grant{SQL: grant(i, object, i.Grantable && i.Grantee != owner)}
		if i.Grantor != owner {
			g.As = i.Grantor
		}
		all = append(all, g)
	}
	return all
}

// ParameterGrants gives the statements that grant privileges on a parameter, which
// has no owner.
func ParameterGrants(f repo.ParameterFacts) []string {
	var all []string
	for _, i := range f.ACL {
		all = append(all, grant(i, "PARAMETER "+quotedParts(f.Name), i.Grantable))
	}
	return all
}

func grant(i repo.ACLItem, object string, option bool) string {
	to := "PUBLIC"
	if i.Grantee != "" {
		to = i.Grantee.Quote()
	}
	q := "GRANT " + privilege(i.Privilege) + " ON " + object + " TO " + to
	if option {
		q += " WITH GRANT OPTION"
	}
	return q
}

func rank(i repo.ACLItem, owner pg.Name) int {
	switch {
	case i.Grantee == owner:
		return 0
	case i.Grantor == owner && i.Grantable:
		return 1
	case i.Grantor == owner:
		return 2
	}
	return 3
}

// privilege lets nothing but words into a statement.
func privilege(p string) string {
	for _, c := range p {
		if c != ' ' && (c < 'A' || c > 'Z') {
			return "NOTHING"
		}
	}
	return p
}
