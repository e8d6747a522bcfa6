package load_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestARestoredDatabaseHasStatistics(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT g % 7 AS i, 'x' || g AS v FROM generate_series(1, 1000) g", "CREATE INDEX t_lower ON t (lower(v))",
		"CREATE MATERIALIZED VIEW mv AS SELECT i FROM t", "CREATE TABLE p (k int) PARTITION BY RANGE (k)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50)",
		"CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50) TO (200)", "INSERT INTO p SELECT generate_series(0, 199)")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("statistics")
	restoreAs(t, s, m, c, db, to, nil)
	want := [][]string{{"mv", "f"}, {"p", "t"}, {"p1", "f"}, {"p2", "f"}, {"t", "f"}, {"t_lower", "f"}}
	got := s.Query(t, to, "SELECT DISTINCT relname, stainherit FROM pg_statistic JOIN pg_class c ON c.oid = starelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStatisticsAreLeftOutWhenAskedFor(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT 1 AS i")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("statistics")
	restoreAs(t, s, m, c, db, to, func(r *job.Restore) { r.NoAnalyze = true })
	if n := s.Query(t, to, "SELECT count(*) FROM pg_statistic WHERE starelid = 't'::regclass")[0][0]; n != "0" {
		t.Errorf("%s statistics", n)
	}
}

// A table that cannot be analyzed, for the function of an index, is a warning.
func TestStatisticsThatCannotBeGatheredCostNothingElse(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, `CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		$$ BEGIN IF pg_catalog.current_query() LIKE 'ANALYZE%' THEN PERFORM pg_catalog.pg_sleep(1.5); RAISE 'no statistics for you'; END IF; RETURN $1; END $$`,
		"CREATE TABLE bad AS SELECT 1 AS i", "CREATE INDEX ON bad (f(i))", "CREATE TABLE good AS SELECT 1 AS i")
	m, c := backUp(t, s, db)
	to := pgtest.Unique("statistics")
	t.Cleanup(func() { s.DropDatabase(t, to) })
	rec := &recorder{}
	p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: rec}, c, repo.NewID(), mapping(db, to))
	if err != nil {
		t.Fatal(err)
	}
	out := p.Run(t.Context())
	out.Problems = ofDatabases(out.Problems)
	if out.Err != nil || len(out.Problems) != 1 || out.Problems[0].Object != "statistics" ||
		!strings.Contains(out.Problems[0].Reason, "1 of 2 tables: public.bad: ERROR: no statistics for you") || !strings.Contains(out.Problems[0].Hint, "ANALYZE") {
		t.Errorf("%v %+v", out.Err, out.Problems)
	}
	if n := s.Query(t, to, "SELECT count(*) FROM pg_statistic WHERE starelid = 'good'::regclass")[0][0]; n != "1" {
		t.Error("the other table has none")
	}
}
