package api

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func diffTest(name string, rows int64, print byte, binary ...byte) repo.Table {
	t := repo.Table{Schema: "public", Name: pg.Name(name), Rows: rows, Fingerprint: chunk.FingerprintFrom([16]byte{print})}
	for _, b := range binary {
		t.Runs = append(t.Runs, repo.Run{Binary: true, Rows: 1, Fingerprint: chunk.FingerprintFrom([16]byte{b})})
	}
	return t
}

func TestTablesAreComparedByRowsAndFingerprints(t *testing.T) {
	content := func(databases ...repo.Database) *repo.Content {
		return &repo.Content{Logical: &repo.Logical{Databases: databases}}
	}
	omitted := diffTest("omitted", 0, 0)
	omitted.Omitted = "no right to read it"
	before := content(repo.Database{Name: "app", Tables: []repo.Table{diffTest("same", 3, 1), diffTest("fewer", 5, 2), diffTest("other", 3, 3), diffTest("removed", 4, 4), omitted,
		diffTest("wide", 2, 5, 1, 2), diffTest("wider", 2, 5, 1)}}, repo.Database{Name: "old", Tables: []repo.Table{diffTest("t", 1, 1)}})
	after := content(repo.Database{Name: "app", Tables: []repo.Table{diffTest("same", 3, 1), diffTest("fewer", 4, 9), diffTest("other", 3, 8), diffTest("added", 6, 5), diffTest("omitted", 7, 7),
		diffTest("wide", 2, 5, 2, 1), diffTest("wider", 2, 5, 2)}}, repo.Database{Name: "new", Tables: []repo.Table{diffTest("t", 1, 1)}})
	rows, err := diffOf(before, after, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range rows {
		got = append(got, fmt.Sprintf("%s.%s %d->%d %s", d.GetDatabase(), d.GetName(), d.GetRowsBefore(), d.GetRowsAfter(), d.GetChange().String()[len("TABLE_CHANGE_"):]))
	}
	want := []string{"app.added 0->6 ADDED", "app.fewer 5->4 CHANGED", "app.omitted 0->7 UNKNOWN", "app.other 3->3 CHANGED", "app.removed 4->0 REMOVED",
		"app.same 3->3 SAME", "app.wide 4->4 SAME", "app.wider 3->3 CHANGED", "new.t 0->1 ADDED", "old.t 1->0 REMOVED"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
