package load_test

import (
	"errors"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestEveryTableThatDiffersIsNamedWhereAllAreCompared(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a AS SELECT generate_series(1, 10) AS i", "CREATE TABLE b AS SELECT generate_series(1, 20) AS i",
		"CREATE TABLE c AS SELECT generate_series(1, 30) AS i", "CREATE UNLOGGED TABLE d (i int)")
	m, c := backUp(t, s, db)
	d := database(c, db)
	tableOf(t, d, "d").Omitted = "not readable on a standby"
	for _, name := range []string{"a", "c"} { // what is there is right, what the manifest says of it is not
		tab := tableOf(t, d, name)
		tab.Fingerprint.Add(chunk.HashRow([]byte("one more")))
	}
	run := func(all bool) load.Outcome {
		to := pgtest.Unique("compared")
		r := job.Restore{Instance: "main", Databases: []job.Mapping{{Source: db, Target: to}}, Jobs: 2, ReadBack: true}
		p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}, CompareAll: all}, c, repo.NewID(), r)
		if err != nil {
			t.Fatal(err)
		}
		out := p.Run(t.Context())
		if !errors.Is(out.Err, errs.Corrupt) || len(out.Compared) != 1 || out.Databases[0].Complete {
			t.Fatalf("%v: %+v", out.Err, out.Compared)
		}
		if left := databases(t, s); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		return out
	}
	got := run(true).Compared[0]
	if got.Differing != 2 || got.Equal != 1 || got.Omitted != 1 || got.NotCompared != 0 || len(got.Tables) != 4 {
		t.Errorf("compared %+v", got)
	}
	for i, want := range []struct {
		name  string
		state load.TableState
		rows  int64
	}{{"a", load.TableDiffers, 10}, {"c", load.TableDiffers, 30}, {"d", load.TableOmitted, 0}, {"b", load.TableEqual, 20}} {
		if tab := got.Tables[i]; string(tab.Name) != want.name || tab.State != want.state || tab.Rows != want.rows || (tab.Why == "") != (want.state == load.TableEqual) {
			t.Errorf("table %d: %+v, want %+v", i, tab, want)
		}
	}
	if got.Data == 0 || got.Compare == 0 {
		t.Errorf("no time was spent: %+v", got)
	}
	if got := run(false).Compared[0]; got.Differing == 0 || got.Differing+got.Equal+got.NotCompared != 3 {
		t.Errorf("without: %+v", got)
	}
}
