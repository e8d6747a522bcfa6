package dump_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

//go:embed testdata/every.sql
var everySQL string

// tvcfg is an extension with configuration tables: of tvcfg_conf the rows that
// are not built in, of tvcfg_child all, of tvcfg_seq its state; tvcfg_plain is
// not configuration.
var tvcfg = map[string]string{
	"tvcfg.control": "default_version = '1.0'\nrelocatable = false\nschema = public\n",
	"tvcfg--1.0.sql": `
CREATE TABLE tvcfg_conf (id int PRIMARY KEY, name text, v text, builtin bool DEFAULT true);
INSERT INTO tvcfg_conf VALUES (1, 'one', 'x', true);
CREATE TABLE tvcfg_child (id int PRIMARY KEY, conf int REFERENCES tvcfg_conf);
CREATE TABLE tvcfg_plain (i int);
CREATE SEQUENCE tvcfg_seq;
SELECT pg_catalog.pg_extension_config_dump('tvcfg_conf', 'WHERE NOT builtin OR id > 100');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_child', '');
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

// everyDatabase makes a database with every kind of object.
func everyDatabase(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	for _, role := range []string{"app_owner", "app_reader"} {
		s.Exec(t, "postgres", "DO $$ BEGIN CREATE ROLE "+role+"; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$")
	}
	db := s.Database(t, "OWNER app_owner")
	s.Exec(t, db, strings.Split(strings.TrimSpace(everySQL), "\n")...)
	// A database with a subscription cannot be dropped.
	t.Cleanup(func() { dropSubscription(t, s, db) })
	return db
}

func dropSubscription(t *testing.T, s *pgtest.Server, db string) {
	t.Helper()
	s.Exec(t, db, "ALTER SUBSCRIPTION sub1 DISABLE", "ALTER SUBSCRIPTION sub1 SET (slot_name=NONE)", "DROP SUBSCRIPTION sub1")
}

// memory is an uploader that keeps everything.
type memory struct {
	max int
	// before, if set, is called before each chunk is taken.
	before func(kind seal.Kind) error

	mu       sync.Mutex
	chunks   map[seal.Name][]byte
	kinds    map[seal.Name]seal.Kind
	puts     map[seal.Kind]int
	fresh    map[seal.Kind]int // puts of chunks not known
	inUse    int
	peakUse  int
	discard  bool // keep names only
	released int
}

func newMemory(p chunk.Params) *memory {
	return &memory{max: p.Max, chunks: map[seal.Name][]byte{}, kinds: map[seal.Name]seal.Kind{}, puts: map[seal.Kind]int{}, fresh: map[seal.Kind]int{}}
}

func (m *memory) Buffer(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inUse++
	m.peakUse = max(m.peakUse, m.inUse)
	return make([]byte, 0, m.max), nil
}

func (m *memory) Release([]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inUse--
	m.released++
}

func (m *memory) Stream(context.Context) (dump.Stream, error) { return stream{m}, nil }
func (m *memory) Sent() int64                                 { return 0 }

type stream struct{ *memory }

func (m stream) Put(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	m.mu.Lock()
	m.inUse--
	m.mu.Unlock()
	return m.PutCopy(ctx, kind, name, plain)
}

func (m stream) PutCopy(_ context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	if m.before != nil {
		if err := m.before(kind); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts[kind]++
	if _, ok := m.kinds[name]; !ok {
		m.fresh[kind]++
	}
	m.kinds[name] = kind
	if !m.discard || kind == seal.KindList || kind == seal.KindArchive {
		m.chunks[name] = slices.Clone(plain)
	}
	return nil
}

// reset forgets the counts and keeps the chunks.
func (m *memory) reset() { m.puts, m.fresh = map[seal.Kind]int{}, map[seal.Kind]int{} }

// entries gives the chunks of a stream.
func (m *memory) entries(t *testing.T, s *dump.Snapshot, st repo.Stream) []repo.ListEntry {
	t.Helper()
	var all []repo.ListEntry
	var n int64
	for _, span := range st.Spans {
		ref := s.References.Lists[span.List]
		list, err := repo.DecodeList(m.chunks[ref.Name])
		if err != nil {
			t.Fatalf("list %d: %v", span.List, err)
		}
		all = append(all, list[span.First:span.First+span.Count]...)
	}
	for _, e := range all {
		n += int64(e.Length)
	}
	if n != st.Bytes {
		t.Errorf("stream of %d bytes has chunks of %d", st.Bytes, n)
	}
	return all
}

// bytes gives the content of a stream.
func (m *memory) bytes(t *testing.T, s *dump.Snapshot, st repo.Stream) []byte {
	t.Helper()
	var b []byte
	for _, e := range m.entries(t, s, st) {
		plain, ok := m.chunks[e.Name]
		if !ok || len(plain) != int(e.Length) || m.kinds[e.Name] != e.Kind {
			t.Fatalf("chunk %s: %d bytes, entry says %d", e.Name.Short(), len(plain), e.Length)
		}
		b = append(b, plain...)
	}
	return b
}

// lines gives the text rows of a table, checked against counts and fingerprints.
func (m *memory) lines(t *testing.T, s *dump.Snapshot, tab *repo.Table) []string {
	t.Helper()
	var all []string
	var sum chunk.Fingerprint
	for _, r := range tab.Runs {
		if r.Binary {
			continue
		}
		var run chunk.Fingerprint
		n := 0
		for line := range bytes.Lines(m.bytes(t, s, r.Stream)) {
			run.Add(chunk.HashRow(line))
			all = append(all, strings.TrimSuffix(string(line), "\n"))
			n++
		}
		if int64(n) != r.Rows || run != r.Fingerprint {
			t.Errorf("table %s: run of %d rows says %d, fingerprint %s says %s", tab.Name, n, r.Rows, run, r.Fingerprint)
		}
		sum.Merge(run)
	}
	if int64(len(all)) != tab.Rows || sum != tab.Fingerprint {
		t.Errorf("table %s: %d rows, says %d", tab.Name, len(all), tab.Rows)
	}
	return all
}

// recorder keeps what is reported.
type recorder struct {
	mu       sync.Mutex
	progress []job.Progress
	logs     []string
	onLog    func(string)
}

func (r *recorder) Progress(p job.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *recorder) Log(level, msg string) {
	r.mu.Lock()
	r.logs = append(r.logs, level+": "+msg)
	f := r.onLog
	r.mu.Unlock()
	if f != nil {
		f(msg)
	}
}

// blocked gives every line of blocked sessions ever reported.
func (r *recorder) blocked() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, p := range r.progress {
		all = append(all, p.Blocked...)
	}
	return strings.Join(all, "\n")
}

// options are those of a backup of one database as the superuser.
func options(s *pgtest.Server, m *memory, databases ...string) dump.Options {
	return dump.Options{
		Config:   postgres.Config{Host: s.Dir, Port: s.Port, User: pgtest.Superuser, SSLMode: "disable", ToolDirs: []string{s.Client()}},
		Job:      "test" + pgtest.Unique(""),
		Request:  job.Backup{Instance: "main", Databases: databases, Workers: 2},
		Grant:    grant(chunk.Params{Target: m.max / 5, Min: m.max / 16, Max: m.max}),
		Uploader: m, Reporter: &recorder{}, Agent: "test",
	}
}

func grant(p chunk.Params) job.Grant {
	return job.Grant{NameKey: seal.Key{1}, CutKey: seal.Key{2}, RefsKey: seal.Key{3}, Cut: p}
}

var small = chunk.Params{Target: 12 << 10, Min: 4 << 10, Max: 64 << 10}

// mustRun runs a backup that must be complete.
func mustRun(t *testing.T, o dump.Options) *dump.Snapshot {
	t.Helper()
	s, err := dump.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Complete || s.Err != nil {
		t.Fatalf("not complete: %v", s.Err)
	}
	return s
}

// only gives the single database of a snapshot.
func only(t *testing.T, s *dump.Snapshot) *repo.Database {
	t.Helper()
	if n := len(s.Content.Logical.Databases); n != 1 {
		t.Fatalf("%d databases", n)
	}
	return &s.Content.Logical.Databases[0]
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

func names(all []pg.Name) string {
	var s []string
	for _, n := range all {
		s = append(s, string(n))
	}
	return strings.Join(s, ",")
}

// objectPages reads what the data stream of large objects holds: size by OID.
func objectPages(t *testing.T, b []byte) map[uint32]int {
	t.Helper()
	sizes := map[uint32]int{}
	r := bytes.NewReader(b)
	for {
		var row struct {
			Fields int16
			L1     int32
			OID    uint32
			L2     int32
			Page   int32
			Length int32
		}
		if err := binary.Read(r, binary.BigEndian, &row); errors.Is(err, io.EOF) {
			return sizes
		} else if err != nil {
			t.Fatal(err)
		}
		if row.Fields != 3 || row.L1 != 4 || row.L2 != 4 {
			t.Fatalf("row of large objects: %+v", row)
		}
		sizes[row.OID] += int(row.Length)
		if _, err := r.Seek(int64(row.Length), io.SeekCurrent); err != nil {
			t.Fatal(err)
		}
	}
}
