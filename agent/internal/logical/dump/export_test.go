package dump

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Split makes tables be split as if all sizes were smaller.
func (o *Options) Split(stride, always, never int64) {
	o.split = splitRule{stride: stride, always: always, never: never}
}

// PlanTable tells what is read of a table of the given pages, with bytes out of line, beside others of
// the given bytes, under the standard rule.
func PlanTable(version pg.Version, pages, toast, others int64, workers int, access, condition string) []string {
	d := &database{}
	t := &table{relation: relation{oid: 1, schema: "s", name: "t"}, access: access, pages: pages, toast: toast, out: repo.Table{Condition: condition}}
	d.tables = []*table{t, {relation: relation{oid: 2}, toast: others}}
	plan(d, standardSplit, version, 8192, workers)
	var all []string
	for _, i := range t.items {
		all = append(all, fmt.Sprintf("%d-%d", i.from, i.to))
		if i.whole {
			all[len(all)-1] = "whole"
		}
	}
	return all
}

// Match tells whether a glob matches a name.
var Match = match

// OddRows gives the predicate of rows whose text could not be read back, of a
// table with one column c of a type.
func OddRows(basic string, server pg.Version) string {
	t := &table{}
	t.setColumns([]column{{"c", basic}}, server)
	return t.odd
}
