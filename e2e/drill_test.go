package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// drillDir is a drill folder that the server's user can reach: a test's own
// folder cannot be passed through by others.
func drillDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tuskvault-e2e-drill-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "d")
}

// drilling is a system whose agent holds drills below a folder.
func drilling(t *testing.T, pg *pgtest.Server) (*harness.System, string, []string) {
	t.Helper()
	dir := drillDir(t)
	env := append(pg.Env("postgres"), "TUSKVAULT_DRILL_DIR="+dir)
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", env)))
	return s, dir, env
}

// drillReport is what tuskctl prints of a report.
type drillReport struct {
	Statement   string `json:"statement"`
	Signature   string `json:"signature"`
	Certificate string `json:"certificate"`
	Verdict     string `json:"verdict"`
	Reason      string `json:"reason"`
	Phases      []struct {
		Name string `json:"name"`
	} `json:"phases"`
	DiskBytes int64 `json:"disk_bytes"`
	Databases []struct {
		Name              string `json:"name"`
		Verdict           string `json:"verdict"`
		Rows              int64  `json:"rows"`
		TablesEqual       int64  `json:"tables_equal"`
		TablesDiffering   int64  `json:"tables_differing"`
		TablesNotCompared int64  `json:"tables_not_compared"`
		Amcheck           string `json:"amcheck"`
		Tables            []struct {
			Name   string `json:"name"`
			Result string `json:"result"`
			Reason string `json:"reason"`
		} `json:"tables"`
		Assertions []struct {
			Name   string `json:"name"`
			Result string `json:"result"`
			Detail string `json:"detail"`
		} `json:"assertions"`
	} `json:"databases"`
}

func reports(t *testing.T, s *harness.System, snapshot string) []drillReport {
	t.Helper()
	var v struct {
		Reports []drillReport `json:"reports"`
	}
	must(t, s.JSON(t.Context(), &v, "snapshot", "reports", snapshot))
	return v.Reports
}

// runsBelow lists processes of PostgreSQL that work below a folder.
func runsBelow(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, link := range cwds {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			found = append(found, filepath.Dir(link)+" in "+cwd)
		}
	}
	return found
}

// nothingLeft wants no process and no folder of a drill.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := runsBelow(t, dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "drill-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestADrillProvesASnapshotAndLeavesNothing(t *testing.T) {
	pg := shared.Server(t)
	source, other := filled(t, pg, 0.02), pg.Database(t)
	sql(t, pg, other, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS i; CREATE INDEX ON t (i)")
	s, dir, _ := drilling(t, pg)
	says(t, "snapshot ls", ok(t, s, "agent", "show", "db1"), "can with PostgreSQL", "may hold drills of its own snapshots")
	id := backup(t, s, "--database", source, "--database", other)
	says(t, "snapshot ls", ok(t, s, "snapshot", "ls"), "never")

	file := filepath.Join(t.TempDir(), "assertions.yaml")
	must(t, os.WriteFile(file, []byte("- {database: "+other+", name: how many, sql: SELECT count(*) FROM t, expect: \"1000\"}\n"), 0o600))
	out := ok(t, s, "snapshot", "verify", id, "--assert", other+": SELECT max(i) = 1000 FROM public.t; ", "--assert-file", file, "--wait")
	t.Log(out)
	says(t, "verify", out, "PASSED", "pg_amcheck: clean", "how many", "holds", "db1: chosen, the snapshot's own host")
	nothingLeft(t, dir)
	if strings.Contains(ok(t, s, "snapshot", "ls"), "never") {
		t.Error("the snapshot is still never verified")
	}

	all := reports(t, s, id)
	if len(all) != 1 || all[0].Verdict != "passed" || len(all[0].Databases) != 2 || all[0].DiskBytes == 0 || len(all[0].Phases) < 8 {
		t.Fatalf("reports %+v", all)
	}
	for _, d := range all[0].Databases {
		if d.TablesEqual == 0 || d.TablesDiffering+d.TablesNotCompared != 0 || d.Amcheck != "clean" || d.Verdict != "passed" {
			t.Errorf("database %+v", d)
		}
	}
	checkSignature(t, all[0], id)

	// What does not hold is said, and costs the verdict; the other database is not
	// even begun unless it is asked for.
	refused(t, s, 7, []string{"FAILED", "does not hold", "1000", "permission denied", `"t"`}, "snapshot", "verify", id, "--database", other, "--wait",
		"--assert", other+": SELECT count(*) > 1000 FROM t", "--assert", other+": SELECT pg_read_file('/etc/passwd') IS NOT NULL",
		"--assert", other+": SELECT current_setting('transaction_read_only') = 'on'")
	says(t, "snapshot ls", ok(t, s, "snapshot", "ls"), "FAILED")
	nothingLeft(t, dir)
	if all := reports(t, s, id); len(all) != 2 || all[0].Verdict != "failed" || all[1].Verdict != "passed" {
		t.Errorf("%d reports", len(all))
	}
	refused(t, s, 3, []string{"nosuch"}, "snapshot", "verify", id, "--database", "nosuch")
	refused(t, s, 2, []string{"DATABASE: QUERY"}, "snapshot", "verify", id, "--assert", "SELECT 1")
}

// checkSignature checks a report by other means than the product's.
func checkSignature(t *testing.T, r drillReport, snapshot string) {
	t.Helper()
	var raw [3][]byte
	for i, s := range []string{r.Statement, r.Signature, r.Certificate} {
		b, err := base64.StdEncoding.DecodeString(s)
		must(t, err)
		raw[i] = b
	}
	c, err := x509.ParseCertificate(raw[2])
	must(t, err)
	hash := sha256.Sum256(raw[0])
	if !ecdsa.VerifyASN1(c.PublicKey.(*ecdsa.PublicKey), hash[:], raw[1]) {
		t.Error("the signature does not fit")
	}
	if !strings.Contains(c.URIs[0].String(), "/agent/") {
		t.Errorf("signed by %s", c.URIs[0])
	}
	var v struct {
		Snapshot string `json:"snapshot"`
		Verdict  string `json:"verdict"`
	}
	must(t, json.Unmarshal(raw[0], &v))
	if v.Snapshot != snapshot || v.Verdict != "passed" {
		t.Errorf("signed %+v", v)
	}
}

func TestADrillOfADamagedSnapshotFailsAndNamesTheTable(t *testing.T) {
	pg := shared.Server(t)
	db := pg.Database(t)
	sql(t, pg, db, "CREATE TABLE small AS SELECT 1 AS i", "CREATE TABLE harmed AS SELECT i, md5(i::text) AS x FROM generate_series(1, 20000) i")
	s, dir, _ := drilling(t, pg)
	id := backup(t, s, "--database", db)
	// The largest frames are the rows of the large table: the middle of the pack.
	for _, p := range packs(t, s) {
		flip(t, p)
	}
	refused(t, s, 7, []string{"FAILED", "harmed", "corrupt"}, "snapshot", "verify", id, "--wait")
	nothingLeft(t, dir)
	if r := reports(t, s, id); len(r) != 1 || r[0].Verdict != "failed" || r[0].Databases[0].TablesDiffering == 0 {
		t.Errorf("reports %+v", r)
	}
}

func TestNobodyWhoCanHoldADrillIsAnErrorWithTheReasons(t *testing.T) {
	pg := shared.Server(t)
	db := pg.Database(t)
	sql(t, pg, db, "CREATE TABLE t AS SELECT 1 AS i")
	s, _, env := drilling(t, pg)
	id := backup(t, s, "--database", db)
	_, err := s.Agents["db1"].Stop(t.Context())
	must(t, err)
	must(t, s.StartAgent(t.Context(), "db1", "", append(env, "TUSKVAULT_ALLOW=backup")))
	must(t, s.Online(t.Context(), "db1/main"))
	refused(t, s, 9, []string{"db1: its own configuration does not allow drill", "hint:"}, "snapshot", "verify", id, "--wait")

	// Another host may not, whatever it has, until an admin says so.
	must(t, s.Enroll(t.Context(), "db2", append(pg.Env("postgres"), "TUSKVAULT_DRILL_DIR="+drillDir(t))))
	refused(t, s, 4, []string{"db2", "role drill"}, "snapshot", "verify", id, "--on", "db2", "--wait")
	ok(t, s, "agent", "drills", "db2", "--on")
	says(t, "agent show", ok(t, s, "agent", "show", "db2"), "any snapshot")
	out := ok(t, s, "snapshot", "verify", id, "--wait")
	says(t, "verify", out, "PASSED", "agent db2", "db1: its own configuration does not allow drill")
	ok(t, s, "agent", "drills", "db2", "--off")
	refused(t, s, 9, []string{"no agent can hold the drill"}, "snapshot", "verify", id, "--wait")
}

func TestAnAgentKilledInADrillLeavesNothingAfterItsNextStart(t *testing.T) {
	pg := shared.Server(t)
	db := pg.Database(t)
	sql(t, pg, db, "CREATE TABLE t AS SELECT i, md5(i::text) AS x FROM generate_series(1, 300000) i", "CREATE INDEX ON t (x)")
	s, dir, env := drilling(t, pg)
	id := backup(t, s, "--database", db)
	exists := func(pattern string) bool {
		found, _ := filepath.Glob(filepath.Join(dir, "drill-*", pattern)) // the pattern is well formed
		return len(found) > 0
	}
	phases := map[string]func() bool{
		"initdb":     func() bool { return exists("pg/data/global") },
		"server":     func() bool { return exists("pg/data/postmaster.pid") },
		"restore":    func() bool { return exists("pg/data/base/1[0-9][0-9][0-9][0-9]") },
		"assertions": func() bool { return strings.Contains(ok(t, s, "job", "ls"), "running") && sleeps(t, dir) },
	}
	if !long() {
		delete(phases, "initdb")
		delete(phases, "server")
	}
	for phase, reached := range phases {
		var v jobs
		must(t, s.JSON(t.Context(), &v, "snapshot", "verify", id, "--assert", db+": SELECT pg_sleep(120) IS NOT NULL"))
		must(t, s.Eventually(t.Context(), "the drill is at "+phase, s.Agents["db1"], func() (bool, error) { return reached(), nil }))
		must(t, s.Agents["db1"].Kill())
		must(t, s.Eventually(t.Context(), "nothing runs any more after "+phase, nil, func() (bool, error) { return len(runsBelow(t, dir)) == 0, nil }))
		ok(t, s, "job", "cancel", v.Jobs[0].ID)
		must(t, s.StartAgent(t.Context(), "db1", "", env))
		must(t, s.Online(t.Context(), "db1/main"))
		nothingLeft(t, dir)
		refused(t, s, 6, []string{"cancel"}, "job", "watch", v.Jobs[0].ID)
	}
	if r := reports(t, s, id); len(r) != 0 {
		t.Errorf("reports of drills that never ended: %+v", r)
	}
	if long() {
		says(t, "verify", ok(t, s, "snapshot", "verify", id, "--wait"), "PASSED")
		nothingLeft(t, dir)
	}
}

// sleeps tells whether a server below a folder runs the assertion of the test.
func sleeps(t *testing.T, dir string) bool {
	for _, p := range runsBelow(t, dir) {
		proc, _, _ := strings.Cut(p, " ")
		if _, err := strconv.Atoi(filepath.Base(proc)); err != nil {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(proc, "cmdline")); err == nil && bytes.Contains(b, []byte("tuskvault_reader_")) {
			return true
		}
	}
	return false
}
