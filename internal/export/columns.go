package export

import (
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// column is a column of a table with its type as pg_dump writes it, without
// modifiers; the type is empty where it could not be found.
type column struct {
	name pg.Name
	typ  string
}

// schema is what is looked up in the definitions of an archive.
type schema struct {
	archive *pgarchive.Archive
	// types has enums ("enum") and domains (what they are of), by the name that
	// columns have them under.
	types map[string]string
}

func newSchema(a *pgarchive.Archive) *schema {
	s := &schema{archive: a, types: map[string]string{}}
	for i := range a.Entries {
		e := &a.Entries[i]
		switch e.Desc {
		case "TYPE":
			if name, _, ok := strings.Cut(strings.TrimPrefix(e.Defn, "CREATE TYPE "), " AS ENUM ("); ok {
				s.types[name] = "enum"
			}
		case "DOMAIN":
			if name, of, ok := strings.Cut(strings.TrimPrefix(e.Defn, "CREATE DOMAIN "), " AS "); ok {
				s.types[name] = typeAt(of)
			}
		}
	}
	return s
}

// columns gives the columns of a table of the manifest, in its order. Those of a
// parent that the table inherits from are found in the parent.
func (s *schema) columns(e *pgarchive.Entry, names []pg.Name) []column {
	types := map[pg.Name]string{}
	s.collect(e, types, 0)
	all := make([]column, len(names))
	for i, n := range names {
		all[i] = column{n, s.base(types[n])}
	}
	return all
}

// maxInheritance bounds how deep parents are looked into.
const maxInheritance = 32

func (s *schema) collect(e *pgarchive.Entry, types map[pg.Name]string, depth int) {
	if e == nil || e.Desc != "TABLE" || depth > maxInheritance {
		return
	}
	for _, item := range definitionItems(e.Defn) {
		name, rest, ok := identifier(item)
		if _, known := types[name]; ok && !known {
			types[name] = typeAt(rest)
		}
	}
	for _, id := range e.Deps {
		s.collect(s.archive.Entry(id), types, depth+1)
	}
}

// base follows domains to what they are of.
func (s *schema) base(typ string) string {
	for range maxInheritance {
		of, ok := s.types[typ]
		if !ok {
			break
		}
		typ = of
	}
	return typ
}

// definitionItems gives what stands between the first parentheses of a CREATE
// TABLE, apart at its commas.
func definitionItems(sql string) []string {
	var items []string
	depth, start := 0, 0
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; c {
		case '"', '\'':
			i += quotedLength(sql[i:]) - 1
		case '(':
			if depth++; depth == 1 {
				start = i + 1
			}
		case ')':
			if depth--; depth == 0 {
				return append(items, strings.TrimSpace(sql[start:i]))
			}
		case ',':
			if depth == 1 {
				items = append(items, strings.TrimSpace(sql[start:i]))
				start = i + 1
			}
		}
	}
	return nil
}

// quotedLength is the length of a quoted identifier or literal, quotes included;
// a doubled quote inside is part of it.
func quotedLength(sql string) int {
	for i := 1; i < len(sql); i++ {
		if sql[i] != sql[0] {
			continue
		}
		if i+1 < len(sql) && sql[i+1] == sql[0] {
			i++
			continue
		}
		return i + 1
	}
	return len(sql)
}

// identifier takes the name at the start of an item; what begins with a keyword,
// which pg_dump writes in capitals, is no column.
func identifier(item string) (pg.Name, string, bool) {
	if strings.HasPrefix(item, `"`) {
		n := quotedLength(item)
		if n < 3 {
			return "", "", false
		}
		return pg.Name(strings.ReplaceAll(item[1:n-1], `""`, `"`)), item[n:], true
	}
	name, rest, ok := strings.Cut(item, " ")
	return pg.Name(name), rest, ok && name != strings.ToUpper(name)
}

// typeAt takes the type at the start of a text: words up to a keyword in
// capitals, without modifiers in parentheses.
func typeAt(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			n := quotedLength(text[i:])
			b.WriteString(text[i : i+n])
			i += n
		case c == '(':
			n := strings.IndexByte(text[i:], ')')
			if n < 0 {
				return ""
			}
			i += n + 1
		case c >= 'A' && c <= 'Z', c == ';', c == '\n':
			return strings.TrimSpace(b.String())
		default:
			b.WriteByte(c)
			i++
		}
	}
	return strings.TrimSpace(b.String())
}
