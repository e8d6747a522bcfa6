package families

import "strings"

// Normalize takes out of what pg_dump --schema-only says of a database the
// little that may differ between a source and its restored copy:
//
//   - the lines \restrict and \unrestrict, whose key is another each time;
//   - the versions of server and pg_dump in the head's comments.
//
// Both texts must be of the same pg_dump. Between servers of different versions
// two more things are worded otherwise, and later says that they are:
//
//   - a view's columns: 16 and later leave the table's name out where there is
//     but one table, so that is taken out of the family's views (@rename);
//   - a subscription's options, since their defaults changed: the line goes, and
//     the family's checks compare the catalog instead.
func (f *Family) Normalize(schema string, later bool) string {
	var b strings.Builder
	for line := range strings.Lines(schema) {
		switch {
		case strings.HasPrefix(line, `\restrict`), strings.HasPrefix(line, `\unrestrict`),
			strings.HasPrefix(line, "-- Dumped from"), strings.HasPrefix(line, "-- Dumped by"),
			later && strings.HasPrefix(line, "CREATE SUBSCRIPTION "):
		default:
			b.WriteString(line)
		}
	}
	if !later {
		return b.String()
	}
	return strings.NewReplacer(f.Renames...).Replace(b.String())
}
