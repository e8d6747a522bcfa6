package factsql_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestPrivilegesAreGrantedByThoseWhoGrantedThemInAnOrderThatWorks(t *testing.T) {
	got := factsql.Grants(`DATABASE "d"`, "o", repo.ACL{
		{Grantee: "c", Grantor: "b", Privilege: "CONNECT"}, {Grantee: "", Grantor: "o", Privilege: "CONNECT"},
		{Grantee: "b", Grantor: "o", Privilege: "CONNECT", Grantable: true}, {Grantee: "o", Grantor: "o", Privilege: "CREATE", Grantable: true},
		{Grantee: "x", Grantor: "", Privilege: "DROP; --"}})
	want := []factsql.Grant{{SQL: `REVOKE ALL ON DATABASE "d" FROM PUBLIC`}, {SQL: `REVOKE ALL ON DATABASE "d" FROM "o"`},
		{SQL: `GRANT CREATE ON DATABASE "d" TO "o"`}, {SQL: `GRANT CONNECT ON DATABASE "d" TO "b" WITH GRANT OPTION`}, {SQL: `GRANT CONNECT ON DATABASE "d" TO PUBLIC`},
		{SQL: `GRANT CONNECT ON DATABASE "d" TO "c"`, As: "b"}, {SQL: `GRANT NOTHING ON DATABASE "d" TO "x"`}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := factsql.Grants("DATABASE d", "o", nil); got != nil {
		t.Errorf("what a new object has: %v", got)
	}
	if got := factsql.Grants("DATABASE d", "o", repo.ACL{}); len(got) != 2 {
		t.Errorf("no privileges at all: %v", got)
	}
}

func TestParametersAreNamedByPartsAndGrantedToEverybody(t *testing.T) {
	got := factsql.ParameterGrants(repo.ParameterFacts{Name: "pgaudit.log", ACL: repo.ACL{{Grantee: "a", Privilege: "SET", Grantable: true}, {Privilege: "ALTER SYSTEM"}}})
	want := []string{`GRANT SET ON PARAMETER "pgaudit"."log" TO "a" WITH GRANT OPTION`, `GRANT ALTER SYSTEM ON PARAMETER "pgaudit"."log" TO PUBLIC`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSettingsAreWrittenAsTheyWereMeant(t *testing.T) {
	for in, want := range map[string]string{
		`search_path="$user", public`:      `SET "search_path" TO '$user', 'public'`,
		`search_path=""`:                   `SET "search_path" TO ''`,
		`search_path="a, b", "c""d"`:       `SET "search_path" TO 'a, b', 'c"d'`,
		`search_path="a""", b`:             `SET "search_path" TO 'a"', 'b'`,
		`work_mem=7MB`:                     `SET "work_mem" TO '7MB'`,
		`my.thing=it's = a, b`:             `SET "my"."thing" TO 'it''s = a, b'`,
		`log_line_prefix=\x`:               `SET "log_line_prefix" TO E'\\x'`,
		`temp_tablespaces=`:                `SET "temp_tablespaces" TO ''`,
		`DateStyle=SQL, DMY`:               `SET "DateStyle" TO 'SQL, DMY'`,
		`default_transaction_read_only=on`: `SET "default_transaction_read_only" TO 'on'`,
	} {
		if _, got, ok := factsql.Setting(in); !ok || got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	for _, bad := range []string{"nonsense", "=x"} {
		if _, _, ok := factsql.Setting(bad); ok {
			t.Errorf("%q was taken for a setting", bad)
		}
	}
}

func TestDatabasesAreCreatedAsTheSourceWas(t *testing.T) {
	libc := repo.DatabaseProperties{Provider: "libc", Collate: "de_DE.UTF-8", Ctype: "C", Tablespace: "pg_default"}
	icu := repo.DatabaseProperties{Provider: "icu", Collate: "C", Ctype: "C", Locale: "und", ICURules: "&a < b", Tablespace: "fast"}
	builtin := repo.DatabaseProperties{Provider: "builtin", Collate: "C", Ctype: "C", Locale: "C.UTF-8"}
	const head = `CREATE DATABASE "tmp" TEMPLATE template0 ENCODING 'UTF8' `
	for _, c := range []struct {
		p       repo.DatabaseProperties
		version pg.Version
		want    string
	}{
		{libc, 130016, `LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C'`},
		{libc, 150018, `LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C' LOCALE_PROVIDER libc`},
		{icu, 150018, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' TABLESPACE "fast"`},
		{icu, 160000, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&a < b' TABLESPACE "fast"`},
		{builtin, 170000, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'`},
	} {
		if got := factsql.CreateDatabase("tmp", "UTF8", c.p, c.version); got != head+c.want {
			t.Errorf("%s: %s", c.version, got)
		}
	}
}

func TestMembershipsAreSaidInTheWordsOfTheVersion(t *testing.T) {
	yes, no := true, false
	m := repo.MembershipFacts{Role: "r", Member: "m", Admin: true, Inherit: &no, Set: &yes}
	for version, want := range map[pg.Version]string{150018: `GRANT "r" TO "m" WITH ADMIN OPTION`, 160000: `GRANT "r" TO "m" WITH ADMIN TRUE, INHERIT FALSE, SET TRUE`} {
		if got := factsql.Membership(m, version); got != want {
			t.Errorf("%d: %s", version, got)
		}
	}
	if got := factsql.Membership(repo.MembershipFacts{Role: "r", Member: "m"}, 160000); got != `GRANT "r" TO "m"` {
		t.Error(got)
	}
}
