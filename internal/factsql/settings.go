package factsql

import (
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// quotedLists are the settings whose value is a list of identifiers, stored with
// the quotes they need. They are set element by element; any other value is one literal.
var quotedLists = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"temp_tablespaces": true, "unix_socket_directories": true, "restrict_nonsystem_relation_kind": true, "synchronized_standby_slots": true,
}

// Setting turns "name=value" of pg_db_role_setting into the name and the clause
// "SET name TO value"; false for what is no setting.
func Setting(text string) (name, clause string, ok bool) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", "", false
	}
	literal := literal(value)
	if quotedLists[strings.ToLower(name)] {
		if literal = literals(splitList(value)); literal == "" {
			literal = "''"
		}
	}
	return name, "SET " + quotedParts(name) + " TO " + literal, true
}

// quotedParts quotes the parts of a setting's name.
func quotedParts(name string) string {
	var parts []string
	for p := range strings.SplitSeq(name, ".") {
		parts = append(parts, pg.Name(p).Quote())
	}
	return strings.Join(parts, ".")
}

// literal writes a string as a literal, without the blank that Name.Literal may
// put before it.
func literal[S ~string](s S) string { return strings.TrimSpace(pg.Name(s).Literal()) }

func literals(all []string) string {
	var q []string
	for _, s := range all {
		q = append(q, literal(s))
	}
	return strings.Join(q, ", ")
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
			text, n := unquote(s[i:])
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

// unquote reads the quoted identifier that s begins with, with doubled quotes in
// it, and gives its length with the quotes.
func unquote(s string) (text string, n int) {
	var b strings.Builder
	for n = 1; n < len(s); n++ {
		if s[n] == '"' {
			if n+1 == len(s) || s[n+1] != '"' {
				return b.String(), n + 1
			}
			n++
		}
		b.WriteByte(s[n])
	}
	return b.String(), n
}
