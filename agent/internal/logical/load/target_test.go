package load_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// said tells whether a line of a plan begins with words.
func said(lines []string, words string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, words) })
}

func TestPlanningWritesNothing(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}})
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	// A transaction that writes anything, in whatever database, takes a number.
	next := func() string {
		return s.Query(t, "postgres", "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())")[0][0]
	}
	before := next()
	for _, r := range []job.Restore{mapping(db, "new"), mapping(db, db), {Replace: true, Databases: []job.Mapping{{Source: db, Target: db}}}, mapping(db, "postgres"), {Globals: true}} {
		prepare(t, s, m, c, repo.NewID(), r)
	}
	if after := next(); after != before {
		t.Errorf("the next transaction was %s and is %s: planning has written", before, after)
	}
}

func TestThePlanIsMadeOfWhatTheServerSays(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Extensions: tvcfg, Settings: map[string]string{
		"max_connections": "12", "max_locks_per_transaction": "10", "archive_mode": "on", "archive_command": "false", "max_slot_wal_keep_size": "-1"}})
	missing := s.Dir + "/not/there"
	from := shared.Server(t)
	db := from.Database(t)
	from.Exec(t, db, "CREATE EXTENSION tvcfg", "CREATE TABLE names (n text COLLATE \"de-x-icu\" PRIMARY KEY)", "CREATE TABLE p (k int PRIMARY KEY) PARTITION BY RANGE (k)",
		"DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); END LOOP; END $$")
	m, c := backUp(t, from, db)
	d := database(c, db)
	if d.Size == nil || len(d.Collations) != 1 {
		t.Fatalf("size %+v, collations %+v", d.Size, d.Collations)
	}
	for i := range d.Extensions {
		if d.Extensions[i].Name == "tvcfg" {
			d.Extensions[i].Version = "2.0"
		}
	}
	now := d.Collations[0].Version
	d.Collations[0].Version = "1.2"
	d.Properties = json.RawMessage(strings.NewReplacer(`"datcollate": "C"`, `"datcollate": "xx_XX.UTF-8"`, `"tablespace": "pg_default"`, `"tablespace": "fast"`).Replace(string(d.Properties)))
	c.Logical.Globals.Tablespaces = []json.RawMessage{json.RawMessage(`{"name": "fast", "owner": "postgres", "location": "` + missing + `"}`)}
	d.Size.Bytes = 1 << 60
	s.Exec(t, "postgres", "SELECT pg_create_physical_replication_slot('idle', true)", "CREATE TABLE w AS SELECT 1 AS i", "SELECT pg_switch_wal()")
	waitUntil(t, func() bool {
		return s.Query(t, "postgres", "SELECT failed_count > 0 FROM pg_stat_archiver")[0][0] == "t"
	})
	r := mapping(db, "new")
	r.Globals, r.Jobs = true, 30
	p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: &recorder{}}, c, repo.NewID(), r)
	if err != nil {
		t.Fatal(err)
	}
	lines := p.Plan().Lines()
	for _, want := range []string{
		"refused: database " + db + ": locale xx_XX.UTF-8: the server's host does not have it",
		"refused: tablespace fast: its folder " + missing + " does not exist",
		"refused: disk " + s.Dir,
		"warning: database " + db + ": extension tvcfg: version 2.0 in the snapshot, 1.0 on the server, which has none that is as new",
		"warning: database " + db + ": collation pg_catalog.de-x-icu: icu had version 1.2 at the backup and has " + now + " here",
		"refused: database " + db + ": table public.p: 602 relations are locked at once, with partitions and indexes; the lock table has room for 120",
		"warning: max_connections: ", "warning: archive_command: archiving fails since", "warning: replication slot idle: nobody reads from it",
		"time: no past restore to estimate from",
	} {
		if !said(lines, want) {
			t.Errorf("%q is not said", want)
		}
	}
	if said(lines, "not checked: free disk") {
		t.Error("the disk was not looked at")
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}
}

func TestTheDiskIsLookedAtOnlyWhereTheServerIsCertainToBe(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	lines := func(host string) []string {
		cfg := config(s)
		cfg.Host = host
		p, err := load.Prepare(t.Context(), load.Options{Config: cfg, Source: source{m}, Reporter: &recorder{}}, c, repo.NewID(), mapping(db, "new"))
		if err != nil {
			t.Fatal(err)
		}
		return p.Plan().Lines()
	}
	if l := lines(s.Dir); said(l, "not checked: free disk") {
		t.Errorf("over the socket: %v", l)
	}
	if l := lines("127.0.0.1"); said(l, "not checked: free disk") {
		t.Errorf("over TCP, with the data directory in view: %v", l)
	}
}

// waitUntil asks until the answer is yes.
func waitUntil(t *testing.T, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !ask() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not come to that within a minute")
		}
	}
}
