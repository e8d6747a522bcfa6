package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/families"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// regressionData is the folder in which .ci/regression leaves the database of
// PostgreSQL's own test suite for a version.
func regressionData(t *testing.T, major int) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(cmp.Or(os.Getenv("TUSKVAULT_PG_CACHE"), "../.cache/pg"), "regression", fmt.Sprint(major)))
	must(t, err)
	made, err := os.ReadFile(filepath.Join(dir, "complete"))
	if err == nil {
		t.Logf("version %d: %s", major, strings.TrimSpace(string(made)))
		return filepath.Join(dir, "data")
	}
	why, refusedErr := os.ReadFile(filepath.Join(dir, "refused"))
	switch {
	case refusedErr == nil && !long():
		t.Skipf("PostgreSQL's regression database could not be made: %s", why)
	case os.Getenv("REQUIRE_SERVICES") == "1":
		t.Fatalf("no regression database of version %d; run: .ci/regression %d (%s)", major, major, why)
	default:
		t.Skipf("no regression database of version %d; run: .ci/regression %d", major, major)
	}
	return ""
}

// regressionServer runs a copy of the database's server.
func regressionServer(t *testing.T, i pgtest.Installation) *pgtest.Server {
	t.Helper()
	settings := map[string]string{"wal_level": "logical", "max_connections": "60", "max_locks_per_transaction": "256"}
	if i.Major >= 15 {
		settings["allow_in_place_tablespaces"] = "on"
	}
	return pgtest.Start(t, pgtest.Options{Bin: i.Bin, Data: regressionData(t, i.Major), Settings: settings})
}

// hostInstallation is the one that the other tests use.
func hostInstallation(t *testing.T) pgtest.Installation {
	t.Helper()
	s := shared.Server(t)
	return pgtest.Installation{Major: majorOf(t, s), Bin: s.Bin}
}

func TestPostgresOwnRegressionDatabaseComesBackEqual(t *testing.T) {
	regressionRound(t, hostInstallation(t))
}

func TestPostgresOwnRegressionDatabaseOnEveryMajor(t *testing.T) {
	if !long() {
		t.Skip("a long test: set TUSKVAULT_LONG")
	}
	for _, i := range pgtest.Majors(t) {
		t.Run(fmt.Sprint(i.Major), func(t *testing.T) { regressionRound(t, i) })
	}
}

// regressionRound backs the database up, restores it beside itself and compares in
// the same three ways as the families.
func regressionRound(t *testing.T, i pgtest.Installation) {
	pg := regressionServer(t, i)
	r := &round{from: pg, to: pg, major: i.Major, top: i.Major, bin: pg.Client()}
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", pg.Env("postgres"), "--config", toolConfig(t, s, r))))
	start := time.Now()
	first := finished(t, s, "backup", "db1/main", "--database", "regression", "--wait")
	read := time.Since(start)
	start = time.Now()
	restored := finished(t, s, "restore", first.SnapshotID, "--to", "db1/main", "--database", "regression=regression_back", "--wait")
	t.Logf("backup %s, restore %s", read.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	d := restored.Result.Databases[0]
	if !d.Complete || d.Tables != d.TablesVerified+d.TablesCompared || d.Tables < 200 {
		t.Errorf("restore: %+v", d)
	}
	t.Logf("%d tables, %d read back, %d compared on the way in", d.Tables, d.TablesVerified, d.TablesCompared)
	for _, p := range restored.Result.Problems {
		t.Logf("said: %s: %s", p.Object, p.Reason)
	}
	again := finished(t, s, "backup", "db1/main", "--database", "regression_back", "--wait")
	if d := diff.Diff(tablesOf(t, s, first.SnapshotID)["regression"], tablesOf(t, s, again.SnapshotID)["regression_back"]); d != "" {
		t.Errorf("fingerprints (-source +restored):\n%s", d)
	}
	// Children that were given their parent after they were made.
	plain := &families.Family{Reordered: []string{"public.gtestxx_4", "generated_stored_tests.gtestxx_4", "generated_virtual_tests.gtestxx_4", "public.test_type_diff2_c1", "public.test_type_diff2_c2"}}
	if d := diff.Diff(plain.Normalize(schemaBy(t, r.bin, pg, "regression"), false), plain.Normalize(schemaBy(t, r.bin, pg, "regression_back"), false)); d != "" {
		t.Errorf("schema (-source +restored):\n%s", d)
	}
	want, err := dataset.Digests(t.Context(), pg.URL("regression"))
	must(t, err)
	got, err := dataset.Digests(t.Context(), pg.URL("regression_back"))
	must(t, err)
	// The suite leaves this view as it was before the last change of its table; a
	// restored one is computed anew.
	const stale = "mvtest_bb"
	delete(want, stale)
	delete(got, stale)
	if d := diff.Diff(want, got); d != "" {
		t.Errorf("rows (-source +restored):\n%s", d)
	}
}
