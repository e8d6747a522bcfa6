package load

import (
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// token is a word of a statement that pg_dump wrote.
type token struct {
	text string
	name bool // a word or a quoted identifier
	// keyword is text in upper case of an unquoted word, else "".
	keyword string
}

// tokens splits a statement. It knows what occurs in statements about privileges,
// policies and user mappings, and never fails: the result is only searched for names.
func tokens(sql string) []token {
	var all []token
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			n := strings.IndexByte(sql[i:], '\n')
			if n < 0 {
				return all
			}
			i += n
		case c == '"' || c == '\'':
			text, n := quoted(sql[i:])
			all = append(all, token{text: text, name: c == '"'})
			i += n
		case wordByte(c):
			n := 1
			for i+n < len(sql) && wordByte(sql[i+n]) {
				n++
			}
			word := sql[i : i+n]
			all = append(all, token{text: word, name: true, keyword: strings.ToUpper(word)})
			i += n
		default:
			all = append(all, token{text: sql[i : i+1]})
			i++
		}
	}
	return all
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// quoted reads an identifier or string literal in quotes, with doubled quotes in it.
func quoted(sql string) (text string, n int) {
	q := sql[0]
	var b strings.Builder
	for n = 1; n < len(sql); n++ {
		if sql[n] == q {
			if n+1 < len(sql) && sql[n+1] == q {
				n++
			} else {
				return b.String(), n + 1
			}
		}
		b.WriteByte(sql[n])
	}
	return b.String(), n
}

// rolesIn gives the roles that an entry's statement names, besides its owner.
func rolesIn(e *pgarchive.Entry) []pg.Name {
	all := tokens(e.Defn)
	switch e.Desc {
	case "ACL", "DEFAULT ACL":
		var roles []pg.Name
		for len(all) > 0 {
			n := 0
			for n < len(all) && all[n].text != ";" {
				n++
			}
			roles = append(roles, grantRoles(all[:n])...)
			all = all[min(n+1, len(all)):]
		}
		return roles
	case "POLICY":
		return listAfter(all, "TO")
	case "USER MAPPING":
		return listAfter(all, "FOR")
	}
	return nil
}

// grantRoles finds roles in one GRANT, REVOKE, ALTER DEFAULT PRIVILEGES or SET
// SESSION AUTHORIZATION.
func grantRoles(statement []token) []pg.Name {
	var roles []pg.Name
	last := -1
	for i, t := range statement {
		switch t.keyword {
		case "ROLE", "AUTHORIZATION": // FOR ROLE x; SET SESSION AUTHORIZATION x
			roles = append(roles, names(statement[i+1:])...)
		case "TO", "FROM":
			last = i // names of objects come before
		}
	}
	if last >= 0 {
		roles = append(roles, names(statement[last+1:])...)
	}
	return roles
}

func listAfter(all []token, keyword string) []pg.Name {
	for i, t := range all {
		if t.keyword == keyword {
			return names(all[i+1:])
		}
	}
	return nil
}

// names reads a list of names separated by commas, without PUBLIC.
func names(all []token) []pg.Name {
	var list []pg.Name
	for i := 0; i < len(all) && all[i].name; i += 2 {
		switch all[i].keyword {
		case "PUBLIC", "DEFAULT", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE":
		default:
			list = append(list, pg.Name(all[i].text))
		}
		if i+1 >= len(all) || all[i+1].text != "," {
			break
		}
	}
	return list
}
