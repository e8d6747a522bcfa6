package export

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// toc makes an archive of entries, which are numbered as they come from 1 on.
func toc(entries ...pgarchive.Entry) *pgarchive.Archive {
	a := &pgarchive.Archive{Version: pgarchive.Version{Major: 1, Minor: 14}}
	for i, e := range entries {
		e.ID = pgarchive.ID(i + 1)
		a.Entries = append(a.Entries, e)
	}
	if err := a.Link(); err != nil {
		panic(err)
	}
	return a
}

func made(desc string, tag pg.Name, oid uint32, defn string, deps ...pgarchive.ID) pgarchive.Entry {
	section := pgarchive.SectionPre
	switch desc {
	case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "EVENT TRIGGER", "MATERIALIZED VIEW DATA":
		section = pgarchive.SectionPost
	case "ACL", "COMMENT":
		section = pgarchive.SectionNone
	}
	e := pgarchive.Entry{Tag: tag, Desc: desc, OID: oid, Defn: defn, Section: section, Namespace: "s", Deps: deps}
	if desc == "TABLE" || desc == "SEQUENCE" {
		e.TableOID = pgarchive.ClassTable
	}
	return e
}

func rowsOf(oid uint32, name pg.Name, change ...func(*repo.Table)) repo.Table {
	t := repo.Table{OID: oid, Schema: "s", Name: name, Columns: []pg.Name{"a"}}
	for _, fn := range change {
		fn(&t)
	}
	return t
}

// order gives the steps as words.
func order(t *testing.T, a *pgarchive.Archive, tables ...repo.Table) ([]string, *layout) {
	t.Helper()
	l, err := compose(a, &repo.Database{Name: "d", Archive: &repo.Archive{Tool: 150000}, Tables: tables}, 150000)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, s := range l.steps {
		words = append(words, s.entry.Desc+" "+string(s.entry.Tag))
	}
	return words, l
}

// waits tells whether one entry waits for another, at any remove, as pg_restore
// in parallel sees it: what depends on a table waits for its rows after them.
func waits(l *layout, desc, tag, on string) bool {
	byID := map[pgarchive.ID]*step{}
	data := map[pgarchive.ID]pgarchive.ID{}
	for _, s := range l.steps {
		byID[s.entry.ID] = s
		if s.entry.Desc == "TABLE DATA" {
			data[s.entry.Deps[0]] = s.entry.ID
		}
	}
	var look func(s *step, depth int) bool
	look = func(s *step, depth int) bool {
		if depth > len(l.steps) {
			panic("a circle")
		}
		return slices.ContainsFunc(s.entry.Deps, func(d pgarchive.ID) bool {
			if rows, ok := data[d]; ok && s.entry.Section == pgarchive.SectionPost {
				d = rows
			}
			next := byID[d]
			return next != nil && (next.entry.Desc+" "+string(next.entry.Tag) == on || look(next, depth+1))
		})
	}
	return slices.ContainsFunc(l.steps, func(s *step) bool {
		return s.entry.Desc == desc && string(s.entry.Tag) == tag && look(s, 0)
	})
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	at := -1
	for _, w := range want {
		i := slices.Index(got, w)
		if i < 0 || i < at {
			t.Errorf("%q is not there or too early in:\n%s", w, strings.Join(got, "\n"))
			return
		}
		at = i
	}
}

func TestRowsThatFunctionsCheckComeAfterAllOthers(t *testing.T) {
	a := toc(made("FUNCTION", "allowed(integer)", 1, ""), made("DOMAIN", "d", 2, "CREATE DOMAIN s.d AS integer\n", 1), made("TABLE", "aaa", 3, "CREATE TABLE s.aaa (\n    a s.d\n);\n", 2),
		made("TABLE", "zzz", 4, "CREATE TABLE s.zzz (\n    a integer\n);\n"), made("TABLE", "child", 5, "CREATE TABLE s.child (\n    a integer\n);\n", 3), made("INDEX", "i", 6, "", 3))
	got, l := order(t, a, rowsOf(3, "aaa"), rowsOf(4, "zzz"), rowsOf(5, "child"))
	want(t, got, "TABLE DATA zzz", "TABLE DATA aaa", "INDEX i")
	want(t, got, "TABLE DATA child", "TABLE DATA aaa")
	if !waits(l, "TABLE DATA", "aaa", "TABLE DATA zzz") || waits(l, "TABLE DATA", "zzz", "TABLE DATA aaa") || waits(l, "TABLE DATA", "child", "TABLE DATA zzz") {
		t.Error("the wrong rows wait")
	}
}

func TestWhatIsOnAPartitionedTableWaitsForAllPartitions(t *testing.T) {
	a := toc(made("TABLE", "root", 1, ""), made("TABLE", "mid", 2, "", 1), made("TABLE", "p1", 3, "", 2), made("TABLE", "p2", 4, "", 1), made("TABLE", "other", 5, ""),
		made("CONSTRAINT", "other_pkey", 6, "", 5), made("INDEX", "p1_i", 7, "", 3), made("FK CONSTRAINT", "root_fk", 8, "", 1, 6), made("TRIGGER", "mid_t", 9, "", 2))
	leaf := func(route bool) func(*repo.Table) {
		return func(t *repo.Table) { t.Root, t.RootSchema, t.RootName, t.LoadViaRoot = 1, "s", "root", route }
	}
	for _, route := range []bool{false, true} {
		got, l := order(t, a, rowsOf(3, "p1", leaf(route)), rowsOf(4, "p2", leaf(route)), rowsOf(5, "other"))
		want(t, got, "TABLE DATA p1", "TABLE DATA p2", "INDEX p1_i", "FK CONSTRAINT root_fk")
		for _, leaf := range []string{"TABLE DATA p1", "TABLE DATA p2"} {
			if !waits(l, "FK CONSTRAINT", "root_fk", leaf) || !waits(l, "TRIGGER", "mid_t", leaf) {
				t.Errorf("route %t: %s is not waited for", route, leaf)
			}
		}
		if waits(l, "INDEX", "p1_i", "TABLE DATA p2") != route {
			t.Errorf("route %t: the index of one partition and the rows of another", route)
		}
		for _, s := range l.steps {
			if s.kind == stepRows && s.table.Root == 1 && strings.HasPrefix(s.entry.Defn, "-- load via partition root s.root") != route {
				t.Errorf("route %t: %q, %q", route, s.entry.Defn, s.entry.Copy)
			}
			if s.kind == stepRows && s.table.Root == 1 && strings.HasPrefix(s.entry.Copy, `COPY "s"."root" `) != route {
				t.Errorf("route %t: %q", route, s.entry.Copy)
			}
		}
	}
}

func TestRowsThatNameIndexesComeAfterThem(t *testing.T) {
	a := toc(made("TABLE", "aaa", 1, "CREATE TABLE s.aaa (\n    a regclass,\n    b integer\n);\n"), made("TABLE", "zzz", 2, "CREATE TABLE s.zzz (\n    a integer\n);\n"),
		made("CONSTRAINT", "aaa_pkey", 3, "", 1), made("TRIGGER", "aaa_t", 4, "", 1), made("TRIGGER", "zzz_t", 5, "", 2), made("CONSTRAINT", "zzz_pkey", 6, "", 2), made("INDEX", "zzz_i", 7, "", 2),
		made("FK CONSTRAINT", "zzz_fk", 8, "", 2, 3))
	got, l := order(t, a, rowsOf(1, "aaa"), rowsOf(2, "zzz"))
	want(t, got, "TABLE DATA zzz", "CONSTRAINT zzz_pkey", "INDEX zzz_i", "TABLE DATA aaa", "CONSTRAINT aaa_pkey", "FK CONSTRAINT zzz_fk")
	want(t, got, "TABLE DATA aaa", "TRIGGER aaa_t")
	if !waits(l, "TABLE DATA", "aaa", "INDEX zzz_i") || !waits(l, "CONSTRAINT", "aaa_pkey", "TABLE DATA aaa") || waits(l, "TABLE DATA", "aaa", "CONSTRAINT aaa_pkey") {
		t.Error("the wrong things wait")
	}
}

func TestConfigurationIsLoadedParentsFirstAndCirclesWithoutForeignKeys(t *testing.T) {
	of := func(refs ...uint32) func(*repo.Table) {
		return func(t *repo.Table) { t.Extension, t.References = "x", refs }
	}
	a := toc(made("EXTENSION", "x", 1, ""))
	got, l := order(t, a, rowsOf(10, "a_child", of(11)), rowsOf(11, "b_parent", of()), rowsOf(12, "c_circle", of(13)), rowsOf(13, "d_circle", of(12, 11)), rowsOf(14, "e_behind", of(12)))
	want(t, got, "EXTENSION x", "TABLE DATA b_parent", "TABLE DATA a_child", "TABLE DATA c_circle")
	if !waits(l, "TABLE DATA", "a_child", "TABLE DATA b_parent") {
		t.Error("the child does not wait")
	}
	for _, s := range l.steps {
		if off := strings.Contains(s.entry.Copy, "session_replication_role"); s.kind == stepRows && (off != s.replica || off != (s.table.OID >= 12)) {
			t.Errorf("%s: %q", s.entry.Tag, s.entry.Copy)
		}
	}
}

func TestEventTriggersComeLast(t *testing.T) {
	a := toc(made("EVENT TRIGGER", "e", 1, ""), made("COMMENT", "EVENT TRIGGER e", 2, "", 1), made("MATERIALIZED VIEW DATA", "m", 3, ""), made("INDEX", "i", 4, ""))
	got, l := order(t, a)
	want(t, got, "MATERIALIZED VIEW DATA m", "INDEX i", "EVENT TRIGGER e", "COMMENT EVENT TRIGGER e")
	if !waits(l, "EVENT TRIGGER", "e", "MATERIALIZED VIEW DATA m") {
		t.Error("the event trigger does not wait for the refresh")
	}
}

// Whatever there is, everything is there once, nothing comes before what it
// needs, and there is no circle.
func TestEveryOrderKeepsWhatItWasGiven(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		var entries []pgarchive.Entry
		var tables []repo.Table
		var relations []pgarchive.ID
		pick := func(n int) (ids []pgarchive.ID) {
			for range random.IntN(n + 1) {
				if len(entries) > 0 {
					ids = append(ids, pgarchive.ID(1+random.IntN(len(entries))))
				}
			}
			return ids
		}
		for i := range 5 + random.IntN(25) {
			oid := uint32(100 + i)
			switch random.IntN(4) {
			case 0:
				entries = append(entries, made("FUNCTION", pg.Name(fmt.Sprint("f", i)), oid, ""))
			default:
				typ := []string{"integer", "regclass", "text"}[random.IntN(3)]
				name := pg.Name(fmt.Sprint("t", i))
				e := made("TABLE", name, oid, fmt.Sprintf("CREATE TABLE s.%s (\n    a %s\n);\n", name, typ), pick(2)...)
				entries = append(entries, e)
				relations = append(relations, pgarchive.ID(len(entries)))
				if random.IntN(4) > 0 {
					table := rowsOf(oid, name)
					if random.IntN(3) == 0 {
						root := entries[relations[random.IntN(len(relations))]-1]
						table.Root, table.RootSchema, table.RootName, table.LoadViaRoot = root.OID, "s", root.Tag, random.IntN(2) == 0
					}
					tables = append(tables, table)
				}
			}
		}
		for i := range random.IntN(30) {
			desc := []string{"INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "MATERIALIZED VIEW DATA", "EVENT TRIGGER"}[random.IntN(6)]
			entries = append(entries, made(desc, pg.Name(fmt.Sprint("x", i)), uint32(1000+i), "", pick(3)...))
		}
		got, l := order(t, toc(entries...), tables...)
		place := map[pgarchive.ID]int{}
		rows := map[pgarchive.ID]int{} // TABLE to the place of its rows
		for i, s := range l.steps {
			if _, twice := place[s.entry.ID]; twice {
				t.Fatalf("entry %d is there twice", s.entry.ID)
			}
			place[s.entry.ID] = i
			if s.kind == stepRows {
				rows[s.entry.Deps[0]] = i
			}
		}
		if n := len(entries) + len(tables); len(place) < n {
			t.Fatalf("%d steps, want %d", len(place), n)
		}
		for i, s := range l.steps {
			for _, d := range s.entry.Deps {
				// An event trigger that something of the archive depends on cannot be last.
				if at, ok := place[d]; ok && at > i && entryDesc(entries, d) != "EVENT TRIGGER" {
					t.Fatalf("%s comes before what it depends on, %d:\n%s", got[i], d, strings.Join(got, "\n"))
				}
				if at, ok := rows[d]; ok && s.entry.Section == pgarchive.SectionPost && at > i {
					t.Fatalf("%s comes before the rows of table %d:\n%s", got[i], d, strings.Join(got, "\n"))
				}
			}
		}
	}
}

func entryDesc(entries []pgarchive.Entry, id pgarchive.ID) string {
	if int(id) > len(entries) {
		return ""
	}
	return entries[id-1].Desc
}
