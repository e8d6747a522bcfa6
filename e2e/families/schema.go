package families

import (
	"regexp"
	"slices"
	"strings"
)

// Normalize takes out of what pg_dump --schema-only says of a database the
// little that may differ between a source and its restored copy:
//
//   - the lines \restrict and \unrestrict, whose key is another each time;
//   - the versions of server and pg_dump in the head's comments.
//
// And in a family that says so (@reordered), the order of a table's columns: one
// that was given a parent later has other places for them in pg_dump's text than
// it had itself.
//
// Both texts must be of the same pg_dump. Between servers of different versions
// two more things are worded otherwise, and later says that they are:
//
//   - a view's columns: 16 and later leave the table's name out where there is
//     but one table, so it is taken out of both (@unqualify);
//   - a subscription's options, since their defaults changed: the line goes, and
//     the family's checks compare the catalog instead.
func (f *Family) Normalize(schema string, later bool) string {
	var b strings.Builder
	var sorted []string // lines of a table whose order does not count
	inTable := false
	for line := range strings.Lines(schema) {
		switch {
		case strings.HasPrefix(line, `\restrict`), strings.HasPrefix(line, `\unrestrict`),
			strings.HasPrefix(line, "-- Dumped from"), strings.HasPrefix(line, "-- Dumped by"),
			later && strings.HasPrefix(line, "CREATE SUBSCRIPTION "):
			continue
		case inTable && strings.HasPrefix(line, ")"):
			inTable = false
			slices.Sort(sorted)
			b.WriteString(strings.Join(sorted, ""))
		case inTable:
			sorted = append(sorted, strings.TrimRight(line, ",\n")+"\n")
			continue
		case slices.ContainsFunc(f.Reordered, func(t string) bool { return line == "CREATE TABLE "+t+" (\n" }):
			inTable, sorted = true, nil
		}
		b.WriteString(line)
	}
	if !later {
		return b.String()
	}
	text := b.String()
	for _, table := range f.Unqualified {
		text = regexp.MustCompile(`([\s(])`+regexp.QuoteMeta(table)+`\.`).ReplaceAllString(text, "$1")
	}
	return text
}
