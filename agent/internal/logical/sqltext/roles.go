package sqltext

import "github.com/tuskvault/tuskvault/internal/pg"

// Roles gives the roles that a statement names, of an entry of this kind,
// besides the entry's owner.
func Roles(desc, sql string) []pg.Name {
	var list []pg.Name
	for _, t := range roleTokens(desc, Tokens(sql)) {
		list = append(list, pg.Name(t.Text))
	}
	return list
}

// MapRoles gives the statement with to's roles in place of those it names.
func MapRoles(desc, sql string, to func(pg.Name) pg.Name) string {
	var edits []edit
	for _, t := range roleTokens(desc, Tokens(sql)) {
		if role := to(pg.Name(t.Text)); role != pg.Name(t.Text) {
			edits = append(edits, edit{t.Start, t.End, role.Quote()})
		}
	}
	return apply(sql, edits)
}

// Mentions tells whether a role is named where Roles does not find it: in a
// string, or as what a function runs as. Whether that means the role cannot be told.
func Mentions(sql string, role pg.Name) bool { return mentions(sql, role, 1) }

// mentions looks into bodies, and into bodies in bodies for as deep as told.
func mentions(sql string, role pg.Name, deep int) bool {
	all := Tokens(sql)
	for i, t := range all {
		switch {
		case t.Literal && t.Text == string(role):
			return true
		case t.Body && deep > 0 && mentions(t.Text, role, deep-1):
			return true
		case t.Keyword == "ROLE" && i > 0 && all[i-1].Keyword == "SET" && i+2 < len(all) && all[i+2].Text == string(role):
			return true // SET role TO x
		}
	}
	return false
}

// roleTokens finds the roles of a statement, in order.
func roleTokens(desc string, all []Token) []Token {
	switch desc {
	case "ACL", "DEFAULT ACL":
		var roles []Token
		for len(all) > 0 {
			n := 0
			for n < len(all) && all[n].Text != ";" {
				n++
			}
			roles = append(roles, grantRoles(all[:n])...)
			all = all[min(n+1, len(all)):]
		}
		return roles
	case "POLICY":
		for i, t := range all { // "interval year to month" may be in what follows
			if t.Keyword == "USING" || t.Keyword == "WITH" {
				all = all[:i]
				break
			}
		}
		return listAfter(all, "TO")
	case "USER MAPPING":
		return listAfter(all, "FOR")
	case "OWNER": // ALTER … OWNER TO x
		return listAfter(all, "TO")
	}
	return nil
}

// grantRoles finds roles in one GRANT, REVOKE, ALTER DEFAULT PRIVILEGES or SET
// SESSION AUTHORIZATION.
func grantRoles(statement []Token) []Token {
	var roles []Token
	last := -1
	for i, t := range statement {
		before := ""
		if i > 0 {
			before = statement[i-1].Keyword
		}
		switch {
		case t.Keyword == "ROLE" && before == "FOR", t.Keyword == "AUTHORIZATION" && before == "SESSION":
			roles = append(roles, names(statement[i+1:])...)
		case t.Keyword == "TO", t.Keyword == "FROM":
			last = i // names of objects come before
		}
	}
	if last >= 0 {
		roles = append(roles, names(statement[last+1:])...)
	}
	return roles
}

func listAfter(all []Token, keyword string) []Token {
	for i, t := range all {
		if t.Keyword == keyword {
			return names(all[i+1:])
		}
	}
	return nil
}

// names reads a list of names separated by commas, without PUBLIC.
func names(all []Token) []Token {
	var list []Token
	for i := 0; i < len(all) && all[i].Name; i += 2 {
		switch all[i].Keyword {
		case "PUBLIC", "DEFAULT", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE":
		default:
			list = append(list, all[i])
		}
		if i+1 >= len(all) || all[i+1].Text != "," {
			break
		}
	}
	return list
}
