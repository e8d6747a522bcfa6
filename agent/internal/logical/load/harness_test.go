package load_test

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

//go:embed testdata/every.sql
var everySQL string

// tvcfg is an extension with configuration tables: tvcfg_child refers to
// tvcfg_conf, and tvcfg_a and tvcfg_b to each other.
var tvcfg = map[string]string{
	"tvcfg.control": "default_version = '1.0'\nrelocatable = false\nschema = public\n",
	"tvcfg--1.0.sql": `
CREATE TABLE tvcfg_child (id int PRIMARY KEY, conf int);
CREATE TABLE tvcfg_conf (id int PRIMARY KEY, name text, v text, builtin bool DEFAULT true);
INSERT INTO tvcfg_conf VALUES (1, 'one', 'x', true);
ALTER TABLE tvcfg_child ADD FOREIGN KEY (conf) REFERENCES tvcfg_conf;
CREATE TABLE tvcfg_a (id int PRIMARY KEY, b int);
CREATE TABLE tvcfg_b (id int PRIMARY KEY, a int REFERENCES tvcfg_a);
ALTER TABLE tvcfg_a ADD FOREIGN KEY (b) REFERENCES tvcfg_b;
CREATE TABLE tvcfg_plain (i int);
CREATE SEQUENCE tvcfg_seq;
SELECT pg_catalog.pg_extension_config_dump('tvcfg_conf', 'WHERE NOT builtin OR id > 100');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_child', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_a', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_b', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_seq', '');
`,
}

var shared = pgtest.Shared{Options: pgtest.Options{
	Extensions: tvcfg,
	Settings:   map[string]string{"max_connections": "60", "wal_level": "logical"},
}}

func TestMain(m *testing.M) {
	code := shared.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// roles exist in every server that a test restores into, unless it says otherwise.
func makeRoles(t *testing.T, s *pgtest.Server) {
	t.Helper()
	for _, role := range []string{"app_owner", "app_reader", `"odd ""role"`} {
		s.Exec(t, "postgres", "DO $$ BEGIN CREATE ROLE "+role+"; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$")
	}
}

// everyDatabase makes a database with every kind of object.
func everyDatabase(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	makeRoles(t, s)
	db := s.Database(t, "OWNER app_owner")
	s.Exec(t, db, strings.Split(strings.TrimSpace(everySQL), "\n")...)
	s.Exec(t, db, "TRUNCATE s1.counted", // by rows that were inserted here
		`ALTER DATABASE "`+db+`" SET work_mem = '7MB'`, `ALTER ROLE app_reader IN DATABASE "`+db+`" SET statement_timeout = '5s'`,
		`ALTER DATABASE "`+db+`" SET search_path = "$user", 'odd, one'`, `ALTER DATABASE "`+db+`" SET default_transaction_read_only = on`,
		`ALTER DATABASE "`+db+`" SET statement_timeout = '1s'`, `ALTER DATABASE "`+db+`" SET TimeZone = 'Asia/Kolkata'`, `ALTER DATABASE "`+db+`" SET DateStyle = 'SQL, DMY'`,
		`ALTER DATABASE "`+db+`" CONNECTION LIMIT 33`, `COMMENT ON DATABASE "`+db+`" IS 'the ''every'' db'`, `GRANT CONNECT ON DATABASE "`+db+`" TO app_reader`,
		`REVOKE TEMPORARY ON DATABASE "`+db+`" FROM PUBLIC`)
	cleanSubscription(t, s, db)
	return db
}

// cleanSubscription lets a database with the subscription be dropped at the end.
func cleanSubscription(t *testing.T, s *pgtest.Server, db string) {
	t.Helper()
	t.Cleanup(func() {
		if len(s.Query(t, "postgres", "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = '"+db+"'")) > 0 {
			s.Exec(t, db, "SET default_transaction_read_only = off", "SET session_replication_role = replica",
				"ALTER SUBSCRIPTION sub1 DISABLE; ALTER SUBSCRIPTION sub1 SET (slot_name=NONE)", "DROP SUBSCRIPTION sub1")
		}
	})
}

// memory keeps a snapshot: an uploader for dump, a source for load.
type memory struct {
	max  int
	refs *repo.References

	mu     sync.Mutex
	chunks map[seal.Name][]byte
	kinds  map[seal.Name]seal.Kind
	// before, if set, is asked before each chunk is given out.
	before func(ctx context.Context, e repo.ListEntry) error
	// check, if set, is asked what is known to be missing of a stream.
	check func(st repo.Stream) error
}

func newMemory() *memory {
	return &memory{max: params.Max, chunks: map[seal.Name][]byte{}, kinds: map[seal.Name]seal.Kind{}}
}

// params make many chunks of little data.
var params = chunk.Params{Target: 12 << 10, Min: 4 << 10, Max: 64 << 10}

func (m *memory) Buffer(context.Context) ([]byte, error)      { return make([]byte, 0, m.max), nil }
func (m *memory) Release([]byte)                              {}
func (m *memory) Stream(context.Context) (dump.Stream, error) { return sink{m}, nil }
func (m *memory) Sent() int64                                 { return 0 }

type sink struct{ m *memory }

func (s sink) Put(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	return s.PutCopy(ctx, kind, name, plain)
}

func (s sink) PutCopy(_ context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.chunks[name], s.m.kinds[name] = slices.Clone(plain), kind
	return nil
}

// source gives the snapshot to load. Each chunk is given in a buffer that is
// used again, as the real one does.
type source struct{ *memory }

func (s source) Stream(ctx context.Context, st repo.Stream) iter.Seq2[stream.Chunk, error] {
	return func(yield func(stream.Chunk, error) bool) {
		buf := make([]byte, 0, s.max)
		for _, span := range st.Spans {
			entries, err := s.list(span.List)
			if err != nil {
				yield(stream.Chunk{}, err)
				return
			}
			for _, e := range entries[span.First:][:span.Count] {
				if ctx.Err() != nil {
					yield(stream.Chunk{}, context.Cause(ctx))
					return
				}
				if s.before != nil {
					if err := s.before(ctx, e); err != nil {
						yield(stream.Chunk{}, err)
						return
					}
				}
				s.mu.Lock()
				plain := s.chunks[e.Name]
				s.mu.Unlock()
				clear(buf[:cap(buf)])
				buf = append(buf[:0], plain...)
				if !yield(stream.Chunk{Kind: e.Kind, First: e.First, Last: e.Last, Rows: e.Rows, Plain: buf}, nil) {
					return
				}
			}
		}
	}
}

func (s source) Check(_ context.Context, st repo.Stream) error {
	if s.check != nil {
		if err := s.check(st); err != nil {
			return err
		}
	}
	for _, span := range st.Spans {
		if _, err := s.list(span.List); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) list(i uint32) ([]repo.ListEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	plain, ok := m.chunks[m.refs.Lists[i].Name]
	if !ok {
		return nil, fmt.Errorf("list %d: %w", i, errs.Corrupt)
	}
	return repo.DecodeList(plain)
}

// stream adds chunks made by hand and gives their stream.
func (m *memory) stream(t *testing.T, entries []repo.ListEntry, plains [][]byte) repo.Stream {
	t.Helper()
	namer := seal.NewNamer(seal.Key{1})
	var bytes int64
	for i := range entries {
		entries[i].Name, entries[i].Length = namer.Name(entries[i].Kind, plains[i]), uint32(len(plains[i]))
		m.chunks[entries[i].Name] = plains[i]
		bytes += int64(len(plains[i]))
	}
	list, err := repo.EncodeList(entries)
	if err != nil {
		t.Fatal(err)
	}
	name := namer.Name(seal.KindList, list)
	m.chunks[name] = list
	m.refs.Lists = append(m.refs.Lists, repo.ListRef{Name: name, Entries: uint32(len(entries)), Bytes: bytes})
	return repo.Stream{Spans: []repo.Span{{List: uint32(len(m.refs.Lists) - 1), Count: uint32(len(entries))}}, Bytes: bytes}
}

func config(s *pgtest.Server) postgres.Config {
	return postgres.Config{Host: s.Dir, Port: s.Port, User: pgtest.Superuser, SSLMode: "disable", ToolDirs: []string{s.Client()}}
}

// backUp makes a snapshot of databases in memory; it must be complete.
func backUp(t *testing.T, s *pgtest.Server, databases ...string) (*memory, *repo.Content) {
	t.Helper()
	return backUpWide(t, s, 0, databases...)
}

// backUpWide is backUp with another length from which rows may be wide.
func backUpWide(t *testing.T, s *pgtest.Server, wide int64, databases ...string) (*memory, *repo.Content) {
	t.Helper()
	m := newMemory()
	snap, err := dump.Run(t.Context(), dump.Options{
		WideRow: wide,
		Config:  config(s), Job: "test", Request: job.Backup{Instance: "main", Databases: databases, Workers: 2},
		Grant:    job.Grant{NameKey: seal.Key{1}, CutKey: seal.Key{2}, RefsKey: seal.Key{3}, Cut: params},
		Uploader: m, Reporter: &recorder{}, Agent: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !snap.Complete {
		t.Fatalf("snapshot is not complete: %v", snap.Err)
	}
	m.refs = snap.References
	return m, snap.Content
}

// recorder keeps what is reported.
type recorder struct {
	mu       sync.Mutex
	progress []job.Progress
	logs     []string
}

func (r *recorder) Progress(p job.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *recorder) Log(level, msg string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, level+": "+msg)
}

// prepare plans a restore; a failure to plan ends the test.
func prepare(t *testing.T, s *pgtest.Server, m *memory, c *repo.Content, id repo.JobID, r job.Restore) *load.Restore {
	t.Helper()
	p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}}, c, id, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ofDatabases leaves out what is said of the server: that its minor version is an
// old one, where it is.
func ofDatabases(all []repo.Problem) []repo.Problem {
	return slices.DeleteFunc(slices.Clone(all), func(p repo.Problem) bool { return p.Object == "server" })
}

// restoreAs restores one database under a new name, which must succeed, and
// drops it at the end.
func restoreAs(t *testing.T, s *pgtest.Server, m *memory, c *repo.Content, from, to string, change func(*job.Restore)) load.Outcome {
	t.Helper()
	r := job.Restore{Instance: "main", Databases: []job.Mapping{{Source: from, Target: to}}, Jobs: 3}
	if change != nil {
		change(&r)
	}
	t.Cleanup(func() { s.DropDatabase(t, to) })
	cleanSubscription(t, s, to)
	out := prepare(t, s, m, c, repo.NewID(), r).Run(t.Context())
	if out.Err != nil {
		t.Fatalf("restore: %v\n%v", out.Err, out.Problems)
	}
	return out
}

// schema is what pg_dump says of a database's schema, without what differs by nature.
func schema(t *testing.T, s *pgtest.Server, db string) string {
	t.Helper()
	return schemaBy(t, s.Client(), s, db)
}

// schemaBy is schema by the pg_dump of another installation.
func schemaBy(t *testing.T, bin string, s *pgtest.Server, db string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "pg_dump"), "-s", "-d", s.URL(db))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c default_transaction_read_only=off -c statement_timeout=0")
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v: %s", err, stderr.String())
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) && !strings.HasPrefix(line, "-- Dumped from") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// content gives everything of a database that is compared: rows and fingerprints
// by table, sequences, large objects.
func contents(c *repo.Content, db string) []string {
	var all []string
	for i := range c.Logical.Databases {
		d := &c.Logical.Databases[i]
		if string(d.Name) != db {
			continue
		}
		for _, t := range d.Tables {
			name := string(t.Schema + "." + t.Name)
			if t.LoadViaRoot {
				continue // rows may be in another partition; see the test of the root
			}
			all = append(all, fmt.Sprint(name, " ", t.Columns, t.Rows, t.Fingerprint, t.Omitted))
		}
		for _, q := range d.Sequences {
			all = append(all, fmt.Sprint("sequence ", q.Schema, ".", q.Name, " ", q.LastValue, q.IsCalled))
		}
		if o := d.LargeObjects; o != nil {
			all = append(all, fmt.Sprint("large objects ", o.Count, o.Rows, o.Fingerprint, o.Meta.Bytes))
		}
	}
	slices.Sort(all)
	return all
}

// databases lists the databases of a server, without the standard ones.
func databases(t *testing.T, s *pgtest.Server) []string {
	t.Helper()
	var all []string
	for _, row := range s.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'tuskvault%' ORDER BY 1") {
		all = append(all, row[0])
	}
	return all
}

func database(c *repo.Content, name string) *repo.Database {
	for i := range c.Logical.Databases {
		if c.Logical.Databases[i].Name == pg.Name(name) {
			return &c.Logical.Databases[i]
		}
	}
	return nil
}

func tableOf(t *testing.T, d *repo.Database, name string) *repo.Table {
	t.Helper()
	for i := range d.Tables {
		if string(d.Tables[i].Name) == name {
			return &d.Tables[i]
		}
	}
	t.Fatalf("no table %s", name)
	return nil
}

// major is the server's major version.
func major(t *testing.T, s *pgtest.Server) int {
	t.Helper()
	n, err := strconv.Atoi(s.Query(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000")[0][0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// readApart reads a table's rows again as a backup does that finds rows without a
// text among them: those that wide picks in the binary format.
func readApart(t *testing.T, s *pgtest.Server, m *memory, db string, w *repo.Table, wide string) {
	t.Helper()
	conn, err := postgres.Connect(t.Context(), config(s), pg.Name(db), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var columns []string
	for _, n := range w.Columns {
		columns = append(columns, n.Quote())
	}
	from := "COPY (SELECT " + strings.Join(columns, ", ") + " FROM ONLY " + w.Schema.Quote() + "." + w.Name.Quote() + " WHERE "
	w.Runs = nil
	w.Rows, w.Fingerprint = 0, chunk.Fingerprint{}
	for _, bin := range []bool{false, true} {
		q, kind := from+"NOT "+wide+") TO STDOUT", seal.KindRowsText
		if bin {
			q, kind = from+wide+") TO STDOUT (FORMAT binary)", seal.KindRowsBinary
		}
		var row []byte
		var entries []repo.ListEntry
		var plains [][]byte
		run := repo.Run{Binary: bin}
		n, err := conn.CopyOut(t.Context(), q, bin, func(p postgres.Piece) error {
			row = append(row, p.Data...)
			if !p.Last {
				return nil
			}
			sum := chunk.Fingerprint{}
			sum.Add(chunk.HashRow(row))
			run.Fingerprint.Merge(sum)
			if len(row) <= m.max {
				entries, plains = append(entries, repo.ListEntry{Kind: kind, Rows: 1, Fingerprint: sum}), append(plains, row)
			} else {
				for from := 0; from < len(row); from += m.max {
					e := repo.ListEntry{Kind: seal.KindRowPart, First: from == 0, Last: from+m.max >= len(row)}
					if e.Last {
						e.Rows, e.Fingerprint = 1, sum
					}
					entries, plains = append(entries, e), append(plains, row[from:min(from+m.max, len(row))])
				}
			}
			row = nil
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		run.Rows, run.Stream = n, m.stream(t, entries, plains)
		if bin {
			run.Wide = wide
		} else {
			w.Rows, w.Fingerprint = run.Rows, run.Fingerprint
		}
		w.Runs = append(w.Runs, run)
	}
}
