package print

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Column is a column of a table.
type Column struct {
	// Head is its title, upper case.
	Head string
	// Wide columns appear with -o wide only.
	Wide bool
	// Right aligns to the right, for numbers.
	Right bool
	// Flex columns give up width first when a terminal is narrow.
	Flex bool
}

// Table is rows under columns.
type Table struct {
	Columns []Column
	Rows    [][]string
}

// Row adds a row; cells beyond the columns are dropped, missing ones empty.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.Columns))
	copy(row, cells)
	for i := range row {
		row[i] = strings.Map(printable, row[i])
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.Rows = append(t.Rows, row)
}

// printable keeps a name from moving the cursor or breaking a row.
func printable(r rune) rune {
	if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
		return '?'
	}
	return r
}

const gap = "   "

// minFlex is the least width a column is cut to: a name cut shorter says nothing.
const minFlex = 8

func (t *Table) write(w io.Writer, wide bool, terminal int) error {
	cols := t.shown(wide)
	widths := t.widths(cols)
	t.fit(cols, widths, terminal)
	var b strings.Builder
	t.line(&b, cols, widths, func(c int) string { return t.Columns[c].Head })
	for _, row := range t.Rows {
		t.line(&b, cols, widths, func(c int) string { return row[c] })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) shown(wide bool) (cols []int) {
	for i, c := range t.Columns {
		if wide || !c.Wide {
			cols = append(cols, i)
		}
	}
	return cols
}

func (t *Table) widths(cols []int) []int {
	out := make([]int, len(cols))
	for i, c := range cols {
		out[i] = utf8.RuneCountInString(t.Columns[c].Head)
		for _, row := range t.Rows {
			out[i] = max(out[i], utf8.RuneCountInString(row[c]))
		}
	}
	return out
}

// fit takes width from the widest flexible column, again and again, until the
// table fits or nothing more can be given.
func (t *Table) fit(cols, widths []int, terminal int) {
	if terminal <= 0 {
		return
	}
	total := len(gap) * (len(cols) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > terminal; total-- {
		widest := -1
		for i, c := range cols {
			if t.Columns[c].Flex && widths[i] > minFlex && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t *Table) line(b *strings.Builder, cols, widths []int, cell func(int) string) {
	var l strings.Builder
	for i, c := range cols {
		if i > 0 {
			l.WriteString(gap)
		}
		s := cut(cell(c), widths[i])
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(s)))
		if t.Columns[c].Right {
			s, pad = pad, s
		}
		l.WriteString(s + pad)
	}
	b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(0, width-1)]) + "…"
}
