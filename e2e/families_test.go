package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/e2e/families"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// familyOptions are those of servers that hold families.
func familyOptions(t *testing.T, bin string) pgtest.Options {
	t.Helper()
	files, err := families.Extensions()
	must(t, err)
	return pgtest.Options{Bin: bin, Extensions: files, Settings: map[string]string{"wal_level": "logical", "max_connections": "60"}}
}

// The contract with whoever's schema it is: each family is backed up, restored
// and proved equal three ways.
func TestEveryFamilyComesBackEqual(t *testing.T) {
	pg := pgtest.Start(t, familyOptions(t, ""))
	newRound(t, pg, pg).run(t)
}

// round is a backup of every family on one server and a restore on the same or
// another, later, one.
type round struct {
	from, to   *pgtest.Server
	major, top int // versions of the two
	// bin has the pg_dump that words the schemas of both.
	bin      string
	families []*families.Family
	absent   []string // families that this version cannot have
	sessions []*pgconn.PgConn
	broken   map[*families.Family]string // why it could not be backed up or restored

	mu      sync.Mutex
	results map[string]bool // families that were compared: equal or not
}

func newRound(t *testing.T, from, to *pgtest.Server) *round {
	t.Helper()
	r := &round{from: from, to: to, major: majorOf(t, from), top: majorOf(t, to), results: map[string]bool{}, broken: map[*families.Family]string{}}
	r.bin = to.Client()
	all, err := families.All()
	must(t, err)
	for _, f := range all {
		if f.Since > r.major {
			r.absent = append(r.absent, f.Name)
			continue
		}
		r.families = append(r.families, f)
	}
	return r
}

func majorOf(t *testing.T, s *pgtest.Server) int {
	t.Helper()
	n, err := strconv.Atoi(s.Query(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000")[0][0])
	must(t, err)
	return n
}

// source and target name a family's databases.
func (r *round) source(f *families.Family) string { return "fam_" + f.Name }

func (r *round) target(f *families.Family) string {
	if r.from == r.to {
		return "fam_" + f.Name + "_back"
	}
	return r.source(f)
}

// run makes the families, backs them up in one job, restores them in one, backs
// the restored ones up, and compares.
func (r *round) run(t *testing.T) {
	r.make(t)
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", r.from.Env("postgres"), "--config", toolConfig(t, s, r))))
	target := "db1"
	if r.from != r.to {
		target = "db2"
		must(t, s.Enroll(t.Context(), target, r.to.Env("postgres"), "--config", toolConfig(t, s, r)))
	}
	args := []string{"backup", "db1/main", "--wait"}
	for _, f := range r.families {
		args = append(args, "--database", r.source(f))
	}
	first := r.ended(t, s, r.source, args...)
	args = []string{"restore", first.SnapshotID, "--to", target + "/main", "--wait"}
	for _, f := range r.whole() {
		args = append(args, "--database", r.source(f)+"="+r.target(f))
	}
	restored := r.ended(t, s, r.target, args...)
	args = []string{"backup", target + "/main", "--wait"}
	for _, f := range r.whole() {
		args = append(args, "--database", r.target(f))
	}
	again := r.ended(t, s, r.target, args...)
	before, after := tablesOf(t, s, first.SnapshotID), tablesOf(t, s, again.SnapshotID)
	for _, c := range r.sessions {
		must(t, c.Close(t.Context()))
	}
	t.Run("families", func(t *testing.T) {
		for _, f := range r.families {
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				t.Cleanup(func() { r.note(f, !t.Failed()) })
				if why := r.broken[f]; why != "" {
					t.Fatal(why)
				}
				r.compare(t, f, restored, before[r.source(f)], after[r.target(f)])
			})
		}
	})
	if len(r.absent) > 0 {
		t.Logf("not on version %d: %s", r.major, strings.Join(r.absent, ", "))
	}
}

func (r *round) note(f *families.Family, equal bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[f.Name] = equal
}

// toolConfig is an agent's configuration that finds the programs of both servers.
func toolConfig(t *testing.T, s *harness.System, r *round) string {
	t.Helper()
	file := filepath.Join(s.Dir, "tools.yaml")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf("tool_dirs: [%q, %q]\n", r.from.Client(), r.bin)), 0o600))
	return file
}

// ended runs tuskctl, waits for its one job and gives it. Families whose
// database it could not do are noted as broken; name says how each is called.
func (r *round) ended(t *testing.T, s *harness.System, name func(*families.Family) string, args ...string) jobView {
	t.Helper()
	out := s.Ctl(t.Context(), append(args, "-o", "json")...)
	var v jobs
	if err := json.Unmarshal([]byte(out.Stdout), &v); err != nil || len(v.Jobs) != 1 || v.Jobs[0].Result == nil || v.Jobs[0].SnapshotID == "" && args[0] == "backup" {
		t.Fatalf("no job, or no result of it: %v", out.Err())
	}
	done := map[string]bool{}
	for _, d := range v.Jobs[0].Result.Databases {
		done[cmp.Or(d.Target, d.Database)] = d.Complete
		for _, f := range r.whole() {
			if cmp.Or(d.Target, d.Database) == name(f) && !d.Complete {
				r.broken[f] = args[0] + ": " + d.Error
			}
		}
	}
	for _, f := range r.whole() {
		if !done[name(f)] {
			r.broken[f] = args[0] + ": " + v.Jobs[0].Message
		}
	}
	return v.Jobs[0]
}

// finished runs tuskctl, waits for its one job and gives it; it must succeed.
func finished(t *testing.T, s *harness.System, args ...string) jobView {
	t.Helper()
	var v jobs
	must(t, s.JSON(t.Context(), &v, args...))
	if len(v.Jobs) != 1 {
		t.Fatalf("tuskctl %s: %d jobs", args[0], len(v.Jobs))
	}
	return v.Jobs[0]
}

// whole are the families that nothing went wrong with so far.
func (r *round) whole() []*families.Family {
	return slices.DeleteFunc(slices.Clone(r.families), func(f *families.Family) bool { return r.broken[f] != "" })
}

// make makes every family's database, and leaves sessions open.
func (r *round) make(t *testing.T) {
	t.Helper()
	for _, f := range r.families {
		for _, q := range f.Globals {
			r.from.Exec(t, "postgres", r.words(f, q.SQL, r.from, r.source(f)))
			if r.from != r.to {
				r.to.Exec(t, "postgres", r.words(f, q.SQL, r.to, r.target(f)))
			}
		}
	}
	sessions := make([]*pgconn.PgConn, len(r.families))
	t.Run("make", func(t *testing.T) {
		for i, f := range r.families {
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				name := r.source(f)
				r.from.Exec(t, "postgres", "CREATE DATABASE "+pg.Name(name).Quote()+" "+f.Create)
				r.from.Exec(t, name, r.queries(f, f.Setup)...)
				if len(f.Session) == 0 {
					return
				}
				c, err := pgconn.Connect(context.WithoutCancel(t.Context()), r.from.URL(name))
				must(t, err)
				sessions[i] = c
				for _, q := range r.queries(f, f.Session) {
					_, err := c.Exec(t.Context(), q).ReadAll()
					must(t, err)
				}
			})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	for _, c := range sessions {
		if c != nil {
			r.sessions = append(r.sessions, c)
		}
	}
}

// words puts the database's name and a folder in for what stands for them.
func (r *round) words(f *families.Family, query string, s *pgtest.Server, database string) string {
	return strings.NewReplacer(":DATABASE", pg.Name(database).Quote(), ":FOLDER", filepath.Join(s.Dir, f.Name)).Replace(query)
}

func (r *round) queries(f *families.Family, all []families.Query) []string {
	var out []string
	for _, q := range all {
		if q.Since <= r.major {
			out = append(out, r.words(f, q.SQL, r.from, r.source(f)))
		}
	}
	return out
}

// compare proves a family's restored database equal to its source.
func (r *round) compare(t *testing.T, f *families.Family, restored jobView, before, after map[string]tableView) {
	source, target := r.source(f), r.target(f)
	r.compareReports(t, f, restored, before, after)
	if d := diff.Diff(f.Normalize(r.expected(t, f), r.major != r.top), f.Normalize(schemaBy(t, r.bin, r.to, target), r.major != r.top)); d != "" {
		t.Errorf("schema (-expected +restored):\n%s", d)
	}
	want, got := digests(t, r.from, source), digests(t, r.to, target)
	for _, name := range f.Differs {
		delete(want, name)
		delete(got, name)
	}
	if d := diff.Diff(want, got); d != "" {
		t.Errorf("rows (-source +restored):\n%s", d)
	}
	for _, c := range f.Checks {
		if c.Since <= r.major {
			r.check(t, f, c)
		}
	}
}

// compareReports looks at what the programs themselves say.
func (r *round) compareReports(t *testing.T, f *families.Family, restored jobView, before, after map[string]tableView) {
	t.Helper()
	target := r.target(f)
	for _, d := range restored.Result.Databases {
		if d.Target == target && (!d.Complete || d.Tables != d.TablesVerified+d.TablesCompared) {
			t.Errorf("restore: %+v", d)
		}
	}
	for name, v := range before {
		if slices.Contains(f.Differs, name) {
			delete(before, name)
			delete(after, name)
		}
		if r.major < 15 && r.top >= 15 && slices.Contains(f.Reworded, name) {
			v.Fingerprint = after[name].Fingerprint
			before[name] = v
		}
	}
	if d := diff.Diff(before, after); d != "" {
		t.Errorf("fingerprints (-source +restored):\n%s", d)
	}
	said := map[string]bool{}
problems:
	for _, p := range restored.Result.Problems {
		if p.Database != target && p.Database != r.source(f) {
			continue
		}
		text := p.Object + ": " + p.Reason
		// Another build of ICU has other versions of its collations, and that is said.
		if r.from != r.to && strings.Contains(text, "texts may come in another order") {
			continue
		}
		if r.major != r.top && strings.HasPrefix(text, "extension ") && strings.Contains(text, " in the snapshot, ") {
			continue // contrib's versions go with the server's
		}
		if r.major != r.top && strings.Contains(text, "collation ") && strings.Contains(text, "icu had version") {
			continue // so does the library's
		}
		if r.from.Client() != r.from.Bin && strings.Contains(text, "wrote it in words that version") {
			continue // a newer pg_dump was used, since the server has none
		}
		for _, words := range f.Problems {
			if strings.Contains(text, words) {
				said[words] = true
				continue problems
			}
		}
		t.Errorf("a problem that the family does not know: %s", text)
	}
	for _, words := range f.Problems {
		if !said[words] {
			t.Errorf("not said: %s", words)
		}
	}
}

// check runs one of the family's own checks in both databases.
func (r *round) check(t *testing.T, f *families.Family, c families.Check) {
	t.Helper()
	want := answer(t, r.from.URL(r.source(f)), r.words(f, c.SQL, r.from, r.source(f)))
	got := answer(t, r.to.URL(r.target(f)), r.words(f, c.SQL, r.to, r.target(f)))
	switch {
	case c.Fails != "":
		if !failedWith(want, c.Fails) || !failedWith(got, c.Fails) {
			t.Errorf("%s: SQLSTATE %s expected; source %q, restored %q", c.What, c.Fails, want, got)
		}
		return
	case c.Gives != nil:
		if d := diff.Diff(c.Gives, want); d != "" {
			t.Errorf("%s: the source (-expected +is):\n%s", c.What, d)
		}
		want = c.Gives
	case len(want) == 0:
		t.Errorf("%s: no row, nothing is proved", c.What)
	}
	if d := diff.Diff(want, got); d != "" {
		t.Errorf("%s (-expected +restored):\n%s", c.What, d)
	}
}

func failedWith(answer []string, code string) bool {
	return len(answer) == 1 && strings.HasPrefix(answer[0], "error "+code+" ")
}

// answer runs queries and gives the rows of the last as lines, or one line that
// tells its SQLSTATE.
func answer(t *testing.T, url, query string) []string {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	var results []*pgconn.Result
	for q := range strings.SplitSeq(query, ";\n") { // an encoding set by one counts for the next
		if results, err = c.Exec(t.Context(), q).ReadAll(); err != nil {
			break
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return []string{"error " + e.Code + " " + e.Message}
	}
	must(t, err)
	lines := []string{}
	for _, row := range results[len(results)-1].Rows {
		var values []string
		for _, v := range row {
			if v == nil {
				v = []byte("NULL")
			}
			values = append(values, string(v))
		}
		lines = append(lines, strings.Join(values, " | "))
	}
	return lines
}

// expected is the schema that the restored database should have: the source's
// own, or, since servers of different versions word the same differently, that of
// a database made by the stock programs from the source beside the restored one.
func (r *round) expected(t *testing.T, f *families.Family) string {
	t.Helper()
	source := r.source(f)
	if r.major == r.top {
		return schemaBy(t, r.bin, r.from, source)
	}
	reference := source + "_reference"
	r.to.Exec(t, "postgres", "CREATE DATABASE "+pg.Name(reference).Quote()+" "+f.Create)
	if value(t, r.from.URL(source), "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'public'") == "0" {
		r.to.Exec(t, reference, "DROP SCHEMA public") // which pg_dump never says
	} else if r.top < 15 && r.bin != r.to.Bin {
		r.to.Exec(t, reference, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") // which a pg_dump of 15 or later takes for granted
	}
	tool := r.bin
	if r.major >= 15 {
		tool = r.from.Client() // its own knows what is internal to it; one before 15 leaves out what schema public has
	}
	archive := filepath.Join(t.TempDir(), "schema.dump")
	cmd := exec.CommandContext(t.Context(), filepath.Join(tool, "pg_dump"), "-Fc", "--schema-only", "-f", archive, "-d", r.from.URL(source))
	if r.major >= 17 {
		cmd.Env = append(os.Environ(), "PGOPTIONS=-c event_triggers=off")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_dump %s: %v: %s", source, err, out)
	}
	// It ends with an error where a setting is newer than the server; what matters
	// is what it made.
	out, _ := exec.CommandContext(t.Context(), filepath.Join(r.bin, "pg_restore"), "-d", r.to.URL(reference), archive).CombinedOutput()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pg_restore said: %s", out)
		}
	})
	return schemaBy(t, r.bin, r.to, reference)
}

// schemaBy is what the pg_dump of an installation says of a database's schema.
func schemaBy(t *testing.T, bin string, s *pgtest.Server, database string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "pg_dump"), "--schema-only", "-d", s.URL(database))
	// What the database's own settings would change in the text.
	options := "-c default_transaction_read_only=off -c statement_timeout=0 -c standard_conforming_strings=on -c quote_all_identifiers=off -c client_encoding=" +
		value(t, s.URL(database), "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")
	if majorOf(t, s) >= 17 {
		options += " -c event_triggers=off" // one on login may let nobody in
	}
	cmd.Env = append(os.Environ(), "PGOPTIONS="+options)
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("pg_dump %s: %v: %s", database, err, e.Stderr)
	}
	must(t, err)
	return string(out)
}

// tableView is what a snapshot says of a table.
type tableView struct {
	Rows        int64  `json:"rows"`
	Fingerprint string `json:"fingerprint"`
	Omitted     string `json:"omitted"`
}

// tablesOf gives a snapshot's tables by database.
func tablesOf(t *testing.T, s *harness.System, snapshot string) map[string]map[string]tableView {
	t.Helper()
	var v struct {
		Tables []struct {
			Database, Schema, Name string
			tableView
		} `json:"tables"`
	}
	must(t, s.JSON(t.Context(), &v, "snapshot", "tables", snapshot))
	all := map[string]map[string]tableView{}
	for _, x := range v.Tables {
		if all[x.Database] == nil {
			all[x.Database] = map[string]tableView{}
		}
		name := x.Schema + "." + x.Name
		if x.Schema == "public" {
			name = x.Name
		}
		all[x.Database][name] = x.tableView
	}
	if len(all) == 0 {
		t.Fatal("the snapshot has no tables")
	}
	return maps.Clone(all)
}
