package load_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// majors starts a server of each major version, oldest first.
func majors(t *testing.T) []*pgtest.Server {
	t.Helper()
	if os.Getenv("TUSKVAULT_LONG") == "" {
		t.Skip("a long test: set TUSKVAULT_LONG")
	}
	var all []*pgtest.Server
	for _, i := range pgtest.Majors(t) {
		o := shared.Options
		o.Bin = i.Bin
		s := pgtest.Start(t, o)
		if got := major(t, s); got != i.Major {
			t.Fatalf("%s has version %d, not %d", i.Bin, got, i.Major)
		}
		all = append(all, s)
	}
	if len(all) < 2 {
		t.Skip("no second major version; run: make majors")
	}
	return all
}

// Each version is restored into the next, and the oldest into the newest.
func TestEveryKindOfObjectGoesToLaterVersions(t *testing.T) {
	all := majors(t)
	pairs := [][2]*pgtest.Server{}
	for i := range all[1:] {
		pairs = append(pairs, [2]*pgtest.Server{all[i], all[i+1]})
	}
	if len(all) > 2 {
		pairs = append(pairs, [2]*pgtest.Server{all[0], all[len(all)-1]})
	}
	type backup struct {
		db string
		m  *memory
		c  *repo.Content
	}
	made := map[*pgtest.Server]backup{}
	for _, s := range all[:len(all)-1] {
		b := backup{db: everyDatabase(t, s)}
		b.m, b.c = backUp(t, s, b.db)
		made[s] = b
	}
	for _, p := range pairs {
		t.Run(fmt.Sprintf("%d to %d", major(t, p[0]), major(t, p[1])), func(t *testing.T) {
			b := made[p[0]]
			later(t, p[0], p[1], b.db, b.m, b.c)
		})
	}
}

// later restores a database of a server into a later one and compares.
func later(t *testing.T, from, to *pgtest.Server, db string, m *memory, c *repo.Content) {
	makeRoles(t, to)
	name := pgtest.Unique("later")
	out := restoreAs(t, to, m, c, db, name, nil)
	if r := out.Databases[0]; !r.Complete || r.TablesVerified != r.Tables || r.Tables == 0 {
		t.Errorf("result: %+v", r)
	}
	_, again := backUp(t, to, name)
	if d := cmp.Diff(contents(c, db), contents(again, name)); d != "" {
		t.Errorf("contents (-source +restored):\n%s", d)
	}
	// The newer pg_dump words both.
	if d := cmp.Diff(laterSchema(t, to.Client(), from, db), laterSchema(t, to.Client(), to, name)); d != "" {
		t.Errorf("schema (-source +restored):\n%s", d)
	}
	const rights = `SELECT pg_get_userbyid(nspowner), (SELECT array_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END || ' ' || a.privilege_type ORDER BY 1)
		FROM aclexplode(nspacl) a WHERE a.grantee = 0) FROM pg_namespace WHERE nspname = 'public'`
	if d := cmp.Diff(from.Query(t, db, rights), to.Query(t, name, rights)); d != "" {
		t.Errorf("schema public (-source +restored):\n%s", d)
	}
}

// laterSchema is schemaBy without what servers of different versions lawfully
// word differently: their defaults for subscriptions, and names of columns in views.
func laterSchema(t *testing.T, bin string, s *pgtest.Server, db string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(schemaBy(t, bin, s, db)) {
		if !strings.HasPrefix(line, "CREATE SUBSCRIPTION ") && !strings.Contains(line, " SET (pg_attver=") { // internal to 17.12
			lines = append(lines, strings.NewReplacer(" mv.", " ", " t_gen.", " ").Replace(line))
		}
	}
	return strings.Join(lines, "")
}
