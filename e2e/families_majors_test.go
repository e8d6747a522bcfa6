package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/families"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// Every family on every major version, and from each version into the next and
// from the oldest into the newest. The table that it prints is the one in
// docs/TESTING.md.
func TestEveryFamilyOnEveryMajor(t *testing.T) {
	if !long() {
		t.Skip("a long test: set TUSKVAULT_LONG")
	}
	all := pgtest.Majors(t)
	type pair struct{ from, to int } // positions in all
	var pairs []pair
	for i := range all {
		pairs = append(pairs, pair{i, i})
	}
	for i := range all[1:] {
		pairs = append(pairs, pair{i, i + 1})
	}
	if len(all) > 2 {
		pairs = append(pairs, pair{0, len(all) - 1})
	}
	table := &results{}
	for _, p := range pairs {
		name := fmt.Sprint(all[p.from].Major)
		if p.from != p.to {
			name = fmt.Sprintf("%d to %d", all[p.from].Major, all[p.to].Major)
		}
		t.Run(name, func(t *testing.T) {
			from := pgtest.Start(t, familyOptions(t, all[p.from].Bin))
			to := from
			if p.from != p.to {
				to = pgtest.Start(t, familyOptions(t, all[p.to].Bin))
			}
			r := newRound(t, from, to)
			t.Cleanup(func() { table.add(name, r) })
			r.run(t)
		})
	}
	t.Log("\n" + table.String())
}

// results is a table of families by versions.
type results struct {
	columns []string
	rounds  []*round
}

func (x *results) add(column string, r *round) {
	x.columns, x.rounds = append(x.columns, column), append(x.rounds, r)
}

// String gives the table in Markdown.
func (x *results) String() string {
	all, err := families.All()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString("| family |")
	for _, c := range x.columns {
		fmt.Fprintf(&b, " %s |", c)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(x.columns)))
	for _, f := range all {
		fmt.Fprintf(&b, "\n| %s |", f.Name)
		for _, r := range x.rounds {
			equal, ran := r.results[f.Name]
			switch {
			case f.Since > r.major:
				fmt.Fprintf(&b, " from %d |", f.Since)
			case !ran:
				b.WriteString(" not run |")
			case equal:
				b.WriteString(" equal |")
			default:
				b.WriteString(" **FAILED** |")
			}
		}
	}
	return b.String()
}
