package dump_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// backupRole makes a role without any grant.
func backupRole(t *testing.T, s *pgtest.Server, db string) string {
	t.Helper()
	role := pgtest.Unique("bkp")
	s.Exec(t, "postgres", "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { s.Exec(t, "postgres", "DROP OWNED BY "+role, "DROP ROLE "+role) })
	t.Cleanup(func() { s.Exec(t, db, "DROP OWNED BY "+role) })
	return role
}

func major(t *testing.T, s *pgtest.Server) int {
	t.Helper()
	n, err := strconv.Atoi(s.Query(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000")[0][0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// grantReading gives a role what a backup needs, and nothing else.
func grantReading(t *testing.T, s *pgtest.Server, db, role string) {
	t.Helper()
	if major(t, s) >= 14 {
		s.Exec(t, db, "GRANT pg_read_all_data, pg_monitor TO "+role)
		return
	}
	s.Exec(t, db, "GRANT pg_monitor TO "+role, "DO $$ DECLARE s text; BEGIN FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP "+
		"EXECUTE format('GRANT USAGE ON SCHEMA %I TO "+role+"; GRANT SELECT ON ALL TABLES IN SCHEMA %I TO "+role+"; GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO "+role+"', s, s, s); END LOOP; END $$",
		"GRANT SELECT ON pg_catalog.pg_largeobject, pg_catalog.pg_authid, pg_catalog.pg_subscription, pg_catalog.pg_user_mapping TO "+role)
	// Privileges on shared catalogs are kept in each database; roles are read in this one.
	s.Exec(t, "postgres", "GRANT SELECT ON pg_catalog.pg_authid TO "+role)
}

// readAll is the hint for what pg_read_all_data covers from version 14 on.
func readAll(t *testing.T, s *pgtest.Server, role, before string) string {
	t.Helper()
	if major(t, s) >= 14 {
		return `GRANT pg_read_all_data TO "` + role + `";`
	}
	return "GRANT SELECT ON pg_catalog." + before + ` TO "` + role + `";`
}

func TestTheLeastPrivilegedRoleReadsEverything(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	role := backupRole(t, s, db)
	s.Exec(t, db, "ALTER ROLE "+role+" BYPASSRLS")
	grantReading(t, s, db, role)
	m := newMemory(small)
	o := options(s, m, db)
	o.Config.User = role
	snap := mustRun(t, o)
	d := only(t, snap)
	if n := len(m.lines(t, snap, tableOf(t, d, "rls"))); n != 2 {
		t.Errorf("table with row-level security has %d rows of 2", n)
	}
	if d.LargeObjects == nil || d.LargeObjects.Rows != 4 || !snap.Content.Logical.Globals.PasswordsRead {
		t.Errorf("large objects %+v", d.LargeObjects)
	}
	streaming := "" // written out, for the default is another from 18 on
	if major(t, s) >= 18 {
		streaming = ", streaming = parallel"
	}
	want := []string{
		`CREATE SUBSCRIPTION "sub1" CONNECTION 'host=/nonexistent dbname=x password=sec''ret' PUBLICATION "p", "q p" WITH (connect = false, slot_name = 'sub1slot'` + streaming + `);`,
		`ALTER SUBSCRIPTION "sub1" OWNER TO "postgres";`,
		`ALTER USER MAPPING FOR app_reader SERVER "fs" OPTIONS (ADD "user" 'u', ADD "password" 'p''w');`,
	}
	if !slices.Equal(d.Statements, want) {
		t.Errorf("statements:\n%s", strings.Join(d.Statements, "\n"))
	}
	// They are statements that a server takes.
	dropSubscription(t, s, db)
	s.Exec(t, db, "DROP USER MAPPING FOR app_reader SERVER fs", "CREATE USER MAPPING FOR app_reader SERVER fs")
	s.Exec(t, db, d.Statements...)
	if got := s.Query(t, db, "SELECT array_to_string(umoptions, ',') FROM pg_user_mappings"); got[0][0] != "user=u,password=p'w" {
		t.Errorf("user mapping %v", got)
	}
}

func TestWhatTheRoleCannotReadIsNamedAndRefused(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	role := backupRole(t, s, db)
	s.Exec(t, db, "CREATE SCHEMA s1", "CREATE TABLE s1.hidden (i int)", "CREATE TABLE public.secret (i int)", "CREATE SEQUENCE public.numbers", "SELECT lo_create(0)",
		"CREATE TABLE public.readable (i int); GRANT SELECT ON readable TO "+role)
	o := options(s, newMemory(small), db)
	o.Config.User = role
	snap, err := dump.Run(t.Context(), o)
	if !errors.Is(err, errs.Denied) || snap.Content != nil {
		t.Fatalf("%v", err)
	}
	q := `"` + role + `";`
	want := map[string]string{
		"s1.hidden": `GRANT USAGE ON SCHEMA "s1" TO ` + q, "public.secret": `GRANT SELECT ON TABLE "public"."secret" TO ` + q,
		"public.numbers": `GRANT SELECT ON SEQUENCE "public"."numbers" TO ` + q, "large objects": readAll(t, s, role, "pg_largeobject"),
	}
	got := map[string]string{}
	for _, p := range snap.Problems {
		if p.Severity != "error" || string(p.Database) != db {
			t.Errorf("problem %+v", p)
		}
		got[p.Object] = p.Hint
	}
	for object, fix := range want {
		if got[object] != fix {
			t.Errorf("%s: %q, want %q", object, got[object], fix)
		}
	}
	if len(got) != len(want) {
		t.Errorf("problems %+v", got)
	}
}

func TestATableWithRowLevelSecurityIsRefusedNotReadInPart(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	role := backupRole(t, s, db)
	s.Exec(t, db, "CREATE TABLE rls AS SELECT g AS id FROM generate_series(1, 10) g", "ALTER TABLE rls ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON rls USING (id < 3)",
		"GRANT SELECT ON rls TO "+role)
	o := options(s, newMemory(small), db)
	o.Config.User = role
	snap, err := dump.Run(t.Context(), o)
	if !errors.Is(err, errs.Denied) || snap.Content != nil || len(snap.Problems) != 1 || snap.Problems[0].Object != "public.rls" || !strings.Contains(snap.Problems[0].Hint, "BYPASSRLS") {
		t.Errorf("%v: %+v", err, snap)
	}
}

func TestWhatPgDumpLeavesOutMakesADatabasePartialWhenItCannotBeRead(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	role := backupRole(t, s, db)
	s.Exec(t, db, "CREATE EXTENSION postgres_fdw", "CREATE SERVER fs FOREIGN DATA WRAPPER postgres_fdw", "CREATE USER MAPPING FOR PUBLIC SERVER fs OPTIONS (user 'u')",
		"CREATE TABLE t AS SELECT 1 AS i; GRANT SELECT ON t TO "+role)
	o := options(s, newMemory(small), db)
	o.Config.User = role
	snap, err := dump.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	d := only(t, snap)
	if snap.Complete || snap.Err == nil || d.State != repo.DatabasePartial || len(d.Tables) != 1 {
		t.Errorf("complete %v, %v, %+v", snap.Complete, snap.Err, d)
	}
	if err := snap.Content.Validate(snap.References); err != nil {
		t.Error(err)
	}
}
