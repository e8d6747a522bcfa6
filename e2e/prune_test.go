package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/harness"
)

// pruneView is what tuskctl prints of a prune.
type pruneView struct {
	Prune struct {
		State   string `json:"state"`
		Message string `json:"message"`
	} `json:"prune"`
	Outcomes []struct {
		Packs         int64  `json:"packs"`
		DeadPacks     int64  `json:"dead_packs"`
		RepackPacks   int64  `json:"repack_packs"`
		FreedPacks    int64  `json:"freed_packs"`
		WaitingPacks  int64  `json:"waiting_packs"`
		WaitsFor      string `json:"waits_for"`
		Problem       string `json:"problem"`
		DeferredPacks int64  `json:"deferred_packs"`
	} `json:"outcomes"`
}

// pruned prunes the domain of db1/main and wants exit code 0.
func pruned(t *testing.T, s *harness.System, args ...string) pruneView {
	t.Helper()
	r := s.Ctl(t.Context(), append([]string{"repo", "prune", "--domain", "db1/main", "-o", "json"}, args...)...)
	var v pruneView
	if r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &v) != nil || len(v.Outcomes) != 1 {
		t.Fatalf("repo prune %v: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return v
}

// forgotten takes a snapshot away from under a controller, which is made again
// from the store: what only that snapshot needed is garbage then.
func forgotten(t *testing.T, s *harness.System, config, id string) {
	t.Helper()
	ctx := t.Context()
	code, err := s.Controller.Stop(ctx)
	if must(t, err); code != 0 {
		t.Fatalf("the controller ended with %d", code)
	}
	found, err := filepath.Glob(filepath.Join(s.StoreDir(), "snapshots", "*", id))
	if must(t, err); len(found) != 1 {
		t.Fatalf("snapshot %s: %q", id, found)
	}
	must(t, os.Remove(found[0]))
	key := filepath.Join(s.Dir, "unlock.key")
	if _, err := os.Stat(key); err != nil {
		b, err := os.ReadFile(filepath.Join(s.ControllerDir(), "unlock.key"))
		must(t, err)
		must(t, os.WriteFile(key, b, 0o600))
	}
	must(t, os.RemoveAll(s.ControllerDir()))
	must(t, s.Rebuild(ctx, "file:"+key).Err())
	must(t, s.StartController(ctx, "--config", config))
	ok(t, s, "repo", "resume-deletion", "--yes")
	must(t, s.Online(ctx, "db1/main"))
}

// TestAPruneThatIsStoppedAndKilledLosesNothing makes garbage, prunes, and stops
// and kills the controller at random moments of the prune, while a backup runs:
// what is needed can be restored, and in the end nothing else is there.
func TestAPruneThatIsStoppedAndKilledLosesNothing(t *testing.T) {
	rounds := 1
	if long() {
		rounds = 25
	}
	pg := shopWith(t, "30000")
	sql(t, pg, "shop", "CREATE TABLE waste AS SELECT i, md5((i * 3)::text) || repeat(md5((i*13)::text), 12) AS x FROM generate_series(1, 30000) i")
	c := newCrashing(t, pg)
	c.Ballast = "16MiB"
	for i := range rounds {
		wasted := backup(t, c.System, "--database", "shop")
		sql(t, pg, "shop", "UPDATE waste SET x = md5((i * 5 + "+strconv.Itoa(i)+")::text) || x WHERE i % 3 = 0", "UPDATE orders SET x = md5(x) WHERE i = "+strconv.Itoa(i+1))
		kept := backup(t, c.System, "--database", "shop")
		want := digests(t, pg, "shop")
		forgotten(t, c.System, c.config, wasted)
		before := len(objects(t, c.System, "packs"))

		dry := pruned(t, c.System, "--dry-run").Outcomes[0]
		if dry.DeadPacks+dry.RepackPacks == 0 || dry.FreedPacks != 0 || len(objects(t, c.System, "packs")) != before {
			t.Fatalf("dry run: %+v", dry)
		}
		running := c.started("backup", "db1/main", "--database", "shop")
		ok(t, c.System, "repo", "prune", "--domain", "db1/main", "--yes", "--wait=false")
		c.pause(400 * time.Millisecond)
		must(t, c.Controller.Signal(syscall.SIGSTOP))
		c.pause(300 * time.Millisecond)
		must(t, c.Controller.Signal(syscall.SIGCONT))
		c.pause(400 * time.Millisecond)
		must(t, c.Controller.Kill())
		must(t, c.StartController(t.Context(), "--config", c.config))
		c.finish(running)
		checked(t, c.System, 0, "--read-data")

		// The job that the prune waited for has ended.
		must(t, c.Eventually(t.Context(), "nothing waits to be deleted", c.Controller, func() (bool, error) {
			r := c.Ctl(t.Context(), "repo", "prune", "--domain", "db1/main", "--yes", "-o", "json")
			var v pruneView
			if r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &v) != nil {
				return false, nil // one that was begun before the kill, or in the background
			}
			o := v.Outcomes[0]
			return o.DeadPacks+o.RepackPacks+o.WaitingPacks == 0, nil
		}))
		if left := pruned(t, c.System, "--dry-run").Outcomes[0]; left.DeadPacks+left.RepackPacks+left.WaitingPacks != 0 || int(left.Packs) != len(objects(t, c.System, "packs")) {
			t.Errorf("left to prune: %+v", left)
		}
		checked(t, c.System, 0, "--read-data")
		target := "shop_" + strconv.Itoa(i)
		for _, id := range []string{kept, running} {
			c.finish(c.started("restore", id, "--to", "db1/main", "--database", "shop="+target))
			if d := cmp.Diff(want, digests(t, pg, target)); d != "" {
				t.Fatalf("round %d, snapshot %s: %s", i, id, d)
			}
			sql(t, pg, "postgres", "DROP DATABASE "+target)
		}
		t.Logf("round %d: %d packs before, %d after", i, before, len(objects(t, c.System, "packs")))
	}
	if n := len(objects(t, c.System, "ballast")); n != 2 {
		t.Errorf("%d objects of ballast", n)
	}
}
