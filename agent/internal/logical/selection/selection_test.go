package selection_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestPatternsMatchAsInPsql(t *testing.T) {
	for _, c := range []struct {
		pattern      string
		schema, name pg.Name
		want         bool
	}{
		{"orders", "sales", "orders", true},
		{"ORDERS", "sales", "orders", true},
		{"orders", "sales", "Orders", false},
		{`"Orders"`, "sales", "Orders", true},
		{`"Orders"`, "sales", "orders", false},
		{"sales.ord*", "sales", "orders", true},
		{"sales.ord*", "other", "orders", false},
		{"*.orders", "other", "orders", true},
		{"s?les.o*s", "sales", "orders", true},
		{"o[a-s]ders", "s", "orders", true},
		{"o[^a-s]ders", "s", "orders", false},
		{"o[]r]ders", "s", "orders", true},
		{`"a.b"`, "s", "a.b", true},
		{`a.b`, "s", "a.b", false},
		{`"say ""hi"""`, "s", `say "hi"`, true},
		{`"50%*"`, "s", "50%*", true},
		{`"50%*"`, "s", "50%x", false},
		{`Müller*`, "s", "müller_1", true},
		{"*a*b*c*", "s", "xxaxxbxxc", true},
		{"*a*b*c*", "s", "xxaxxcxxb", false},
		{`a\x`, "s", "a\xff", false},
		{`"a\xff"`, "s", "a\xff", true}, // as it is displayed
		{"", "s", "x", false},
	} {
		p, err := selection.ParseTable(c.pattern)
		if c.pattern == "" {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("an empty pattern: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got := p.MatchTable(c.schema, c.name); got != c.want {
			t.Errorf("%s on %s.%s: %v", c.pattern, c.schema, c.name, got)
		}
	}
	for _, bad := range []string{"a.b.c", "a.", ".a", `"a`, "a[b", ".", `a.""`} {
		if _, err := selection.ParseTable(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := selection.ParseSchema("a.b"); !errors.Is(err, errs.Invalid) {
		t.Errorf("a schema with a dot: %v", err)
	}
}

// toc makes an archive of lines "ID KIND NAMESPACE TAG deps… | definition".
func toc(t *testing.T, lines ...string) *pgarchive.Archive {
	t.Helper()
	var entries []pgarchive.Entry
	for _, line := range lines {
		head, defn, _ := strings.Cut(line, " | ")
		f := strings.Fields(head)
		e := pgarchive.Entry{Desc: strings.ReplaceAll(f[1], "_", " "), Namespace: pg.Name(strings.Trim(f[2], "-")), Tag: pg.Name(strings.ReplaceAll(f[3], "_", " ")), Defn: defn, Owner: "o"}
		if _, err := fmt.Sscan(f[0], &e.ID); err != nil {
			t.Fatal(err)
		}
		for _, d := range f[4:] {
			var id pgarchive.ID
			if _, err := fmt.Sscan(d, &id); err != nil {
				t.Fatal(err)
			}
			e.Deps = append(e.Deps, id)
		}
		switch e.Desc {
		case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "POLICY", "RULE", "MATERIALIZED VIEW DATA", "INDEX ATTACH", "STATISTICS":
			e.Section = pgarchive.SectionPost
		case "ACL", "COMMENT":
			e.Section = pgarchive.SectionNone
		default:
			e.Section = pgarchive.SectionPre
		}
		entries = append(entries, e)
	}
	a, err := (&pgarchive.Archive{}).With(entries)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func choose(t *testing.T, a *pgarchive.Archive, d *repo.Database, schemas, tables []string) *selection.Part {
	t.Helper()
	s, err := selection.New(schemas, tables)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Choose(d, a)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func entries(p *selection.Part) []string {
	var all []string
	for i := range p.Archive.Entries {
		all = append(all, p.Archive.Entries[i].String())
	}
	return all
}

func table(oid uint32, name pg.Name) repo.Table {
	return repo.Table{OID: oid, Schema: "s", Name: name, Columns: []pg.Name{"a"}}
}

func TestTheClosureOfATableIsWhatItNeedsAndWhatBelongsToIt(t *testing.T) {
	lines := []string{
		"1 SCHEMA - s", "2 EXTENSION - hstore", "3 TYPE s kind 1", "4 FUNCTION s f() 1 3", "5 SEQUENCE s seq 1 | CREATE SEQUENCE s.seq",
		"6 TABLE s base 1", "7 TABLE s t 1 3 2 6", "8 TABLE s other 1", "9 SEQUENCE_OWNED_BY s seq 5 | ALTER SEQUENCE s.seq OWNED BY s.t.a;", "10 DEFAULT s t_a 7 5",
		"11 INDEX s t_idx 7 4", "12 CONSTRAINT s t_pkey 7", "13 FK_CONSTRAINT s t_fk 7 8", "14 FK_CONSTRAINT s t_self 7 7 12", "15 TRIGGER s t_trg 7 4",
		"16 VIEW s v 7", "17 VIEW s w 7 8", "18 ACL s TABLE_t 7", "19 COMMENT s TABLE_other 8", "20 POLICY s t_p 7 7 8", "21 FUNCTION s unused() 1", "22 COMMENT - SCHEMA_s 1",
	}
	d := &repo.Database{Tables: []repo.Table{table(6, "base"), table(7, "t"), table(8, "other")}, Sequences: []repo.Sequence{{Schema: "s", Name: "seq"}, {Schema: "s", Name: "else"}}}
	p := choose(t, toc(t, lines...), d, nil, []string{"t"})
	want := []string{"SCHEMA s", "EXTENSION hstore", "TYPE s.kind", "FUNCTION s.f()", "SEQUENCE s.seq", "TABLE s.base", "TABLE s.t", "SEQUENCE OWNED BY s.seq", "DEFAULT s.t a",
		"INDEX s.t idx", "CONSTRAINT s.t pkey", "FK CONSTRAINT s.t self", "TRIGGER s.t trg", "ACL s.TABLE t", "COMMENT SCHEMA s"}
	if diff := cmp.Diff(want, entries(p)); diff != "" {
		t.Error(diff)
	}
	var left []string
	for _, n := range p.LeftOut {
		left = append(left, n.Object)
	}
	if diff := cmp.Diff([]string{"FK CONSTRAINT s.t fk", "POLICY s.t p", "VIEW s.v", "VIEW s.w"}, left); diff != "" {
		t.Errorf("left out: %s", diff)
	}
	if len(p.Tables) != 1 || p.Tables[0].Name != "t" || len(p.Database.Tables) != 1 || len(p.Database.Sequences) != 1 {
		t.Errorf("%+v", p.Database)
	}
	if !slices.Contains(p.Along, selection.Note{Object: "TABLE s.base", Reason: "without rows: TABLE s.t needs it"}) {
		t.Errorf("%v", p.Along)
	}
	if len(d.Tables) != 3 || len(d.Sequences) != 2 {
		t.Error("the snapshot's database was changed")
	}
	// With the others selected too, everything that ties them comes.
	p = choose(t, toc(t, lines...), d, nil, []string{"t", "other", "v", "w"})
	for _, x := range []string{"FK CONSTRAINT s.t fk", "POLICY s.t p", "VIEW s.v", "VIEW s.w", "COMMENT s.TABLE other"} {
		if !slices.Contains(entries(p), x) {
			t.Errorf("%s is missing of %v", x, entries(p))
		}
	}
	// A schema takes what is in it, but a view that needs more.
	p = choose(t, toc(t, append(lines, "30 SCHEMA - x", "31 VIEW x xv 30 7", "32 FUNCTION x xf() 30", "33 DEFAULT_ACL x d 30")...), d, []string{"x"}, nil)
	if diff := cmp.Diff([]string{"SCHEMA x", "FUNCTION x.xf()", "DEFAULT ACL x.d"}, entries(p)); diff != "" {
		t.Error(diff)
	}
}

func TestPartitionsComeWithTheirParentAndAreTablesWithoutIt(t *testing.T) {
	modern := []string{"1 SCHEMA - s", "2 TABLE s root 1", "3 TABLE s mid 1 2", "4 TABLE s leaf 1 3", "5 TABLE_ATTACH s mid 3 2", "6 TABLE_ATTACH s leaf 4 3",
		"7 INDEX s ri 2", "8 INDEX s mi 3 7", "9 INDEX s li 4 8", "10 INDEX_ATTACH s mi 8 7 3 2", "11 INDEX_ATTACH s li 9 8 4 3"}
	of13 := []string{"1 SCHEMA - s", "2 TABLE s root 1 | CREATE TABLE s.root (a int) PARTITION BY RANGE (a);", "3 TABLE s mid 1 2 | CREATE TABLE s.mid (a int) PARTITION BY RANGE (a); ALTER TABLE ONLY s.root ATTACH PARTITION s.mid DEFAULT;",
		"4 TABLE s leaf 1 3 | CREATE TABLE s.leaf (a int); ALTER TABLE ONLY s.mid ATTACH PARTITION s.leaf DEFAULT;"}
	leaf := table(4, "leaf")
	leaf.Root, leaf.RootSchema, leaf.RootName, leaf.LoadViaRoot = 2, "s", "root", true
	d := &repo.Database{Tables: []repo.Table{leaf}}
	for name, lines := range map[string][]string{"modern": modern, "of pg_dump 13": of13} {
		whole := choose(t, toc(t, lines...), d, nil, []string{"root"})
		if len(whole.Archive.Entries) != len(lines) || whole.Database.Tables[0].Root != 2 || !whole.Database.Tables[0].LoadViaRoot {
			t.Errorf("%s: %v %+v", name, entries(whole), whole.Database.Tables)
		}
		alone := choose(t, toc(t, lines...), d, nil, []string{"leaf"})
		for _, e := range alone.Archive.Entries {
			if strings.Contains(e.Defn, "ATTACH") || strings.Contains(e.Desc, "ATTACH") {
				t.Errorf("%s: a partition by itself is attached: %s %s", name, e.Desc, e.Defn)
			}
		}
		if x := alone.Database.Tables[0]; x.Root != 0 || x.LoadViaRoot || len(alone.LeftOut) != 1 {
			t.Errorf("%s: %+v %v", name, x, alone.LeftOut)
		}
		part := choose(t, toc(t, lines...), d, nil, []string{"mid"})
		if x := part.Database.Tables[0]; x.Root != 0 && x.RootName != "mid" || x.RootName != "mid" {
			t.Errorf("%s: the topmost that comes is mid: %+v", name, x)
		}
	}
}

func TestAnArchiveThatIsNotHonestEndsTheChoice(t *testing.T) {
	a := toc(t, "1 SCHEMA - s 2", "2 TABLE s a 3 1", "3 TABLE s b 2 3", "4 TABLE_ATTACH s a 2 3", "5 TABLE_ATTACH s b 3 2", "6 FUNCTION s f() 7", "7 FUNCTION s g() 6", "8 INDEX s a_i 2 6")
	leaf := table(2, "a")
	leaf.Root, leaf.RootSchema, leaf.RootName = 9, "s", "gone"
	for _, tables := range [][]string{{"a"}, {"b"}, {"*"}} {
		if p := choose(t, a, &repo.Database{Tables: []repo.Table{leaf}}, nil, tables); len(p.Database.Tables) != 1 {
			t.Errorf("%v: %+v", tables, p.Database)
		}
	}
}

func TestSectionsAndDamageTakeWhatTheySay(t *testing.T) {
	lines := []string{"1 SCHEMA - s", "2 TABLE s t 1", "3 TABLE s u 1", "4 INDEX s t_i 2", "5 MATERIALIZED_VIEW s m 1 2", "6 MATERIALIZED_VIEW_DATA s m 5", "7 FK_CONSTRAINT s u_fk 2 3 | ALTER TABLE s.u ADD FOREIGN KEY (a) REFERENCES s.t(a);"}
	d := &repo.Database{Tables: []repo.Table{table(2, "t"), table(3, "u")}, Sequences: []repo.Sequence{{Name: "q"}}, LargeObjects: &repo.LargeObjects{}, Statements: []string{"x"}}
	p := selection.Whole(d, toc(t, lines...))
	if err := selection.Sections(p, false, true); err != nil {
		t.Fatal(err)
	}
	if len(p.Database.Tables)+len(p.Database.Sequences) != 0 || p.Database.LargeObjects != nil || slices.Contains(entries(p), "MATERIALIZED VIEW DATA s.m") || len(p.Database.Statements) != 1 {
		t.Errorf("without data: %+v %v", p.Database, entries(p))
	}
	p = selection.Whole(d, toc(t, lines...))
	if err := selection.Sections(p, true, false); err != nil {
		t.Fatal(err)
	}
	if len(p.Database.Tables) != 2 || len(p.Database.Statements) != 0 || slices.Contains(entries(p), "INDEX s.t i") {
		t.Errorf("without post-data: %+v %v", p.Database, entries(p))
	}
	p = selection.Whole(d, toc(t, lines...))
	if err := selection.Without(p, map[sqltext.QualifiedName]bool{{Schema: "s", Name: "t"}: true}); err != nil {
		t.Fatal(err)
	}
	if len(p.Database.Tables) != 1 || slices.Contains(entries(p), "FK CONSTRAINT s.u fk") || !slices.Contains(entries(p), "TABLE s.t") || len(p.LeftOut) != 1 {
		t.Errorf("damaged: %+v %v %v", p.Database.Tables, entries(p), p.LeftOut)
	}
}

func TestTwoTablesOfOneNameCannotBeBesideInOneSchema(t *testing.T) {
	a := toc(t, "1 SCHEMA - s", "2 TABLE s t 1 | CREATE TABLE s.t ();", "3 SCHEMA - u", "4 TABLE u t 3 | CREATE TABLE u.t ();", "5 EXTENSION - gone", "6 TABLE u x 3 5")
	p := choose(t, a, &repo.Database{}, nil, []string{"t", "x"})
	refusals, err := selection.Beside(p, "side", func(*pgarchive.Entry) bool { return false })
	if err != nil || len(refusals) != 2 || !strings.Contains(fmt.Sprint(refusals), "the same name as TABLE s.t") || !strings.Contains(fmt.Sprint(refusals), "EXTENSION gone") {
		t.Errorf("%v %v", refusals, err)
	}
}

func TestStagedTablesAreShapedLikeTheLiveOnes(t *testing.T) {
	leaf := table(4, "t")
	leaf.Root, leaf.RootSchema, leaf.RootName = 2, "s", "root"
	other := leaf
	other.OID, other.Name = 5, "t2"
	plain := table(6, "t")
	plain.Schema = "u"
	p := selection.Whole(&repo.Database{Tables: []repo.Table{leaf, other, plain}, Sequences: []repo.Sequence{{Name: "q"}}}, toc(t, "1 SEARCHPATH - x", "2 TABLE s root"))
	units, err := selection.Staged(p, "side", true)
	if err != nil || len(units) != 2 || len(units[0].Staged) != 2 || units[0].Live.Name != "root" || units[1].Live.Schema != "u" {
		t.Fatalf("%+v %v", units, err)
	}
	if n := units[1].Staged[0].Name; n != "t_6" {
		t.Errorf("the second t is staged as %s", n)
	}
	var sql []string
	for _, e := range p.Archive.Entries[1:] {
		sql = append(sql, e.Defn)
	}
	if want := `CREATE UNLOGGED TABLE "side"."t" (LIKE "s"."root" INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION);`; len(sql) != 3 || sql[0] != want {
		t.Errorf("%v", sql)
	}
}
