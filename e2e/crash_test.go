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
}

func newCrashing(t *testing.T, pg *pgtest.Server) *crashing {
	t.Helper()
	c := &crashing{System: system(t), t: t, pg: pg, rng: seeded(t)}
	c.config = c.Dir + "/controller.yaml"
	must(t, os.WriteFile(c.config, []byte(quick), 0o600))
	must(t, c.Init(t.Context()))
	must(t, c.StartController(t.Context(), "--config", c.config))
	must(t, c.Enroll(t.Context(), "db1", pg.Env("postgres")))
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
func (c *crashing) kill() string {
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
		must(c.t, c.StartAgent(c.t.Context(), "db1", "", c.pg.Env("postgres")))
	}
	return []string{"controller", "agent", "both"}[what]
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

func TestKilledProgramsLoseNothing(t *testing.T) {
	rounds := 4
	if long() {
		rounds = 40
	}
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE shop")
	const scale = 0.3
	must(t, dataset.Fill(t.Context(), pg.URL("shop"), scale))
	c := newCrashing(t, pg)
	for i := range rounds {
		must(t, dataset.Change(t.Context(), pg.URL("shop"), scale))
		want := digests(t, pg, "shop")
		id := c.started("backup", "db1/main", "--database", "shop")
		c.pause(1500 * time.Millisecond)
		who := c.kill()
		c.finish(id)
		target := "shop_" + strconv.Itoa(i)
		restore := c.started("restore", id, "--to", "db1/main", "--database", "shop="+target)
		if i%2 == 1 {
			c.pause(1500 * time.Millisecond)
			who += ", " + c.kill()
		}
		c.finish(restore)
		if d := cmp.Diff(want, digests(t, pg, target)); d != "" {
			t.Fatalf("round %d (killed %s): %s", i, who, d)
		}
		sql(t, pg, "postgres", "DROP DATABASE "+target)
		t.Logf("round %d: killed %s, %d attempts of the backup, %d of the restore", i, who, len(job(t, c.System, id).Attempts), len(job(t, c.System, restore).Attempts))
	}
	if left := value(t, pg.URL("postgres"), "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'tuskvault%'"); left != "" {
		t.Errorf("half-made databases are left: %s", left)
	}
	if left := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'tuskvault%' AND backend_type = 'client backend' AND state LIKE 'idle in%'"); left != "0" {
		t.Errorf("%s transactions are left open", left)
	}
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
