package load

import (
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// grants gives the statements that set the privileges of a new object, say
// "DATABASE x" or "LARGE OBJECT 7", to acl, with the grantors that it names. A
// nil acl means the default, which a new object has.
func grants(object string, owner pg.Name, acl repo.ACL) []string {
	if acl == nil {
		return nil
	}
	all := []string{
		"REVOKE ALL ON " + object + " FROM PUBLIC;",
		"REVOKE ALL ON " + object + " FROM " + owner.Quote() + ";",
	}
	// Who hands on a privilege must have it first: the owner's own grants come
	// before those of others.
	items := slices.Clone(acl)
	slices.SortStableFunc(items, func(a, b repo.ACLItem) int {
		return rank(a, owner) - rank(b, owner)
	})
	for _, i := range items {
		to := "PUBLIC"
		if i.Grantee != "" {
			to = i.Grantee.Quote()
		}
		q := "GRANT " + privilege(i.Privilege) + " ON " + object + " TO " + to
		if i.Grantable && i.Grantee != owner {
			q += " WITH GRANT OPTION"
		}
		q += ";"
		if i.Grantor != owner && i.Grantor != "" {
			q = "SET LOCAL SESSION AUTHORIZATION " + i.Grantor.Quote() + "; " + q + " SET LOCAL SESSION AUTHORIZATION DEFAULT;"
		}
		all = append(all, q)
	}
	return all
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

// quotedLists are the settings whose value is a list of identifiers, stored with
// the quotes they need. They are set element by element; any other value is one literal.
var quotedLists = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"temp_tablespaces": true, "unix_socket_directories": true, "restrict_nonsystem_relation_kind": true, "synchronized_standby_slots": true,
}

// setting turns "name=value" of pg_db_role_setting into "SET name TO value".
func setting(s string) (name, clause string, ok bool) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", "", false
	}
	var parts []string
	for p := range strings.SplitSeq(name, ".") {
		parts = append(parts, pg.Name(p).Quote())
	}
	literal := strings.TrimSpace(pg.Name(value).Literal())
	if quotedLists[strings.ToLower(name)] {
		var list []string
		for _, v := range splitList(value) {
			list = append(list, strings.TrimSpace(pg.Name(v).Literal()))
		}
		literal = strings.Join(list, ", ")
		if literal == "" {
			literal = "''"
		}
	}
	return name, "SET " + strings.Join(parts, ".") + " TO " + literal, true
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
			text, n := sqltext.Unquote(s[i:])
			list = append(list, text)
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
