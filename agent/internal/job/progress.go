package job

import (
	"cmp"
	"slices"
)

// The phases of a table.
const (
	TableWaiting      = "waiting"
	TableCopying      = "copying"
	TableIndexing     = "indexing"
	TableConstraining = "constraining"
	TableChecking     = "checking"
	TableAnalyzing    = "analyzing"
	TableDone         = "done"
)

// TableProgress says how far one table is.
type TableProgress struct {
	// Table is schema and name in display form, or "large objects".
	Table string
	// Phase is one of the Table constants.
	Phase string
	// Rows and Bytes (plain) so far, and those expected, 0 when unknown.
	Rows, RowsTotal   int64
	Bytes, BytesTotal int64
	// Estimated tells that the totals are estimates.
	Estimated bool
}

// MaxTables bounds the tables in the progress of one attempt: what fits on the
// tallest terminal, and little enough to be sent every second.
const MaxTables = 64

// Busiest picks at most n of the given tables: those that are worked on, the
// largest first, and then the largest of those that wait. Tables that are done
// are left out. It may reorder the slice it is given.
func Busiest(tables []TableProgress, n int) []TableProgress {
	tables = slices.DeleteFunc(tables, func(t TableProgress) bool { return t.Phase == TableDone })
	slices.SortStableFunc(tables, func(a, b TableProgress) int {
		return cmp.Or(cmp.Compare(waits(a), waits(b)), cmp.Compare(b.BytesTotal, a.BytesTotal), cmp.Compare(a.Table, b.Table))
	})
	return tables[:min(len(tables), n)]
}

func waits(t TableProgress) int {
	if t.Phase == TableWaiting {
		return 1
	}
	return 0
}

// Bound keeps at most MaxTables tables over all databases: of databases that are
// worked on before those that wait, and in each the first.
func (p *Progress) Bound() {
	left := MaxTables
	for _, working := range []bool{true, false} {
		for i := range p.Databases {
			d := &p.Databases[i]
			if (d.Phase != PhaseWaiting) != working {
				continue
			}
			d.Tables = d.Tables[:min(len(d.Tables), left)]
			left -= len(d.Tables)
		}
	}
}
