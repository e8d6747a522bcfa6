package families

import (
	"slices"
	"strings"
)

// Normalize takes out of what pg_dump --schema-only says of a database the
// little that may differ between two that are equal, both said by one pg_dump of
// servers of one major version:
//
//   - the lines \restrict and \unrestrict, whose key is another each time;
//   - the versions of server and pg_dump in the head's comments;
//   - in a family that says so (@reordered), the order of a table's columns: one
//     that was given a parent later has other places for them in pg_dump's text
//     than it had itself.
//
// Between servers of two versions nearly everything may be worded otherwise, so
// there the restored database is compared with what the stock programs make of
// the source on the same server. These use the newest pg_dump, ours is the
// source's own. They differ in the right MAINTAIN of tables (17 and later), which
// an owner who was denied everything keeps where pg_dump did not know it, and which
// a grant of all rights by an older pg_dump includes; and in
// options of subscriptions, whose defaults changed: with later set, that line goes
// too, and the family's checks compare the catalog.
func (f *Family) Normalize(schema string, later bool) string {
	var b strings.Builder
	var sorted []string // lines of a table whose order does not count
	inTable := false
	for line := range strings.Lines(schema) {
		switch {
		case strings.HasPrefix(line, `\restrict`), strings.HasPrefix(line, `\unrestrict`),
			strings.HasPrefix(line, "-- Dumped from"), strings.HasPrefix(line, "-- Dumped by"),
			strings.HasPrefix(line, "GRANT MAINTAIN ON TABLE "),
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
		if later {
			line = strings.Replace(line, "GRANT SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON TABLE ", "GRANT ALL ON TABLE ", 1)
		}
		b.WriteString(line)
	}
	return b.String()
}
