// Package nearest finds the names that a person may have meant by one that does
// not exist.
package nearest

import (
	"slices"
	"strings"
)

// Distance is the number of single-byte edits between two texts, or most+1 when
// there are more: texts whose lengths differ by more are not compared.
func Distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], most+1)
}

// Names gives at most count of the names that far finds at most so far away, the
// nearest first, and by name where they are equally far.
func Names(names []string, count, most int, far func(name string) int) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	for _, name := range names {
		if d := far(name); d <= most {
			found = append(found, candidate{name, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range found[:min(len(found), count)] {
		out = append(out, c.name)
	}
	return out
}
