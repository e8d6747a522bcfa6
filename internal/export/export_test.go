package export_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/export"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// memory is a snapshot in memory: each stream is one list.
type memory struct {
	lists [][]export.Chunk
	// fail gives the error in place of a chunk.
	fail func(list, at int) error
}

func (m *memory) Stream(ctx context.Context, s repo.Stream) iter.Seq2[export.Chunk, error] {
	return func(yield func(export.Chunk, error) bool) {
		for _, span := range s.Spans {
			for i, c := range m.lists[span.List][span.First:][:span.Count] {
				if ctx.Err() != nil {
					yield(export.Chunk{}, context.Cause(ctx))
					return
				}
				if m.fail != nil {
					if err := m.fail(int(span.List), i); err != nil {
						yield(export.Chunk{}, err)
						return
					}
				}
				c.Plain = bytes.Clone(c.Plain)
				if !yield(c, nil) {
					return
				}
				clear(c.Plain) // valid until the next is asked for
			}
		}
	}
}

func (m *memory) add(chunks ...export.Chunk) repo.Stream {
	m.lists = append(m.lists, chunks)
	s := repo.Stream{Spans: []repo.Span{{List: uint32(len(m.lists) - 1), Count: uint32(len(chunks))}}}
	for _, c := range chunks {
		s.Bytes += int64(len(c.Plain))
	}
	return s
}

// table adds a table whose rows come in the chunks given.
func (m *memory) table(oid uint32, name pg.Name, chunks ...string) repo.Table {
	t := repo.Table{OID: oid, Schema: "s", Name: name, Columns: []pg.Name{"a"}}
	var all []export.Chunk
	var run repo.Run
	for _, c := range chunks {
		all = append(all, export.Chunk{Kind: seal.KindRowsText, Plain: []byte(c)})
		for row := range strings.Lines(c) {
			run.Rows++
			run.Fingerprint.Add(chunk.HashRow([]byte(row)))
		}
	}
	run.Stream = m.add(all...)
	t.Rows, t.Fingerprint, t.Runs = run.Rows, run.Fingerprint, []repo.Run{run}
	return t
}

// entry is an entry of a schema archive.
type entry struct {
	id, section   int
	desc, tag     string
	oid           int
	defn, drop    string
	owner, schema string
	deps          []int
}

// archive writes a schema archive as pg_dump does.
func archive(minor byte, entries ...entry) []byte {
	var b bytes.Buffer
	number := func(n int) {
		sign := byte(0)
		if n < 0 {
			sign, n = 1, -n
		}
		b.WriteByte(sign)
		_ = binary.Write(&b, binary.LittleEndian, uint32(n))
	}
	text := func(s string) { number(len(s)); b.WriteString(s) }
	maybe := func(s string) {
		if s == "" {
			number(-1)
			return
		}
		text(s)
	}
	b.WriteString("PGDMP")
	b.Write([]byte{1, minor, 0, 4, 8, 1})
	if minor >= 15 {
		b.WriteByte(0)
	} else {
		number(0)
	}
	for _, n := range []int{5, 4, 3, 2, 10, 126, 0} {
		number(n)
	}
	text("source")
	text("15.18")
	text("15.18")
	number(len(entries))
	for _, e := range entries {
		class := "0"
		if e.desc == "TABLE" || e.desc == "SEQUENCE" {
			class = "1259"
		}
		number(e.id)
		number(0)
		text(class)
		text(fmt.Sprint(e.oid))
		text(e.tag)
		text(e.desc)
		number(e.section)
		maybe(e.defn)
		maybe(e.drop)
		number(-1)
		maybe(e.schema)
		number(-1)
		number(-1)
		if minor >= 16 {
			number(0)
		}
		maybe(e.owner)
		text("false")
		for _, d := range e.deps {
			text(fmt.Sprint(d))
		}
		number(-1)
		b.WriteByte(3)
		b.Write(make([]byte, 8))
	}
	return b.Bytes()
}

// content is a snapshot of one database.
func (m *memory) content(minor byte, tables []repo.Table, entries ...entry) *repo.Content {
	a := m.add(export.Chunk{Kind: seal.KindArchive, Plain: archive(minor, entries...)})
	return &repo.Content{Version: 1, Kind: repo.KindLogical, Instance: repo.InstanceFacts{Name: "main", Version: 150018}, Logical: &repo.Logical{Databases: []repo.Database{{
		Name: "app", OID: 1, State: repo.DatabaseComplete, Encoding: "UTF8", Properties: json.RawMessage(`{"owner": "o", "encoding_name": "UTF8", "datconnlimit": -1, "datallowconn": true}`),
		Archive: &repo.Archive{Tool: 150018, FormatVersion: fmt.Sprintf("1.%d", minor), Stream: a}, Tables: tables}}}}
}

// usual are the entries of two tables and an index.
var usual = []entry{
	{id: 900, section: 2, desc: "ENCODING", tag: "ENCODING", defn: "SET client_encoding = 'UTF8';\n"},
	{id: 1, section: 2, desc: "TABLE", tag: "t", oid: 101, schema: "s", owner: "o", defn: "CREATE TABLE s.t (\n    a text\n);\n", drop: "DROP TABLE s.t;\n"},
	{id: 2, section: 2, desc: "TABLE", tag: "u", oid: 102, schema: "s", owner: "o", defn: "CREATE TABLE s.u (\n    a text\n);\n", drop: "DROP TABLE s.u;\n"},
	{id: 3, section: 4, desc: "INDEX", tag: "i", oid: 103, schema: "s", defn: "CREATE INDEX i ON s.t USING btree (a);\n", drop: "DROP INDEX s.i;\n", deps: []int{1}},
}

func (m *memory) usual() *repo.Content {
	return m.content(14, []repo.Table{m.table(101, "t", "one\ntwo\n", "three\n"), m.table(102, "u", "x\n")}, usual...)
}

// run exports the database into a new folder.
func run(t *testing.T, m *memory, c *repo.Content, change func(*export.Options)) (string, *export.Report, error) {
	t.Helper()
	o := export.Options{Selection: export.Selection{Database: "app"}, Source: m, Snapshot: strings.Repeat("5a", 16), Format: export.Plain, Output: filepath.Join(t.TempDir(), "out"), Jobs: 2}
	if change != nil {
		change(&o)
	}
	r, err := export.Run(t.Context(), c, o)
	return o.Output, r, err
}

// nothing wants a folder to be empty.
func nothing(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAScriptHasEverythingInItsOrder(t *testing.T) {
	m := &memory{}
	path, r, err := run(t, m, m.usual(), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	key, _ := strings.CutPrefix(lines[0], `\restrict `)
	if len(key) != 64 || lines[len(lines)-2] != `\unrestrict `+key {
		t.Errorf("first and last lines: %q, %q", lines[0], lines[len(lines)-2])
	}
	var statements []string
	for _, l := range lines[1 : len(lines)-2] {
		if l != "" && !strings.HasPrefix(l, "--") && !strings.HasPrefix(l, "SET ") {
			statements = append(statements, l)
		}
	}
	want := []string{"CREATE TABLE s.t (", "    a text", ");", `ALTER TABLE "s"."t" OWNER TO "o";`, "CREATE TABLE s.u (", "    a text", ");", `ALTER TABLE "s"."u" OWNER TO "o";`,
		`COPY s.t ("a") FROM stdin;`, "one", "two", "three", `\.`, `COPY s.u ("a") FROM stdin;`, "x", `\.`, "CREATE INDEX i ON s.t USING btree (a);"}
	if d := cmp.Diff(want, statements); d != "" {
		t.Error(d)
	}
	if r.Databases[0].Rows != 4 || len(r.Databases[0].Tables) != 2 || r.Databases[0].Tables[0].Rows != 3 {
		t.Errorf("report: %+v", r.Databases)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
	nothingBeside(t, path)
}

func nothingBeside(t *testing.T, path string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(all) != 1 {
		t.Errorf("beside the output: %v, %v", all, err)
	}
}

func TestAFolderHasATableOfContentsAndPackedRows(t *testing.T) {
	for _, minor := range []byte{14, 15, 16} {
		m := &memory{}
		path, _, err := run(t, m, m.content(minor, []repo.Table{m.table(101, "t", "one\n"), m.table(102, "u")}, usual...), func(o *export.Options) { o.Format = export.Directory })
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(path, "toc.dat"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := pgarchive.ReadDirectory(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range a.Entries {
			e := &a.Entries[i]
			got = append(got, fmt.Sprintf("%d %s %v %q %s", e.ID, e, e.Deps, e.Copy, e.File))
		}
		want := []string{`900 ENCODING ENCODING [] "" `, `1 TABLE s.t [] "" `, `2 TABLE s.u [] "" `, `901 TABLE DATA s.t [1] "COPY s.t (\"a\") FROM stdin;\n" 901.dat`,
			`902 TABLE DATA s.u [2] "COPY s.u (\"a\") FROM stdin;\n" 902.dat`, `3 INDEX s.i [1] "" `}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("1.%d: %s", minor, d)
		}
		for file, rows := range map[string]string{"901.dat.gz": "one\n\\.\n\n\n", "902.dat.gz": "\\.\n\n\n"} {
			if text := unpack(t, filepath.Join(path, file)); text != rows {
				t.Errorf("1.%d: %s has %q", minor, file, text)
			}
		}
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o700 {
			t.Errorf("mode %v, %v", i.Mode(), err)
		}
		nothingBeside(t, path)
	}
}

func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRowsThatWouldEndTheirCopyAreRefused(t *testing.T) {
	for name, chunks := range map[string][]export.Chunk{
		"end":              {{Kind: seal.KindRowsText, Plain: []byte("one\n\\.\nDROP TABLE s.t;\n")}},
		"end with return":  {{Kind: seal.KindRowsText, Plain: []byte("\\.\r\n")}},
		"end with more":    {{Kind: seal.KindRowsText, Plain: []byte("\\. \n")}},
		"no end of a row":  {{Kind: seal.KindRowsText, Plain: []byte("one\ntwo")}},
		"lines in a part":  {{Kind: seal.KindRowPart, First: true, Plain: []byte("wide\n\\.\nDROP")}, {Kind: seal.KindRowPart, Last: true, Plain: []byte(" TABLE s.t;\n")}},
		"a part that ends": {{Kind: seal.KindRowPart, First: true, Last: true, Plain: []byte("\\.\n")}},
		"no last part":     {{Kind: seal.KindRowPart, First: true, Plain: []byte("wide")}},
		"no first part":    {{Kind: seal.KindRowPart, Last: true, Plain: []byte("wide\n")}},
		"rows in between":  {{Kind: seal.KindRowPart, First: true, Plain: []byte("wide")}, {Kind: seal.KindRowsText, Plain: []byte("x\n")}, {Kind: seal.KindRowPart, Last: true, Plain: []byte("\n")}},
		"another kind":     {{Kind: seal.KindArchive, Plain: []byte("one\n")}},
	} {
		for _, format := range []export.Format{export.Plain, export.Directory} {
			m := &memory{}
			table := m.table(101, "t")
			r := &table.Runs[0]
			r.Stream = m.add(chunks...)
			for _, c := range chunks { // as a hostile agent would claim
				for row := range bytes.Lines(c.Plain) {
					r.Rows++
					r.Fingerprint.Add(chunk.HashRow(row))
				}
			}
			c := m.content(14, []repo.Table{table}, usual...)
			path, _, err := run(t, m, c, func(o *export.Options) { o.Format = format })
			if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "table s.t") {
				t.Errorf("%s: %v", name, err)
			}
			nothing(t, filepath.Dir(path))
		}
	}
}

func TestADifferenceFailsTheExport(t *testing.T) {
	for name, change := range map[string]func(*repo.Table){
		"rows":        func(t *repo.Table) { t.Runs[0].Rows++ },
		"bytes":       func(t *repo.Table) { t.Runs[0].Stream.Bytes++ },
		"fingerprint": func(t *repo.Table) { t.Runs[0].Fingerprint.Add(chunk.HashRow(nil)) },
	} {
		for _, format := range []export.Format{export.Plain, export.Directory} {
			m := &memory{}
			c := m.usual()
			change(&c.Logical.Databases[0].Tables[0])
			path, _, err := run(t, m, c, func(o *export.Options) { o.Format = format })
			if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "table s.t") {
				t.Errorf("%s: %v", name, err)
			}
			nothing(t, filepath.Dir(path))

			// Whoever keeps going gets the rows, and is told.
			_, r, err := run(t, m, c, func(o *export.Options) { o.Format, o.KeepGoing = format, true })
			if !errors.Is(err, errs.Corrupt) || len(r.Problems) != 1 || r.Problems[0].Object != "table s.t" || r.Databases[0].Rows != 4 {
				t.Errorf("%s, keep going: %v, %+v", name, err, r)
			}
		}
	}
}

func TestWhoKeepsGoingGetsTheWholeRowsBeforeTheDamage(t *testing.T) {
	damaged := fmt.Errorf("chunk 7: %w", errs.Corrupt)
	for _, format := range []export.Format{export.Plain, export.Directory} {
		m := &memory{}
		c := m.usual()
		m.fail = func(list, at int) error {
			if list == 0 && at == 1 {
				return damaged
			}
			return nil
		}
		path, r, err := run(t, m, c, func(o *export.Options) { o.Format, o.KeepGoing = format, true })
		if !errors.Is(err, errs.Corrupt) || len(r.Problems) != 1 || r.Problems[0].Object != "table s.t" {
			t.Fatalf("%v, %+v", err, r)
		}
		tables := r.Databases[0].Tables
		if len(tables) != 2 || tables[0].Rows != 2 || !tables[0].Incomplete || tables[1].Rows != 1 || tables[1].Incomplete {
			t.Errorf("tables: %+v", tables)
		}
		if format == export.Directory {
			path = filepath.Join(path, "901.dat.gz")
			if text := unpack(t, path); text != "one\ntwo\n\\.\n\n\n" {
				t.Errorf("rows: %q", text)
			}
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "one\ntwo\n\\.\n-- INCOMPLETE: only 2 rows") {
			t.Errorf("%s, %v", text, err)
		}
	}
}

func TestWhatIsCutOffInsideAWideRowIsLeftOutWhole(t *testing.T) {
	m := &memory{}
	table := m.table(101, "t")
	run1 := &table.Runs[0]
	run1.Stream = m.add(export.Chunk{Kind: seal.KindRowsText, Plain: []byte("one\n")}, export.Chunk{Kind: seal.KindRowPart, First: true, Plain: []byte("wi")}, export.Chunk{Kind: seal.KindRowPart, Last: true, Plain: []byte("de\n")})
	run1.Rows = 2
	run1.Fingerprint.Add(chunk.HashRow([]byte("one\n")))
	run1.Fingerprint.Add(chunk.HashRow([]byte("wide\n")))
	c := m.content(14, []repo.Table{table}, usual...)
	if path, _, err := run(t, m, c, nil); err != nil {
		t.Fatal(err)
	} else if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "\none\nwide\n\\.\n") {
		t.Errorf("%s, %v", text, err)
	}
	m.fail = func(list, at int) error {
		if list == 1 && at == 2 {
			return errs.Corrupt
		}
		return nil
	}
	path, _, err := run(t, m, c, func(o *export.Options) { o.KeepGoing = true })
	text, readErr := os.ReadFile(path)
	if !errors.Is(err, errs.Corrupt) || readErr != nil || !strings.Contains(string(text), "\none\n\\.\n") || strings.Contains(string(text), "\nwi") {
		t.Errorf("%v, %v, %s", err, readErr, text)
	}
}

func TestAnInterruptedExportLeavesNothing(t *testing.T) {
	stop := errors.New("stop")
	for _, format := range []export.Format{export.Plain, export.Directory} {
		m := &memory{}
		c := m.usual()
		ctx, cancel := context.WithCancelCause(t.Context())
		m.fail = func(list, at int) error {
			if list == 0 && at == 1 {
				cancel(stop)
				return context.Cause(ctx)
			}
			return nil
		}
		dir := t.TempDir()
		_, err := export.Run(ctx, c, export.Options{Selection: export.Selection{Database: "app"}, Source: m, Format: format, Output: filepath.Join(dir, "out"), KeepGoing: true})
		if !errors.Is(err, stop) {
			t.Errorf("%s: %v", format, err)
		}
		nothing(t, dir)
	}
}

func TestWhatExistsIsNotTouched(t *testing.T) {
	for _, format := range []export.Format{export.Plain, export.Directory} {
		m := &memory{}
		dir := t.TempDir()
		for name, make := range map[string]func(string) error{
			"file":   func(p string) error { return os.WriteFile(p, []byte("mine"), 0o644) },
			"folder": func(p string) error { return os.Mkdir(p, 0o755) },
			"link":   func(p string) error { return os.Symlink("/nowhere", p) },
		} {
			path := filepath.Join(dir, string(format)+name)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = export.Run(t.Context(), m.usual(), export.Options{Selection: export.Selection{Database: "app"}, Source: m, Format: format, Output: path})
			if !errors.Is(err, errs.Exists) {
				t.Errorf("%s: %v", name, err)
			}
			if after, err := os.Lstat(path); err != nil || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() {
				t.Errorf("%s was changed: %v", name, err)
			}
		}
	}
}

func TestSelectionsThatMakeNoSenseAreRefused(t *testing.T) {
	m := &memory{}
	for name, change := range map[string]func(*export.Options){
		"nothing":          func(o *export.Options) { o.Database = "" },
		"two":              func(o *export.Options) { o.All = true },
		"no format":        func(o *export.Options) { o.Format = "tar" },
		"no place":         func(o *export.Options) { o.Output = "" },
		"folder to stdout": func(o *export.Options) { o.Format, o.Output = export.Directory, "-" },
		"all to stdout":    func(o *export.Options) { o.Database, o.All, o.Output = "", true, "-" },
	} {
		if _, _, err := run(t, m, m.usual(), change); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := run(t, m, m.usual(), func(o *export.Options) { o.Database = "other" }); !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "app") {
		t.Errorf("no such database: %v", err)
	}
}

func TestADatabaseWhoseBackupFailedIsToldOfAndDoesNotHideOthers(t *testing.T) {
	m := &memory{}
	c := m.usual()
	c.Logical.Databases = append(c.Logical.Databases, repo.Database{Name: "bad", OID: 2, State: repo.DatabaseFailed})
	all := func(o *export.Options) { o.Database, o.All = "", true }
	path, _, err := run(t, m, c, all)
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "database bad") {
		t.Errorf("%v", err)
	}
	nothing(t, filepath.Dir(path))
	path, r, err := run(t, m, c, func(o *export.Options) { all(o); o.KeepGoing = true })
	if !errors.Is(err, errs.Corrupt) || len(r.Problems) != 1 || len(r.Databases) != 1 {
		t.Errorf("keep going: %v, %+v", err, r)
	}
	for _, name := range []string{"globals.sql", "create.sql", "settings.sql", "manifest.json", "README", "databases/app.sql"} {
		if text, err := os.ReadFile(filepath.Join(path, name)); err != nil || name == "README" && !strings.Contains(string(text), "NOT EXPORTED: database bad") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestProgressIsToldUpToTheEnd(t *testing.T) {
	m := &memory{}
	var last export.Progress
	told := 0
	_, _, err := run(t, m, m.usual(), func(o *export.Options) { o.Progress = func(p export.Progress) { last = p; told++ } })
	if err != nil || told < 2 || last.Tables != 2 || last.TablesTotal != 2 || last.Rows != 4 || last.Bytes != last.BytesTotal || last.Bytes == 0 {
		t.Errorf("%v, told %d times, last %+v", err, told, last)
	}
}

func TestHostileNamesStayInsideTheirQuotes(t *testing.T) {
	evil := pg.Name("x\n\\! touch /tmp/pwned\n\";DROP ROLE postgres;--\r\\.")
	m := &memory{}
	table := m.table(101, evil, "one\n")
	table.Columns = []pg.Name{evil}
	table.Schema = evil
	c := m.content(14, []repo.Table{table}, entry{id: 1, section: 2, desc: "TABLE", tag: string(evil), oid: 101, schema: string(evil), owner: string(evil), defn: "SELECT 1;\n", drop: "DROP TABLE x;\n"})
	d := &c.Logical.Databases[0]
	d.Name = evil
	d.Sequences = []repo.Sequence{{OID: 5, Schema: evil, Name: evil, LastValue: 7, IsCalled: true}}
	c.Instance.Name = string(evil)
	role, err := json.Marshal(map[string]any{"rolname": evil, "rolpassword": string(evil), "comment": string(evil), "rolconnlimit": -1})
	if err != nil {
		t.Fatal(err)
	}
	setting, err := json.Marshal(map[string]any{"role": evil, "settings": []string{"search_path=\"" + string(evil) + "\", b", "a.b=" + string(evil)}})
	if err != nil {
		t.Fatal(err)
	}
	c.Logical.Globals = repo.Globals{Roles: []json.RawMessage{role}, RoleSettings: []json.RawMessage{setting}, PasswordsRead: true}
	for name, change := range map[string]func(*export.Options){
		"database": func(o *export.Options) { o.Database = evil.Display() },
		"globals":  func(o *export.Options) { o.Database, o.Globals, o.Passwords = "", true, true },
	} {
		path, _, err := run(t, m, c, change)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if outside := outsideQuotes(string(text)); strings.Contains(outside, "touch") || strings.Contains(outside, "DROP ROLE") {
			t.Errorf("%s: outside quotes and comments:\n%s", name, outside)
		}
	}
}

// outsideQuotes gives what psql and the server read as commands: the text without
// what is quoted, comments, and rows.
func outsideQuotes(sql string) string {
	var b strings.Builder
	for i := 0; i < len(sql); {
		switch {
		case strings.HasPrefix(sql[i:], "--"):
			n := strings.IndexByte(sql[i:], '\n')
			i += max(n, 1)
		case sql[i] == '"' || sql[i] == '\'':
			escape := i > 0 && sql[i-1] == 'E' && sql[i] == '\''
			j := i + 1
			for ; j < len(sql); j++ {
				if escape && sql[j] == '\\' {
					j++
					continue
				}
				if sql[j] == sql[i] {
					if j+1 < len(sql) && sql[j+1] == sql[i] {
						j++
						continue
					}
					break
				}
			}
			i = j + 1
		default:
			b.WriteByte(sql[i])
			i++
		}
	}
	return b.String()
}

func TestExportsMadeAtOnceUnderOneNameAreOne(t *testing.T) {
	m := &memory{}
	c := m.usual()
	path := filepath.Join(t.TempDir(), "out.sql")
	results := make(chan error)
	const many = 8
	for range many {
		go func() {
			_, err := export.Run(t.Context(), c, export.Options{Selection: export.Selection{Database: "app"}, Source: m, Format: export.Plain, Output: path})
			results <- err
		}()
	}
	won := 0
	for range many {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, errs.Exists):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d exports won", won)
	}
	nothingBeside(t, path)
	if i, err := os.Stat(path); err != nil || time.Since(i.ModTime()) > time.Minute {
		t.Errorf("%v", err)
	}
}
