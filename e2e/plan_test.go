package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// planned are the lines of a job's plan that say something against the restore,
// with their hints.
func planned(lines []string) (all []string) {
	for i, l := range lines {
		if strings.HasPrefix(l, "refused: ") || strings.HasPrefix(l, "warning: ") {
			all = append(all, l)
			if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  hint: ") {
				all = append(all, lines[i+1])
			}
		}
	}
	return all
}

func refusal(line string) bool { return strings.HasPrefix(line, "refused: ") }

// refusedPlan runs a restore that must be refused and gives its job.
func refusedPlan(t *testing.T, s *harness.System, args ...string) (out struct {
	ID, Message string
	Result      struct{ Plan []string }
}) {
	t.Helper()
	r := s.Ctl(t.Context(), append(args, "-o", "json")...)
	if r.Code != 6 {
		t.Fatalf("exit code %d, want 6\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	var v struct{ Jobs []json.RawMessage }
	must(t, json.Unmarshal([]byte(r.Stdout), &v))
	must(t, json.Unmarshal(v.Jobs[0], &out))
	return out
}

func TestADryRunNamesEveryFixAndTheRealRunIsRefusedInTheSameWords(t *testing.T) {
	from := pgtest.Start(t, pgtest.Options{})
	to := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_connections": "6", "max_locks_per_transaction": "10", "max_prepared_transactions": "0",
		"archive_mode": "on", "archive_command": "false"}})
	space := filepath.Join(from.Dir, "space")
	must(t, os.Mkdir(space, 0o700))
	var owner syscall.Stat_t
	must(t, syscall.Stat(from.Data, &owner))
	must(t, os.Chown(space, int(owner.Uid), int(owner.Gid)))
	sql(t, from, "postgres", "CREATE ROLE clerk", "CREATE TABLESPACE fast LOCATION '"+space+"'", "CREATE DATABASE shop OWNER clerk")
	sql(t, from, "shop", "CREATE TABLE t (i int) TABLESPACE fast", `CREATE TABLE names (n text COLLATE "de-x-icu" PRIMARY KEY)`, "CREATE TABLE p (k int PRIMARY KEY) PARTITION BY RANGE (k)",
		"DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); END LOOP; END $$")
	sql(t, to, "postgres", "SELECT pg_create_physical_replication_slot('idle', true)", "CREATE DATABASE shop", "CREATE TABLE w AS SELECT 1 AS i", "SELECT pg_switch_wal()")
	s := running(t, from)
	id := backup(t, s, "--database", "shop")
	must(t, s.Enroll(t.Context(), "db2", to.Env("postgres")))
	must(t, s.Eventually(t.Context(), "archiving fails", nil, func() (bool, error) {
		return value(t, to.URL("postgres"), "SELECT failed_count > 0 FROM pg_stat_archiver") == "t", nil
	}))
	databases := func() string {
		return value(t, to.URL("postgres"), "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")
	}
	before := databases()

	// The text begins with what stands in the way.
	r := s.Ctl(t.Context(), "restore", id, "--to", "db2/main", "--jobs", "30", "--dry-run")
	if r.Code != 6 {
		t.Errorf("exit code %d, want 6\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, want := range []string{
		"refused: database shop: it exists already", "hint: restore under another name (shop=NEW), or allow replacing it (--replace)",
		"refused: database shop: role clerk: it does not exist", `hint: CREATE ROLE "clerk"; or restore with missing roles created (--globals)`,
		"refused: database shop: tablespace fast: it does not exist", `hint: CREATE TABLESPACE "fast" LOCATION`,
		"refused: database shop: table public.p: 602 relations are locked at once", "hint: ALTER SYSTEM SET max_locks_per_transaction = ",
		"warning: max_connections: ", "raise max_connections (now 6) and restart the server; or ask for fewer: --jobs",
		"warning: archive_command: archiving fails since", "hint: mend archive_command",
		"warning: replication slot idle: nobody reads from it", "hint: SELECT pg_drop_replication_slot('idle');",
		"time: no past restore to estimate from",
	} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("%q is not said:\n%s", want, r.Stdout)
		}
	}
	lines := strings.Split(r.Stdout, "\n")
	refused, warning := -1, -1 // the last refusal, and the first warning
	for i, l := range lines {
		if refusal(l) {
			refused = i
		}
		if warning < 0 && strings.HasPrefix(l, "warning: ") {
			warning = i
		}
	}
	if refused < 0 || refused > warning {
		t.Errorf("refusals do not come first:\n%s", r.Stdout)
	}
	if strings.Contains(r.Stdout, "problem ") {
		t.Errorf("something is said twice:\n%s", r.Stdout)
	}

	dry := refusedPlan(t, s, "restore", id, "--to", "db2/main", "--jobs", "30", "--dry-run")
	real := refusedPlan(t, s, "restore", id, "--to", "db2/main", "--jobs", "30", "--wait")
	if d := cmp.Diff(planned(dry.Result.Plan), planned(real.Result.Plan)); d != "" {
		t.Errorf("dry and real run differ:\n%s", d)
	}
	if d := cmp.Diff(dry.Message, real.Message); d != "" {
		t.Error(d)
	}
	for _, l := range planned(real.Result.Plan) {
		if !strings.Contains(ok(t, s, "job", "logs", real.ID), l) {
			t.Errorf("not in the job's log: %s", l)
		}
	}
	if now := databases(); now != before {
		t.Errorf("databases were %s, are %s", before, now)
	}
}
