package postgres_test

import (
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
)

// find gives the checks whose line contains all of the words.
func find(checks []postgres.Check, words ...string) []postgres.Check {
	var out []postgres.Check
next:
	for _, c := range checks {
		line := c.Name + " " + string(c.Status) + " " + c.Detail + " " + c.Fix
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		out = append(out, c)
	}
	return out
}

func TestDoctorNamesEachMissingGrantAndItsFixWorks(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, "postgres", "CREATE ROLE bkp LOGIN PASSWORD 'x'")
	t.Cleanup(func() { s.Exec(t, "postgres", "DROP OWNED BY bkp", "DROP ROLE bkp") })
	t.Cleanup(func() { s.Exec(t, db, "DROP OWNED BY bkp") })
	s.Exec(t, db, "CREATE SCHEMA s1", "CREATE TABLE s1.hidden (i int)", "CREATE TABLE public.secret (i int)", "CREATE SEQUENCE public.numbers",
		"CREATE TABLE public.rls (i int); ALTER TABLE public.rls ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.rls TO bkp", "SELECT lo_create(0)")
	cfg := config(s)
	cfg.User, cfg.Password = "bkp", func() (string, error) { return "x", nil }
	checks := postgres.Doctor(t.Context(), cfg)
	objects := `GRANT pg_read_all_data TO "bkp";`
	if old := s.Query(t, db, "SELECT current_setting('server_version_num')::int < 140000"); old[0][0] == "t" {
		objects = `GRANT SELECT ON pg_catalog.pg_largeobject TO "bkp";`
	}
	for _, words := range [][]string{
		{"fail", "s1.hidden", `GRANT USAGE ON SCHEMA "s1" TO "bkp";`},
		{"fail", "public.secret", `GRANT SELECT ON TABLE "public"."secret" TO "bkp";`},
		{"fail", "public.numbers", `GRANT SELECT ON SEQUENCE "public"."numbers" TO "bkp";`},
		{"fail", "public.rls", `ALTER ROLE "bkp" BYPASSRLS;`},
		{"fail", "large objects", objects},
		{"role bkp", "warn", "BYPASSRLS"}, {"role bkp", "warn", "pg_monitor"}, {"pg_dump", s.Bin},
	} {
		if len(find(checks, words...)) != 1 {
			t.Errorf("no line with %q in %+v", words, checks)
		}
	}
	if postgres.Worst(checks) != postgres.Fail {
		t.Error("the report does not fail")
	}
	// What it says is what mends it.
	for range 3 { // a schema's grant shows the next one missing
		for _, c := range postgres.Doctor(t.Context(), cfg) {
			if strings.HasPrefix(c.Name, "database") && strings.HasSuffix(c.Fix, ";") {
				s.Exec(t, db, c.Fix)
			} else if strings.HasSuffix(c.Fix, ";") {
				s.Exec(t, "postgres", c.Fix)
			}
		}
	}
	if checks := postgres.Doctor(t.Context(), cfg); len(find(checks, "fail")) != 0 || len(find(checks, "role bkp", "ok")) != 1 || len(find(checks, "database "+db, "ok")) != 1 {
		t.Errorf("after mending: %+v", checks)
	}
}

func TestDoctorTellsOfAServerThatCannotBeReached(t *testing.T) {
	s := shared.Server(t)
	cfg := config(s)
	cfg.Port = 1
	checks := postgres.Doctor(t.Context(), cfg)
	if len(checks) != 1 || checks[0].Status != postgres.Fail || checks[0].Fix == "" {
		t.Errorf("%+v", checks)
	}
}
