package load_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestEveryKindOfObjectComesBackEqual(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	to := pgtest.Unique("back")
	m, c := backUp(t, s, db)
	out := restoreAs(t, s, m, c, db, to, nil)

	if d := cmp.Diff(schema(t, s, db), schema(t, s, to)); d != "" {
		t.Errorf("schema (-source +restored):\n%s", d)
	}
	_, again := backUp(t, s, to)
	if d := cmp.Diff(contents(c, db), contents(again, to)); d != "" {
		t.Errorf("contents (-source +restored):\n%s", d)
	}
	for name, query := range map[string]string{
		"hash partitions": "SELECT c, n FROM s1.hp ORDER BY 1, 2",
		"materialized":    "SELECT c, (SELECT c FROM s1.mv2) FROM s1.mv",
		"unpopulated":     "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1",
		"valid indexes":   "SELECT indexrelid::regclass::text, indisvalid, indisready, indisclustered FROM pg_index WHERE indrelid::regclass::text !~ '^pg_' ORDER BY 1",
		"fired triggers":  "SELECT count(*) FROM s1.counted",
		"subscription":    "SELECT subname, subenabled, subconninfo, subslotname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
		"mapping":         "SELECT (SELECT array_agg(o ORDER BY o) FROM unnest(umoptions) o) FROM pg_user_mappings",
		"objects":         "SELECT m.oid, lomowner::regrole, lomacl, obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY 1",
		"hole":            "SELECT encode(lo_get(90004, 999990, 30), 'hex'), length(lo_get(90005))",
		"database": `SELECT datdba::regrole, encoding, datcollate, datctype, to_jsonb(d) ->> 'datlocprovider', datconnlimit, datistemplate, datallowconn, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x),
			shobj_description(oid, 'pg_database') FROM pg_database d WHERE datname = current_database()`,
		"settings":      "SELECT setrole::regrole, setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
		"configuration": "SELECT * FROM public.tvcfg_conf ORDER BY id",
		"event trigger": "SELECT evtname, evtenabled, obj_description(oid, 'pg_event_trigger') FROM pg_event_trigger",
	} {
		want, got := s.Query(t, db, query), s.Query(t, to, query)
		if d := cmp.Diff(want, got); d != "" || len(want) == 0 {
			t.Errorf("%s (-source +restored):\n%s", name, d)
		}
	}
	r := out.Databases[0]
	if !r.Complete || r.TablesVerified+r.TablesCompared != r.Tables || r.TablesVerified == 0 || r.TablesCompared == 0 || r.Rows < 20000 || r.Target != to || r.Database != db {
		t.Errorf("result: %+v", r)
	}
	out.Problems = ofDatabases(out.Problems)
	out.Problems = slices.DeleteFunc(out.Problems, func(p repo.Problem) bool { return p.Object == "pg_dump" }) // of the circle on purpose
	if len(out.Problems) != 2 || !strings.Contains(out.Problems[0].Reason+out.Problems[1].Reason, "restored disabled") {
		t.Errorf("problems: %+v", out.Problems) // and the extension's own table
	}
	second := pgtest.Unique("again")
	out = restoreAs(t, s, m, c, db, second, func(r *job.Restore) { r.ReadBack = true })
	if r := out.Databases[0]; r.TablesVerified != r.Tables || r.TablesCompared != 0 {
		t.Errorf("result with everything read back: %+v", r)
	}
	if left := databases(t, s); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
