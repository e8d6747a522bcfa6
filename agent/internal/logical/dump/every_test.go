package dump_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestEveryKindOfObjectIsRead(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	s.Exec(t, db, `ALTER DATABASE "`+db+`" SET work_mem = '7MB'`, `ALTER ROLE app_reader IN DATABASE "`+db+`" SET statement_timeout = '5s'`,
		`ALTER DATABASE "`+db+`" CONNECTION LIMIT 33`, `COMMENT ON DATABASE "`+db+`" IS 'the every db'`, `GRANT CONNECT ON DATABASE "`+db+`" TO app_reader`)
	m := newMemory(small)
	snap := mustRun(t, options(s, m, db))
	d := only(t, snap)

	got := map[string][]string{}
	for i := range d.Tables {
		lines := m.lines(t, snap, &d.Tables[i])
		slices.Sort(lines)
		if d.Tables[i].Omitted == "" && len(lines) < 20 {
			got[string(d.Tables[i].Name)] = append([]string{names(d.Tables[i].Columns)}, lines...)
		}
	}
	want := map[string][]string{
		"tvcfg_conf":  {"builtin,id,name,v", "f\t10\tmine\tx", "f\t11\tmine2\ty"},
		"tvcfg_child": {"conf,id", "10\t1"},
		"t_ident":     {"id,idd,v", "1\t1\tr1", "10\t10\tr10", "2\t2\tr2", "3\t3\tr3", "4\t4\tr4", "5\t5\tr5", "6\t6\tr6", "7\t7\tr7", "8\t8\tr8", "9\t9\tr9"},
		"t_gen":       {"a,c", "1\tx", "2\ty"},
		"t_onlygen":   {"", ""},
		"t_serial":    {"id,v", "1\tv1", "2\tv2", "3\tv3", "4\tv4", "5\tv5"},
		"t_fk":        {"id"},
		"t_nocols":    {"", "", ""},
		"typed":       {"x,y", "1\ta"},
		"par":         {"a,b", "1\tp"},
		"chi":         {"a,b,c", "2\tc\t3"},
		"hp00":        got["hp00"],
		"hp1":         got["hp1"],
		"unl":         {"x", "5"},
		"brin":        {"t", "2024-03-31 01:30:00+00"},
		"clustered":   {"k"},
		"rls":         {"id,who", "1\ta", "2\tb"},
		"t_pub":       {"b,d,f,i,x,y,z", "\\\\x00ff\t2024-02-29\t0.1\t1 day 02:00:00\t$12.34\t5\ts1.t_gen"},
		`odd " name\`: {"a b,select", `tab\tand\nnewline\\` + "\t1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if n := len(got["hp00"]) + len(got["hp1"]); n != 2+12 {
		t.Errorf("hash partitions have %d rows", n-2)
	}
	for name, via := range map[string]bool{"hp00": true, "hp1": true, "pt1": false, "pt2": false, "par": false} {
		tab := tableOf(t, d, name)
		if tab.LoadViaRoot != via {
			t.Errorf("%s: load via root %v", name, tab.LoadViaRoot)
		}
		if via && (tab.RootName != "hp" || tab.RootSchema != "s1" || tab.Root == 0) {
			t.Errorf("%s: root %+v", name, tab)
		}
	}
	if tab := tableOf(t, d, "pt2"); names(tab.Columns) != "k,v" || tab.RootName != "pt" {
		t.Errorf("pt2: %+v", tab)
	}
	for _, name := range []string{"brin", "clustered"} {
		if !tableOf(t, d, name).OneStream {
			t.Errorf("%s may be loaded by several streams", name)
		}
	}
	if tab := tableOf(t, d, "tvcfg_plain"); tab.Omitted == "" || len(tab.Runs) != 0 {
		t.Errorf("tvcfg_plain: %+v", tab)
	}
	if tab := tableOf(t, d, "tvcfg_conf"); tab.Extension != "tvcfg" || tab.Condition != "WHERE NOT builtin OR id > 100" {
		t.Errorf("tvcfg_conf: %+v", tab)
	}
	for _, tab := range d.Tables {
		if tab.Name == "ft" || tab.Name == "mv" {
			t.Errorf("%s is no table with rows", tab.Name)
		}
	}
	checkSequences(t, d)
	checkObjects(t, m, d, m.bytes(t, snap, d.LargeObjects.Data), m.bytes(t, snap, d.LargeObjects.Meta))
	checkProperties(t, d)
	if snap.Content.Logical.Globals.PasswordsRead != true || len(snap.Content.Logical.Globals.Roles) < 3 {
		t.Errorf("globals: %+v", snap.Content.Logical.Globals)
	}
	var kinds = map[seal.Kind]bool{}
	for k := range m.puts {
		kinds[k] = true
	}
	for _, k := range []seal.Kind{seal.KindRowsText, seal.KindArchive, seal.KindLargeObject, seal.KindList} {
		if !kinds[k] {
			t.Errorf("no chunk of kind %d", k)
		}
	}
	checkArchive(t, s.Bin, m.bytes(t, snap, d.Archive.Stream))
	if m.inUse != 0 {
		t.Errorf("%d buffers were not given back", m.inUse)
	}
}

func checkSequences(t *testing.T, d *repo.Database) {
	t.Helper()
	got := map[string]repo.Sequence{}
	for _, q := range d.Sequences {
		got[string(q.Name)] = q
	}
	for name, want := range map[string]struct {
		last   int64
		called bool
		ext    string
	}{"seq_small": {42, false, ""}, "t_ident_id_seq": {10, true, ""}, "t_serial_id_seq": {5, true, ""}, "tvcfg_seq": {77, true, "tvcfg"}} {
		q := got[name]
		if q.LastValue != want.last || q.IsCalled != want.called || string(q.Extension) != want.ext {
			t.Errorf("sequence %s = %+v, want %+v", name, q, want)
		}
	}
}

func checkObjects(t *testing.T, m *memory, d *repo.Database, data, meta []byte) {
	t.Helper()
	if diff := cmp.Diff(map[uint32]int{90001: 5, 90002: 5000}, objectPages(t, data)); diff != "" {
		t.Errorf("large objects (-want +got):\n%s", diff)
	}
	var all []repo.LargeObjectFacts
	for line := range strings.Lines(string(meta)) {
		var o repo.LargeObjectFacts
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	comment := "lo comment"
	want := []repo.LargeObjectFacts{
		{OID: 90001, Owner: "app_owner", ACL: repo.ACL{{Grantor: "app_owner", Grantee: "app_owner", Privilege: "SELECT"}, {Grantor: "app_owner", Grantee: "app_owner", Privilege: "UPDATE"},
			{Grantor: "app_owner", Grantee: "app_reader", Privilege: "SELECT"}}},
		{OID: 90002, Owner: "postgres", Comment: &comment},
		{OID: 90003, Owner: "postgres"},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("owners of large objects (-want +got):\n%s", diff)
	}
	if o := d.LargeObjects; o.Count != 3 || o.Rows != 4 || o.BlockSize != 2048 {
		t.Errorf("large objects: %+v", o)
	}
}

func checkProperties(t *testing.T, d *repo.Database) {
	t.Helper()
	p, err := repo.PropertiesOf(d)
	if err != nil {
		t.Fatal(err)
	}
	if p.Owner != "app_owner" || p.Encoding != "UTF8" || p.Provider != "libc" || p.Collate != "C" || p.ConnectionLimit != 33 || p.Comment == nil || *p.Comment != "the every db" {
		t.Errorf("properties: %+v", p)
	}
	if !slices.ContainsFunc(p.ACL, func(i repo.ACLItem) bool { return i.Grantee == "app_reader" && i.Privilege == "CONNECT" }) {
		t.Errorf("privileges: %+v", p.ACL)
	}
	var settings []repo.SettingFacts
	for _, raw := range d.Settings {
		var f repo.SettingFacts
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		settings = append(settings, f)
	}
	want := []repo.SettingFacts{{Settings: []string{"work_mem=7MB"}}, {Role: "app_reader", Settings: []string{"statement_timeout=5s"}}}
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if d.Session["TimeZone"] != "UTC" || d.LSN == 0 || d.Time.IsZero() || len(d.Extensions) != 4 || d.PublicOwner == "" {
		t.Errorf("facts: %+v", d)
	}
}

// checkArchive has pg_restore read the archive: every family of objects is in it.
func checkArchive(t *testing.T, bin string, archive []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.dump")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "pg_restore"), "-l", file).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_restore -l: %v: %s", err, out)
	}
	for _, want := range []string{"EXTENSION - tvcfg", "TABLE s1 t_gen", "SUBSCRIPTION - sub1", "MATERIALIZED VIEW DATA s1 mv", "FK CONSTRAINT s1 t_fk", "FOREIGN TABLE s1 ft"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("archive has no %s:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "TABLE DATA") || strings.Contains(string(out), " BLOB ") {
		t.Errorf("archive has data:\n%s", out)
	}
}

func TestAnUnchangedDatabaseGivesTheSameChunks(t *testing.T) {
	s := shared.Server(t)
	db := everyDatabase(t, s)
	s.Exec(t, db, "CREATE TABLE big AS SELECT g AS id, md5(g::text) AS m, repeat('x', g % 100) AS pad FROM generate_series(1, 60000) g",
		"SELECT lo_from_bytea(0, decode(repeat(md5(g::text), 100), 'hex')) FROM generate_series(1, 300) g")
	m := newMemory(small)
	mustRun(t, options(s, m, db))
	first := m.puts[seal.KindRowsText]
	if first < 50 {
		t.Fatalf("only %d chunks of rows", first)
	}
	for _, workers := range []int{1, 3} {
		m.reset()
		o := options(s, m, db)
		o.Request.Workers = workers
		snap := mustRun(t, o)
		for _, kind := range []seal.Kind{seal.KindRowsText, seal.KindLargeObject, seal.KindArchive, seal.KindList} {
			if m.fresh[kind] != 0 {
				t.Errorf("%d workers: %d of %d chunks of kind %d are new", workers, m.fresh[kind], m.puts[kind], kind)
			}
		}
		if m.puts[seal.KindRowsText] != first {
			t.Errorf("%d chunks, then %d", first, m.puts[seal.KindRowsText])
		}
		m.lines(t, snap, tableOf(t, only(t, snap), "big"))
	}
}
