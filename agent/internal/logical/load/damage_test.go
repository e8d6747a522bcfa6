package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// damagedDatabase has a table of many chunks that another refers to.
func damagedDatabase(t *testing.T, s *pgtest.Server) (string, *memory, *repo.Content) {
	t.Helper()
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT g, repeat(md5(g::text), 4) FROM generate_series(1, 3000) g; CREATE INDEX ON a (v)",
		"CREATE TABLE b (a int REFERENCES a, v text); INSERT INTO b SELECT g, 'b' || g FROM generate_series(1, 100) g",
		"CREATE TABLE c (b text); INSERT INTO c VALUES ('alone')", "SELECT lo_create(1)")
	m, c := backUp(t, s, db)
	return db, m, c
}

func TestDamageThatIsKnownIsRefusedOrSkipped(t *testing.T) {
	s := shared.Server(t)
	db, m, c := damagedDatabase(t, s)
	a := tableOf(t, database(c, db), "a")
	m.check = func(st repo.Stream) error {
		if len(st.Spans) > 0 && st.Spans[0] == a.Runs[0].Stream.Spans[0] {
			return fmt.Errorf("chunk list 0: 1 of 7 chunks are in no pack of the store: %w", errs.Corrupt)
		}
		return nil
	}
	p := prepare(t, s, m, c, repo.NewID(), mapping(db, "never"))
	if err := p.Plan().Err(); !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "table public.a: rows cannot be read whole") {
		t.Errorf("%v", err)
	}
	says(t, planText(p), "--skip-damaged")
	if out := p.Run(t.Context()); out.Err == nil || len(out.Databases) != 0 {
		t.Errorf("%+v", out)
	}
	to, out, text := selected(t, s, m, c, db, func(r *job.Restore) { r.SkipDamaged = true })
	says(t, text, "table public.a: rows cannot be read whole, it is left empty")
	r := out.Databases[0]
	if r.Complete || r.Err != "" {
		t.Errorf("%+v", r)
	}
	got := s.Query(t, to, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM pg_constraint WHERE contype = 'f'), (SELECT count(*) FROM pg_index WHERE indrelid = 'a'::regclass)")[0]
	if strings.Join(got, " ") != "0 100 0 2" {
		t.Errorf("rows of a and b, foreign keys, indexes of a: %v", got)
	}
	// What is not selected may be damaged.
	if _, out, _ := selected(t, s, m, c, db, func(r *job.Restore) { r.Tables = []string{"b"} }); !out.Databases[0].Complete {
		t.Errorf("%+v", out.Databases[0])
	}
	live := job.Restore{Databases: []job.Mapping{{Source: db}}, Live: true, Replace: true, SkipDamaged: true, Tables: []string{"a"}}
	if err := prepare(t, s, m, c, repo.NewID(), live).Plan().Err(); !errors.Is(err, errs.Corrupt) {
		t.Errorf("a table in use may be emptied: %v", err)
	}
}

func TestDamageFoundWhileLoadingNamesTheTableOrLeavesItEmpty(t *testing.T) {
	s := shared.Server(t)
	db, m, c := damagedDatabase(t, s)
	spans := tableOf(t, database(c, db), "a").Runs[0].Stream.Spans
	entries, err := m.list(spans[0].List)
	if err != nil {
		t.Fatal(err)
	}
	bad := entries[int(spans[0].First)+2].Name
	m.before = func(_ context.Context, e repo.ListEntry) error {
		if e.Name == bad && e.Kind == seal.KindRowsText {
			return fmt.Errorf("chunk 2 of list 0: frame is damaged: %w", errs.Corrupt)
		}
		return nil
	}
	out := prepare(t, s, m, c, repo.NewID(), mapping(db, "never")).Run(t.Context())
	if !errors.Is(out.Err, errs.Corrupt) || !strings.Contains(out.Err.Error(), "load table public.a") || databases(t, s) != nil {
		t.Errorf("%v, left %v", out.Err, databases(t, s))
	}
	to, ended, text := selected(t, s, m, c, db, func(r *job.Restore) { r.SkipDamaged = true })
	says(t, text, "table public.a: rows cannot be read whole, it is left empty: chunk 2", "FK CONSTRAINT public.b b_a_fkey: left out")
	if r := ended.Databases[0]; r.Complete || r.Err != "" || r.TablesVerified+r.TablesCompared != r.Tables-1 {
		t.Errorf("%+v", r)
	}
	if got := s.Query(t, to, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM c)")[0]; strings.Join(got, " ") != "0 100 1" {
		t.Errorf("%v", got)
	}
	// In place nothing is skipped.
	s.Exec(t, db, "DELETE FROM b; DELETE FROM a WHERE id > 5")
	r := live(db, true, "a")
	r.SkipDamaged = true
	if out := prepare(t, s, m, c, repo.NewID(), r).Run(t.Context()); !errors.Is(out.Err, errs.Corrupt) {
		t.Errorf("%v", out.Err)
	}
	if got := s.Query(t, db, "SELECT count(*) FROM a")[0][0]; got != "5" || schemas(t, s, db) != "" {
		t.Errorf("%s rows, schemas %q", got, schemas(t, s, db))
	}
}
