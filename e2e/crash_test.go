package e2e_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// quick makes lost attempts be retried soon.
const quick = "jobs:\n  lease: 4s\n  heartbeat_interval: 1s\n  backoff: 500ms\n  attempts: 20\n"

// pruning lets what is condemned go as soon as no job waits for it.
const pruning = "prune:\n  min_age: 0s\n"

// source of randomness with a seed that can be given again in TUSKVAULT_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("TUSKVAULT_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("seed: TUSKVAULT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// crashing is a system whose programs are killed at random moments of jobs.
type crashing struct {
	*harness.System
	t      *testing.T
	pg     *pgtest.Server
	rng    *rand.Rand
	config string
	drills string // the agent's folder of drills
	env    []string
	// kills counts how often something was killed, killed what.
	kills  int
	killed map[string]int
	// jobs counts the jobs that ended, attempts their attempts.
	jobs, attempts int
}

func newCrashing(t *testing.T, pg *pgtest.Server) *crashing {
	t.Helper()
	c := &crashing{System: system(t), t: t, pg: pg, rng: seeded(t), drills: drillDir(t), killed: map[string]int{}}
	c.env = append(pg.Env("postgres"), "TUSKVAULT_DRILL_DIR="+c.drills)
	c.config = c.Dir + "/controller.yaml"
	must(t, os.WriteFile(c.config, []byte(quick+pruning), 0o600))
	must(t, c.Init(t.Context()))
	must(t, c.StartController(t.Context(), "--config", c.config))
	must(t, c.Enroll(t.Context(), "db1", c.env))
	return c
}

// pause waits a random while, up to a bound.
func (c *crashing) pause(most time.Duration) {
	select {
	case <-time.After(time.Duration(c.rng.Int64N(int64(most)))):
	case <-c.t.Context().Done():
	}
}

// kill ends a random choice of programs with SIGKILL and starts them again.
func (c *crashing) kill() {
	c.t.Helper()
	what := c.rng.IntN(3)
	if what != 0 {
		must(c.t, c.Agents["db1"].Kill())
	}
	if what != 1 {
		must(c.t, c.Controller.Kill())
	}
	c.pause(300 * time.Millisecond)
	if what != 1 {
		must(c.t, c.StartController(c.t.Context(), "--config", c.config))
	}
	if what != 0 {
		must(c.t, c.StartAgent(c.t.Context(), "db1", "", c.env))
	}
	c.kills++
	c.killed[[]string{"controller", "agent", "both"}[what]]++
}

// finish waits for a job's end and wants it to have succeeded.
func (c *crashing) finish(id string) {
	c.t.Helper()
	must(c.t, c.Ctl(c.t.Context(), "job", "watch", id).Err())
}

func (c *crashing) started(args ...string) string {
	c.t.Helper()
	var v jobs
	must(c.t, c.JSON(c.t.Context(), &v, args...))
	return v.Jobs[0].ID
}

// act is something that is done with a snapshot while programs are killed. run
// starts it, has it killed and checks what came of it; want is what the snapshot
// holds. Another line below is another act under the same kills.
type act struct {
	name string
	run  func(c *crashing, round int, snapshot string, want map[string]string)
}

var acts = []act{
	{"restore", (*crashing).restoreUnderKills},
	{"drill", (*crashing).drillUnderKills},
	{"check", (*crashing).checkUnderKills},
	{"prune", (*crashing).pruneUnderKills},
}

// under kills programs once or twice while a job runs, and waits for its success.
func (c *crashing) under(id string) {
	c.t.Helper()
	for range 1 + c.rng.IntN(2) {
		c.pause(1500 * time.Millisecond)
		c.kill()
	}
	c.finish(id)
	c.attempts += len(job(c.t, c.System, id).Attempts)
	c.jobs++
}

func (c *crashing) restoreUnderKills(round int, snapshot string, want map[string]string) {
	target := "shop_" + strconv.Itoa(round)
	c.under(c.started("restore", snapshot, "--to", "db1/main", "--database", "shop="+target))
	if d := cmp.Diff(want, digests(c.t, c.pg, target)); d != "" {
		c.t.Fatalf("round %d: %s", round, d)
	}
	sql(c.t, c.pg, "postgres", "DROP DATABASE "+target)
}

func (c *crashing) drillUnderKills(_ int, snapshot string, _ map[string]string) {
	must(c.t, c.Online(c.t.Context(), "db1/main")) // a drill is placed when it is asked for
	c.under(c.started("snapshot", "verify", snapshot))
	if r := reports(c.t, c.System, snapshot); len(r) != 1 || r[0].Verdict != "passed" {
		c.t.Fatalf("reports of the drill of %s: %+v", snapshot, r)
	}
	nothingLeft(c.t, c.drills)
}

// checkUnderKills wants every check that is not cut off to find nothing; one that
// the controller's death cuts off is asked for again.
func (c *crashing) checkUnderKills(_ int, _ string, _ map[string]string) {
	done := make(chan harness.Result, 1)
	go func() { done <- c.Ctl(c.t.Context(), "repo", "check", "--read-data") }()
	c.pause(500 * time.Millisecond)
	c.kill()
	if r := <-done; r.Code == 7 {
		c.t.Fatalf("a check found damage:\n%s%s", r.Stdout, r.Stderr)
	}
}

// pruneUnderKills prunes what killed attempts have left. Whatever of it a kill cuts
// off is gone on with, and a check finds nothing then.
func (c *crashing) pruneUnderKills(int, string, map[string]string) {
	prune := []string{"repo", "prune", "--domain", "db1/main", "--yes", "--wait"}
	done := make(chan harness.Result, 1)
	go func() { done <- c.Ctl(c.t.Context(), prune...) }()
	c.pause(500 * time.Millisecond)
	c.kill()
	<-done // it may have been cut off
	must(c.t, c.Eventually(c.t.Context(), "the domain is pruned", c.Controller, func() (bool, error) {
		return c.Ctl(c.t.Context(), prune...).Code == 0, nil // one that was begun before may be under way
	}))
	checked(c.t, c.System, 0, "--read-data")
}

// TestKilledProgramsLoseNothing kills agent, controller or both at random moments
// of real backups and of what is done with their snapshots. TUSKVAULT_KILLS is a
// least number of kills, for a night.
func TestKilledProgramsLoseNothing(t *testing.T) {
	kills := 6
	if long() {
		kills = 100
	}
	if s := os.Getenv("TUSKVAULT_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		must(t, err)
	}
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE shop")
	const scale = 0.1
	must(t, dataset.Fill(t.Context(), pg.URL("shop"), scale))
	c := newCrashing(t, pg)
	done := map[string]int{}
	rounds, first := len(acts), 0
	if !long() { // one is left out, by the seed
		rounds, first = rounds-1, c.rng.IntN(len(acts))
	}
	for round := 0; c.kills < kills || round < rounds; round++ {
		must(t, dataset.Change(t.Context(), pg.URL("shop"), scale))
		want := digests(t, pg, "shop")
		id := c.started("backup", "db1/main", "--database", "shop")
		c.under(id)
		a := acts[(first+round)%len(acts)]
		a.run(c, round, id, want)
		done[a.name]++
		if round%10 == 0 {
			t.Logf("round %d: %d kills", round, c.kills)
		}
	}
	ok(t, c.System, "repo", "check", "--read-data")
	if left := value(t, pg.URL("postgres"), "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'tuskvault%'"); left != "" {
		t.Errorf("half-made databases are left: %s", left)
	}
	if left := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'tuskvault%' AND backend_type = 'client backend' AND state LIKE 'idle in%'"); left != "0" {
		t.Errorf("%s transactions are left open", left)
	}
	t.Logf("%d kills (%v) in %d jobs of %d attempts; after backups: %v", c.kills, c.killed, c.jobs, c.attempts, done)
}

func TestACanceledBackupStopsWithinSecondsAndLeavesNoSnapshot(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE shop")
	// A volatile default keeps COPY busy for as long as wanted: a view cannot be
	// copied, so the rows are many.
	sql(t, pg, "shop", "CREATE UNLOGGED TABLE big AS SELECT i, repeat(md5(i::text), 20) AS x FROM generate_series(1, 1500000) i")
	s := running(t, pg)
	var v jobs
	must(t, s.JSON(t.Context(), &v, "backup", "db1/main", "--database", "shop"))
	id := v.Jobs[0].ID
	must(t, s.Eventually(t.Context(), "rows are read", s.Agents["db1"], func() (bool, error) {
		return value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'COPY%big%' AND state = 'active'") != "0", nil
	}))
	start := time.Now()
	ok(t, s, "job", "cancel", id, "--reason", "test")
	refused(t, s, 6, []string{"canceled"}, "job", "watch", id)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("canceling took %s", took)
	}
	must(t, s.Eventually(t.Context(), "nothing is read any more", nil, func() (bool, error) {
		return value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'tuskvault%' AND state <> 'idle'") == "0", nil
	}))
	if out := ok(t, s, "snapshot", "ls", "-o", "name"); out != "" {
		t.Errorf("snapshots: %s", out)
	}
}
