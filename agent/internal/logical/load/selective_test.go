package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// relations lists what is in a database, with the rows of tables.
func relations(t *testing.T, s *pgtest.Server, db string) []string {
	t.Helper()
	var all []string
	for _, row := range s.Query(t, db, `SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text || CASE WHEN c.relkind IN ('r', 'm') AND c.relispopulated
			THEN ' ' || (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM ONLY %I.%I', n.nspname, c.relname), false, true, '')))[1]::text ELSE '' END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind NOT IN ('i', 'I', 't')
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1`) {
		all = append(all, row[0])
	}
	return all
}

func selected(t *testing.T, s *pgtest.Server, m *memory, c *repo.Content, db string, change func(*job.Restore)) (string, load.Outcome, string) {
	t.Helper()
	to := pgtest.Unique("part")
	out := restoreAs(t, s, m, c, db, to, change)
	var text []string
	for _, p := range out.Problems {
		text = append(text, p.Object+": "+p.Reason)
	}
	if left := databases(t, s); left != nil {
		t.Errorf("left behind: %v", left)
	}
	return to, out, strings.Join(text, "\n")
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not said:\n%s", w, text)
		}
	}
}

// planText is all that a person is told of a plan.
func planText(p *load.Restore) string {
	return strings.Join(p.Plan().Lines(), "\n") + "\n" + problems(p.Plan().Warnings) + "\n" + problems(p.Plan().Refusals)
}

func TestTablesAreRestoredWithWhatTheyNeed(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	s.Exec(t, db, "SET default_transaction_read_only = off", "SET session_replication_role = replica", "CREATE TABLE s1.uses_all (c s1.colour DEFAULT 'red', p s1.positive, n int DEFAULT s1.f(1), h public.hstore, t text COLLATE s1.coll, free int DEFAULT nextval('s1.seq_small')); "+
		"INSERT INTO s1.uses_all VALUES ('blue', 7, 3, 'a=>1', 'x', 9); CREATE FUNCTION s1.low(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT lower($1) $$; "+
		"CREATE INDEX by_low ON s1.uses_all (s1.low(t)); ALTER TABLE s1.uses_all ADD FOREIGN KEY (n) REFERENCES s1.t_serial; COMMENT ON TABLE s1.uses_all IS 'it'")
	m, c := backUp(t, s, db)

	for name, x := range map[string]struct {
		schemas, tables []string
		want            []string
		said            []string
	}{
		"a table with its types, functions, sequence and extension": {tables: []string{"s1.uses_all"},
			want: []string{"s1.seq_small S", "s1.uses_all r 1"}, said: []string{"uses_all_n_fkey: left out: it needs TABLE s1.t_serial, which is not selected", "large objects: 5 of them"}},
		"a table and the one it refers to": {tables: []string{"s1.t_fk", "t_ser*"},
			want: []string{"s1.t_fk r 2", "s1.t_serial r 5", "s1.t_serial_id_seq S"}, said: []string{"MATERIALIZED VIEW s1.mv: not selected: it reads TABLE s1.t_serial"}},
		"a partitioned table with its partitions": {tables: []string{"pt"},
			want: []string{"s1.pt p", "s1.pt1 r 50", "s1.pt2 r 51"}, said: []string{"pt_ref_fkey: left out"}},
		"a partition by itself": {tables: []string{"pt2"},
			want: []string{"s1.pt2 r 51"}, said: []string{"TABLE s1.pt2: becomes a plain table: TABLE s1.pt, of which it is a partition, is not selected"}},
		"hash partitions by enum, nested": {tables: []string{"s1.hp"}, want: nil},
		"a table that inherits": {tables: []string{"s1.chi"},
			want: []string{"s1.chi r 2", "s1.par r 0"}},
		"identity columns":          {tables: []string{"s1.t_ident"}, want: []string{"s1.t_ident r 10", "s1.t_ident_id_seq S", "s1.t_ident_idd_seq S"}},
		"an odd name":               {tables: []string{`"odd "" name\"`}, want: []string{`public.odd " name\ r 2`}},
		"a view with what it reads": {tables: []string{"s1.vw", "s1.t_gen"}, want: []string{"s1.t_gen r 2", "s1.vw v"}},
		"materialized views of each other": {tables: []string{"s1.mv*", "s1.t_serial"},
			want: []string{"s1.mv m 1", "s1.mv2 m 1", "s1.mv_nodata m", "s1.t_serial r 5", "s1.t_serial_id_seq S"}},
		"a schema":                  {schemas: []string{"public"}, tables: []string{"s1.clustered", "s1.pt", "s1.t_gen"}, want: nil},
		"row security and policies": {tables: []string{"s1.rls"}, want: []string{"s1.rls r 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			to, out, text := selected(t, s, m, c, db, func(r *job.Restore) { r.Schemas, r.Tables = x.schemas, x.tables })
			got := relations(t, s, to)
			if x.want != nil {
				if d := cmp.Diff(x.want, got); d != "" {
					t.Error(d)
				}
			}
			says(t, text, x.said...)
			if r := out.Databases[0]; !r.Complete || r.TablesVerified+r.TablesCompared != r.Tables {
				t.Errorf("%+v", r)
			}
			if name == "hash partitions by enum, nested" && s.Query(t, to, "SELECT count(*) FROM s1.hp")[0][0] != "12" {
				t.Error("rows are missing")
			}
		})
	}
}

func TestWhatBelongsToATableComesWithIt(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	m, c := backUp(t, s, db)
	tables := []string{"s1.t_serial", "s1.t_fk", "s1.t_gen", "s1.vw", "s1.pt", "s1.rls", "s1.excl", "s1.clustered", "s1.t_ident"}
	to, _, _ := selected(t, s, m, c, db, func(r *job.Restore) { r.Tables = tables })
	for what, query := range map[string]string{
		"indexes": `SELECT pg_get_indexdef(i.indexrelid), indisvalid, indisclustered FROM pg_index i JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname = 's1' AND relname IN ('t_serial', 't_fk', 't_gen', 'pt', 'pt1', 'pt2', 'rls', 'excl', 'clustered', 't_ident') ORDER BY 1`,
		"constraints": `SELECT conname, pg_get_constraintdef(k.oid), convalidated FROM pg_constraint k JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname = 's1' AND relname IN ('t_serial', 't_fk', 't_gen', 'pt', 'rls', 'excl') ORDER BY 1, 2`,
		"privileges":   "SELECT relname, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x), relowner::regrole FROM pg_class WHERE oid IN ('s1.t_gen'::regclass, 's1.t_serial'::regclass) ORDER BY 1",
		"columns' own": "SELECT attname, attacl FROM pg_attribute WHERE attrelid = 's1.t_gen'::regclass AND attacl IS NOT NULL",
		"policies":     "SELECT polname, polroles::regrole[] FROM pg_policy",
		"triggers":     "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN ('s1.t_serial'::regclass, 's1.pt'::regclass, 's1.t_ident'::regclass) ORDER BY 1",
		"rules":        "SELECT rulename FROM pg_rewrite WHERE ev_class = 's1.t_gen'::regclass",
		"comments":     "SELECT col_description('s1.t_gen'::regclass, 1), obj_description('s1.t_gen'::regclass), obj_description('s1.pt_v'::regclass)",
		"statistics":   "SELECT stxname, stxowner::regrole FROM pg_statistic_ext",
		"identity":     "SELECT relreplident FROM pg_class WHERE oid = 's1.t_serial'::regclass",
		"sequences":    "SELECT last_value, is_called FROM s1.t_serial_id_seq UNION ALL SELECT last_value, is_called FROM s1.t_ident_id_seq",
		"partitions":   "SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits WHERE inhparent IN ('s1.pt'::regclass, 's1.pt_pkey'::regclass, 's1.pt_v'::regclass) ORDER BY inhrelid::regclass::text",
		"security":     "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 's1.rls'::regclass",
		"schema":       "SELECT nspowner::regrole, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(nspacl) x) FROM pg_namespace WHERE nspname = 's1'",
	} {
		want, got := s.Query(t, db, query), s.Query(t, to, query)
		if d := cmp.Diff(want, got); d != "" || len(want) == 0 {
			t.Errorf("%s (-source +restored):\n%s", what, d)
		}
	}
}

func TestSectionsAreRestoredByThemselves(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	m, c := backUp(t, s, db)

	schemaOnly, out, _ := selected(t, s, m, c, db, func(r *job.Restore) { r.Sections = []job.Section{job.PreData, job.PostData} })
	if d := cmp.Diff(schema(t, s, db), schema(t, s, schemaOnly)); d != "" {
		t.Errorf("schema only (-source +restored):\n%s", d)
	}
	if out.Rows != 0 || s.Query(t, schemaOnly, "SELECT count(*) FROM public.big")[0][0] != "0" || s.Query(t, schemaOnly, "SELECT count(*) FROM pg_largeobject_metadata")[0][0] != "0" {
		t.Errorf("rows came: %d", out.Rows)
	}
	rows, _, text := selected(t, s, m, c, db, func(r *job.Restore) {
		r.Sections, r.Tables = []job.Section{job.PreData, job.Data}, []string{"s1.t_*", "s1.rls"}
	})
	if s.Query(t, rows, "SELECT count(*) FROM s1.t_serial")[0][0] != "5" || len(s.Query(t, rows, "SELECT 1 FROM pg_index WHERE indrelid = 's1.t_serial'::regclass")) != 0 {
		t.Error("without post-data there are rows and no indexes")
	}
	says(t, text, "row security: of 1 tables is not restored")
}

func TestAPatternThatMatchesNothingIsRefusedWithNearMatches(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	m, c := backUp(t, s, db)
	for pattern, want := range map[string]string{"s1.t_serail": "near matches: s1.t_serial", `"T_GEN"`: "near matches: s1.t_gen", "other.big": "near matches: public.big"} {
		p := prepare(t, s, m, c, repo.NewID(), job.Restore{Databases: []job.Mapping{{Source: db, Target: "x"}}, Tables: []string{"s1.pt", pattern}})
		if err := p.Plan().Err(); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", pattern, err)
		}
		says(t, planText(p), want)
	}
	p := prepare(t, s, m, c, repo.NewID(), job.Restore{Tables: []string{"nowhere"}})
	if err := p.Plan().Err(); !errors.Is(err, errs.NotFound) {
		t.Errorf("in no database: %v", err)
	}
	if _, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}}, c, repo.NewID(), job.Restore{Tables: []string{"a.b.c"}}); !errors.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestOnlyWhatIsSelectedIsRead(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	m, c := backUp(t, s, db)
	var mu = make(chan struct{}, 1)
	read := map[uint32]int64{}
	m.before = func(_ context.Context, e repo.ListEntry) error {
		mu <- struct{}{}
		read[0] += int64(e.Length)
		<-mu
		return nil
	}
	_, out, _ := selected(t, s, m, c, db, func(r *job.Restore) { r.Tables = []string{"s1.clustered"} })
	archive := database(c, db).Archive.Stream.Bytes
	if want := out.Bytes + 2*archive; read[0] != want { // the archive is read to plan and to restore
		t.Errorf("%d bytes were read, want %d: rows of %d and twice the archive of %d", read[0], want, out.Bytes, archive)
	}
	if out.Bytes > 100 {
		t.Errorf("three rows have %d bytes", out.Bytes)
	}
}

func TestRolesAndTablespacesStandForOthers(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	s.Exec(t, "postgres", "DO $$ BEGIN CREATE ROLE new_owner; CREATE ROLE new_reader; CREATE ROLE gone; EXCEPTION WHEN duplicate_object THEN NULL; END $$", "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE tv_old LOCATION ''")
	t.Cleanup(func() { s.Exec(t, "postgres", "DROP TABLESPACE tv_old") })
	s.Exec(t, db, "SET default_transaction_read_only = off", "SET session_replication_role = replica", "CREATE TABLE s1.placed (i int) TABLESPACE tv_old; CREATE INDEX placed_i ON s1.placed (i) TABLESPACE tv_old; "+
		"CREATE FUNCTION s1.mentions() RETURNS bool LANGUAGE sql AS $$ SELECT current_user = 'app_reader' $$; ALTER TABLE s1.placed OWNER TO gone", `ALTER ROLE app_reader IN DATABASE "`+db+`" SET role = 'app_owner'`)
	t.Cleanup(func() {
		s.Exec(t, db, "SET default_transaction_read_only = off", "SET session_replication_role = replica", "DROP TABLE IF EXISTS s1.placed")
	})
	m, c := backUp(t, s, db)
	to, out, text := selected(t, s, m, c, db, func(r *job.Restore) {
		r.Roles = []job.Mapping{{Source: "app_owner", Target: "new_owner"}, {Source: "app_reader", Target: "new_reader"}, {Source: "gone", Target: "new_owner"}}
		r.Tablespaces = []job.Mapping{{Source: "tv_old", Target: ""}}
	})
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	for what, query := range map[string]string{
		"owners":     "SELECT relname FROM pg_class WHERE relowner IN ('app_owner'::regrole, 'gone'::regrole)",
		"dependants": "SELECT classid::regclass, objid, refobjid::regrole FROM pg_shdepend WHERE refobjid IN ('app_owner'::regrole, 'app_reader'::regrole, 'gone'::regrole) AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
		"database":   "SELECT datname FROM pg_database WHERE datname = current_database() AND (datdba = 'app_owner'::regrole OR datacl::text ~ 'app_')",
		"settings":   "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (setrole = 'app_reader'::regrole OR setconfig::text ~ 'app_owner')",
		"space":      "SELECT relname FROM pg_class WHERE reltablespace = (SELECT oid FROM pg_tablespace WHERE spcname = 'tv_old')",
		"mapping":    "SELECT 1 FROM pg_user_mappings WHERE usename = 'app_reader'",
		"objects":    "SELECT oid FROM pg_largeobject_metadata WHERE lomowner = 'app_owner'::regrole OR lomacl::text ~ 'app_'",
	} {
		if got := s.Query(t, to, query); len(got) != 0 {
			t.Errorf("%s still of the old names: %v", what, got)
		}
	}
	if got := s.Query(t, to, "SELECT polroles::regrole[], (SELECT relowner::regrole FROM pg_class WHERE relname = 't_serial'), (SELECT umoptions FROM pg_user_mappings WHERE usename = 'new_reader') FROM pg_policy")[0]; got[0] != "{new_reader}" || got[1] != "new_owner" || !strings.Contains(got[2], "user=u") {
		t.Errorf("%v", got)
	}
	says(t, text, "FUNCTION s1.mentions(): its text names role app_reader, which is mapped to another; the text is left as it is")
	if slices.ContainsFunc(out.Problems, func(p repo.Problem) bool { return p.Severity == "error" }) {
		t.Errorf("%v", out.Problems)
	}
	p := prepare(t, s, m, c, repo.NewID(), job.Restore{Databases: []job.Mapping{{Source: db, Target: "x"}}, Roles: []job.Mapping{{Source: "app_owner", Target: "nobody_here"}}})
	says(t, planText(p), "role nobody_here: it does not exist")
}
