package load_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestAnExistingDatabaseIsRefusedAndUntouched(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	s.Exec(t, db, "DELETE FROM b")
	p := prepare(t, s, m, c, repo.NewID(), mapping(db, ""))
	if err := p.Plan().Err(); !errors.Is(err, errs.Exists) || !strings.Contains(err.Error(), "database "+db+": it exists already") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(strings.Join(p.Plan().Lines(), "\n"), "--replace") {
		t.Errorf("no hint: %v", p.Plan().Lines())
	}
	out := p.Run(t.Context())
	if !errors.Is(out.Err, errs.Exists) || len(out.Databases) != 0 {
		t.Errorf("%+v", out)
	}
	if n := s.Query(t, db, "SELECT count(*) FROM b")[0][0]; n != "0" {
		t.Errorf("the database was changed: %s rows", n)
	}
}

func TestReplaceSwapsOnlyWhatIsCompleteAndEndsSessions(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	s.Exec(t, db, "DELETE FROM b; CREATE TABLE newer (i int)")
	session, err := pgconn.Connect(t.Context(), s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close(t.Context()) }() // ended by the server
	replace := mapping(db, "")
	replace.Replace = true

	// A restore that fails leaves the old database as it was.
	sum := tableOf(t, database(c, db), "a").Fingerprint
	tableOf(t, database(c, db), "a").Fingerprint.Add(chunk.HashRow(nil))
	if out := prepare(t, s, m, c, repo.NewID(), replace).Run(t.Context()); out.Err == nil {
		t.Fatal("a restore with a difference succeeded")
	}
	if _, err := session.Exec(t.Context(), "SELECT 1 FROM newer").ReadAll(); err != nil {
		t.Errorf("the old database was disturbed: %v", err)
	}
	tableOf(t, database(c, db), "a").Fingerprint = sum

	p := prepare(t, s, m, c, repo.NewID(), replace)
	if text := strings.Join(p.Plan().Lines(), "\n"); !strings.Contains(text, "renamed to tuskvault_replaced_") {
		t.Errorf("the plan does not say what happens: %s", text)
	}
	out := p.Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	if n := s.Query(t, db, "SELECT count(*), to_regclass('newer') FROM b"); n[0][0] != "1000" || n[0][1] != "" {
		t.Errorf("not the restored one: %v", n)
	}
	if _, err := session.Exec(t.Context(), "SELECT 1").ReadAll(); err == nil {
		t.Error("a session of the old database lives on")
	}
	if left := databases(t, s); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestAWholeInstanceGoesIntoAFreshServerWithItsGlobals(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two servers")
	}
	from := pgtest.Start(t, pgtest.Options{})
	from.Exec(t, "postgres", "CREATE ROLE team", "CREATE ROLE ann LOGIN PASSWORD 'secret' CONNECTION LIMIT 3 IN ROLE team", "GRANT team TO ann WITH ADMIN OPTION",
		"ALTER ROLE ann SET search_path = app, public", "ALTER ROLE ann VALID UNTIL '2030-01-01'", "COMMENT ON ROLE team IS 'the team'",
		"CREATE ROLE kept LOGIN PASSWORD 'theirs'", "CREATE TABLE in_postgres AS SELECT 1 AS i")
	from.Exec(t, "postgres", "CREATE DATABASE app OWNER ann")
	from.Exec(t, "app", "SET ROLE ann; CREATE SCHEMA app; CREATE TABLE app.t AS SELECT g FROM generate_series(1, 10) g; GRANT SELECT ON app.t TO kept")
	parameters := from.Query(t, "postgres", "SELECT current_setting('server_version_num')::int >= 150000")[0][0] == "t"
	if parameters {
		from.Exec(t, "postgres", `GRANT SET ON PARAMETER my.thing TO ann WITH GRANT OPTION`, "GRANT SET ON PARAMETER log_min_messages TO PUBLIC", "GRANT ALTER SYSTEM ON PARAMETER log_min_messages TO ann")
	}
	m, c := backUp(t, from)

	to := pgtest.Start(t, pgtest.Options{})
	to.Exec(t, "postgres", "CREATE ROLE kept LOGIN PASSWORD 'mine'")
	before := to.Query(t, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'kept'")

	// Without the globals every missing role is named.
	p := prepare(t, to, m, c, repo.NewID(), job.Restore{Jobs: 2})
	err := p.Plan().Err()
	if !errors.Is(err, errs.NotFound) || !strings.Contains(strings.Join(p.Plan().Lines(), "\n"), "refused: database app: role ann: it does not exist") {
		t.Errorf("%v\n%s", err, strings.Join(p.Plan().Lines(), "\n"))
	}
	// "postgres" is replaced, for it was never used.
	whole := prepare(t, to, m, c, repo.NewID(), job.Restore{Jobs: 2, Globals: true})
	out := whole.Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err, out.Problems)
	}
	if parameters {
		query := "SELECT parname, privilege_type, is_grantable FROM pg_parameter_acl, aclexplode(paracl) WHERE grantee = 'ann'::regrole ORDER BY 1"
		if want, got := fmt.Sprint(from.Query(t, "postgres", query)), fmt.Sprint(to.Query(t, "postgres", query)); got != want || !strings.Contains(got, "my.thing") {
			t.Errorf("privileges on parameters %s, want %s", got, want)
		}
		lines := strings.Join(whole.Plan().Lines(), "\n")
		if !strings.Contains(lines, `GRANT SET ON PARAMETER "log_min_messages" TO PUBLIC;`) || to.Query(t, "postgres", "SELECT count(*) FROM pg_parameter_acl, aclexplode(paracl) WHERE grantee = 0")[0][0] != "0" {
			t.Errorf("what everybody had: %s", lines)
		}
	}
	query := `SELECT rolname, rolcanlogin, rolconnlimit, rolvaliduntil, shobj_description(oid, 'pg_authid'), rolpassword, (SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid),
		(SELECT string_agg(member::regrole::text || admin_option, ',') FROM pg_auth_members WHERE roleid = r.oid) FROM pg_authid r WHERE rolname IN ('ann', 'team') ORDER BY 1`
	if want, got := from.Query(t, "postgres", query), to.Query(t, "postgres", query); len(got) != 2 || strings.Join(want[0], "|")+strings.Join(want[1], "|") != strings.Join(got[0], "|")+strings.Join(got[1], "|") {
		t.Errorf("roles\n%v\n%v", want, got)
	}
	if after := to.Query(t, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'kept'"); after[0][0] != before[0][0] {
		t.Error("the password of a role that existed was changed")
	}
	if n := to.Query(t, "app", "SELECT count(*), (SELECT datdba::regrole FROM pg_database WHERE datname = 'app') FROM app.t")[0]; n[0] != "10" || n[1] != "ann" {
		t.Errorf("app: %v", n)
	}
	if n := to.Query(t, "postgres", "SELECT i FROM in_postgres"); len(n) != 1 {
		t.Errorf("postgres: %v", n)
	}
	if log := to.Log(); strings.Contains(log, "SCRAM") {
		t.Error("a password hash is in the server's log")
	}
	// Now it is used: once more is refused.
	if err := prepare(t, to, m, c, repo.NewID(), job.Restore{Globals: true}).Plan().Err(); !errors.Is(err, errs.Exists) {
		t.Errorf("%v", err)
	}
	// Without owners the roles are not needed.
	bare := pgtest.Start(t, pgtest.Options{})
	out = prepare(t, bare, m, c, repo.NewID(), job.Restore{NoOwner: true, Databases: []job.Mapping{{Source: "app"}}}).Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	if n := bare.Query(t, "app", "SELECT count(*), (SELECT relowner::regrole FROM pg_class WHERE relname = 't') FROM app.t")[0]; n[0] != "10" || n[1] != pgtest.Superuser {
		t.Errorf("without owners: %v", n)
	}
}
