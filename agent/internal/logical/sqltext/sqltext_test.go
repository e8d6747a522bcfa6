package sqltext_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
)

func TestRolesAreFoundAndMappedInWhatPgDumpWrites(t *testing.T) {
	for _, c := range []struct {
		desc, sql string
		want      []pg.Name
		mapped    string
	}{
		{"ACL", "REVOKE ALL ON TABLE s.t FROM owner;\nGRANT SELECT ON TABLE s.t TO PUBLIC;\nGRANT ALL ON TABLE s.\"to x\" TO \"odd \"\"role\" WITH GRANT OPTION;\n",
			[]pg.Name{"owner", `odd "role`},
			"REVOKE ALL ON TABLE s.t FROM \"owner!\";\nGRANT SELECT ON TABLE s.t TO PUBLIC;\nGRANT ALL ON TABLE s.\"to x\" TO \"odd \"\"role!\" WITH GRANT OPTION;\n"},
		{"ACL", "SET SESSION AUTHORIZATION giver;\nGRANT SELECT(a) ON TABLE t TO b;\nRESET SESSION AUTHORIZATION;\n", []pg.Name{"giver", "b"},
			"SET SESSION AUTHORIZATION \"giver!\";\nGRANT SELECT(a) ON TABLE t TO \"b!\";\nRESET SESSION AUTHORIZATION;\n"},
		{"ACL", "GRANT SELECT ON TABLE s.role TO b;\n", []pg.Name{"b"}, "GRANT SELECT ON TABLE s.role TO \"b!\";\n"},
		{"ACL", "GRANT SELECT(role,\"from\") ON TABLE s.owner TO owner;\n", []pg.Name{"owner"}, "GRANT SELECT(role,\"from\") ON TABLE s.owner TO \"owner!\";\n"},
		{"DEFAULT ACL", "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES  TO r;\n", []pg.Name{"o", "r"},
			"ALTER DEFAULT PRIVILEGES FOR ROLE \"o!\" IN SCHEMA s GRANT SELECT ON TABLES  TO \"r!\";\n"},
		{"POLICY", "CREATE POLICY p ON s.rls FOR SELECT TO a, \"b c\" USING ((who = 'x TO y'::text));\n", []pg.Name{"a", "b c"},
			"CREATE POLICY p ON s.rls FOR SELECT TO \"a!\", \"b c!\" USING ((who = 'x TO y'::text));\n"},
		{"POLICY", "CREATE POLICY p ON s.rls USING ((who = 'a'));\n", nil, "CREATE POLICY p ON s.rls USING ((who = 'a'));\n"},
		{"POLICY", "CREATE POLICY p ON s.rls USING ((d > '1'::interval year to month));\n", nil, "CREATE POLICY p ON s.rls USING ((d > '1'::interval year to month));\n"},
		{"USER MAPPING", "CREATE USER MAPPING FOR u SERVER s OPTIONS (\n    password 'FOR x'\n);\n", []pg.Name{"u"},
			"CREATE USER MAPPING FOR \"u!\" SERVER s OPTIONS (\n    password 'FOR x'\n);\n"},
		{"USER MAPPING", "CREATE USER MAPPING FOR PUBLIC SERVER s;\n", nil, "CREATE USER MAPPING FOR PUBLIC SERVER s;\n"},
		{"TABLE", "CREATE TABLE t (x text DEFAULT 'TO y');\n", nil, "CREATE TABLE t (x text DEFAULT 'TO y');\n"},
		{"OWNER", "ALTER SUBSCRIPTION s OWNER TO o", []pg.Name{"o"}, `ALTER SUBSCRIPTION s OWNER TO "o!"`},
	} {
		if d := cmp.Diff(c.want, sqltext.Roles(c.desc, c.sql)); d != "" {
			t.Errorf("%s %s: %s", c.desc, c.sql, d)
		}
		if d := cmp.Diff(c.mapped, sqltext.MapRoles(c.desc, c.sql, func(r pg.Name) pg.Name { return r + "!" })); d != "" {
			t.Errorf("%s %s: %s", c.desc, c.sql, d)
		}
	}
}

func TestARoleThatCannotBeMappedIsNoticed(t *testing.T) {
	for sql, want := range map[string]bool{
		"CREATE POLICY p ON s.t USING ((CURRENT_USER = 'clerk'::name));":                              true,
		"CREATE FUNCTION s.f() RETURNS void LANGUAGE sql SET role TO 'clerk' AS $$ SELECT 1 $$;":      true,
		"CREATE FUNCTION s.f() RETURNS void LANGUAGE sql SET role TO clerk AS $$ SELECT 1 $$;":        true,
		"CREATE FUNCTION s.f() RETURNS void LANGUAGE sql AS $_$ SELECT pg_has_role('clerk', $1) $_$;": true,
		"CREATE TABLE s.clerk (clerk text DEFAULT 'a clerk'::text);":                                  false,
		"CREATE FUNCTION s.f() RETURNS void LANGUAGE sql AS $$ SELECT 'it''s clerk' $$;":              false,
	} {
		if got := sqltext.Mentions(sql, "clerk"); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}

func TestObjectsMoveToAnotherSchemaAndNothingElse(t *testing.T) {
	moved := map[sqltext.QualifiedName]bool{{Schema: "s", Name: "t"}: true, {Schema: "s", Name: "t_id_seq"}: true, {Schema: "odd \"s", Name: "T x"}: true, {Schema: "s", Name: "kind"}: true}
	to := func(q sqltext.QualifiedName) (pg.Name, bool) { return "side", moved[q] }
	for sql, want := range map[string]string{
		"CREATE TABLE s.t (\n    id integer NOT NULL,\n    k s.kind DEFAULT 'a'::s.kind,\n    o s.other\n);": "CREATE TABLE \"side\".t (\n    id integer NOT NULL,\n    k \"side\".kind DEFAULT 'a'::\"side\".kind,\n    o s.other\n);",
		"ALTER TABLE ONLY s.t ALTER COLUMN id SET DEFAULT nextval('s.t_id_seq'::regclass);":                  `ALTER TABLE ONLY "side".t ALTER COLUMN id SET DEFAULT nextval('"side"."t_id_seq"'::regclass);`,
		"ALTER SEQUENCE s.t_id_seq OWNED BY s.t.id;":                                                         `ALTER SEQUENCE "side".t_id_seq OWNED BY "side".t.id;`,
		"COMMENT ON COLUMN s.t.t IS 's.t';":                                                                  `COMMENT ON COLUMN "side".t.t IS 's.t';`,
		`ALTER TABLE ONLY "odd ""s"."T x" ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES s.t(id);`:              `ALTER TABLE ONLY "side"."T x" ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES "side".t(id);`,
		"ALTER TABLE x.s ADD CHECK (((s).t > 0));":                                                           "ALTER TABLE x.s ADD CHECK (((s).t > 0));",
		"ALTER TABLE x.s ADD CHECK ((a.s.t > 0));":                                                           "ALTER TABLE x.s ADD CHECK ((a.s.t > 0));",
		"CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS $$ SELECT s.t $$;":                                "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS $$ SELECT s.t $$;",
		"SELECT 's.t'::text, 'x.y'::regclass, 'nonsense'::regclass, 's.t'::pg_catalog.regclass":              `SELECT 's.t'::text, 'x.y'::regclass, 'nonsense'::regclass, '"side"."t"'::pg_catalog.regclass`,
	} {
		if d := cmp.Diff(want, sqltext.Move(sql, to)); d != "" {
			t.Errorf("%s", d)
		}
	}
}

func TestWhatAStatementIsAboutIsRead(t *testing.T) {
	if q, ok := sqltext.OwnedBy(`ALTER SEQUENCE s.x OWNED BY "S 2".t.id;`); !ok || q != (sqltext.QualifiedName{Schema: "S 2", Name: "t"}) {
		t.Error(q, ok)
	}
	if _, ok := sqltext.OwnedBy("ALTER SEQUENCE s.x OWNED BY NONE;"); ok {
		t.Error("NONE is a table")
	}
	if q, ok := sqltext.Object("DROP FUNCTION s.\"f(x\"(a integer, b s.t);\n"); !ok || q.Name != "f(x" {
		t.Error(q, ok)
	}
	const table, attach = "CREATE TABLE s.leaf (\n    k integer\n);\n", "ALTER TABLE ONLY s.root ATTACH PARTITION s.leaf FOR VALUES FROM (0) TO (100);\n"
	parent, without, ok := sqltext.Attached(table + attach)
	if !ok || parent != (sqltext.QualifiedName{Schema: "s", Name: "root"}) || without != table+"\n" {
		t.Errorf("%v %q %v", parent, without, ok)
	}
	if _, without, ok := sqltext.Attached(table); ok || without != table {
		t.Error("a table alone is attached")
	}
}

func FuzzNothingFails(f *testing.F) {
	f.Add("CREATE TABLE s.t (a text DEFAULT 'x'::regclass, $$ $a$ \"")
	f.Fuzz(func(t *testing.T, sql string) {
		for _, k := range sqltext.Tokens(sql) {
			if k.Start < 0 || k.End > len(sql) || k.Start >= k.End {
				t.Fatalf("token %+v of %q", k, sql)
			}
		}
		if got := sqltext.Move(sql, func(sqltext.QualifiedName) (pg.Name, bool) { return "", false }); got != sql {
			t.Fatalf("%q became %q", sql, got)
		}
		sqltext.Mentions(sql, "x")
		sqltext.Attached(sql)
		sqltext.OwnedBy(sql)
		sqltext.MapRoles("ACL", sql, func(r pg.Name) pg.Name { return r + "1" })
	})
}
