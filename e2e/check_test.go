package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// checkView is what tuskctl prints of a check.
type checkView struct {
	Check struct {
		ID             string `json:"id"`
		State          string `json:"state"`
		Packs          int64  `json:"packs"`
		PacksRead      int64  `json:"packs_read"`
		Chunks         int64  `json:"chunks"`
		FramesRead     int64  `json:"frames_read"`
		DamagedObjects int64  `json:"damaged_objects"`
		SnapshotsHurt  int64  `json:"snapshots_hurt"`
	} `json:"check"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Object   string `json:"object"`
	Problem  string `json:"problem"`
	Harmless bool   `json:"harmless"`
	Effects  []struct {
		SnapshotID string `json:"snapshot_id"`
		Instance   string `json:"instance"`
		Database   string `json:"database"`
		Object     string `json:"object"`
	} `json:"effects"`
}

// checked runs a check and wants an exit code.
func checked(t *testing.T, s *harness.System, code int, args ...string) checkView {
	t.Helper()
	r := s.Ctl(t.Context(), append([]string{"repo", "check", "-o", "json"}, args...)...)
	if r.Code != code {
		t.Fatalf("repo check %v: exit code %d, want %d\n%s%s", args, r.Code, code, r.Stdout, r.Stderr)
	}
	var v checkView
	must(t, json.Unmarshal([]byte(r.Stdout), &v))
	return v
}

// healthView is what tuskctl status says of the repository.
type healthView struct {
	Health struct {
		CheckState        string `json:"check_state"`
		ScrubCompleteTime string `json:"scrub_complete_time"`
		DamagedPacks      int64  `json:"damaged_packs"`
	} `json:"repository_health"`
	Notices []struct {
		Message string `json:"message"`
	} `json:"notices"`
}

func health(t *testing.T, s *harness.System) (v healthView) {
	t.Helper()
	must(t, s.JSON(t.Context(), &v, "status"))
	return v
}

// objects lists the files of a store below a folder.
func objects(t *testing.T, s *harness.System, below string) []string {
	t.Helper()
	var keys []string
	must(t, filepath.WalkDir(filepath.Join(s.StoreDir(), below), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			key, _ := filepath.Rel(s.StoreDir(), path)
			keys = append(keys, filepath.ToSlash(key))
		}
		return err
	}))
	slices.Sort(keys)
	return keys
}

// overwrite changes an object's file behind the programs' backs.
func overwrite(t *testing.T, s *harness.System, key string, change func([]byte) []byte) (before []byte) {
	t.Helper()
	path := filepath.Join(s.StoreDir(), key)
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Remove(path))
	if after := change(bytes.Clone(before)); after != nil {
		must(t, os.WriteFile(path, after, 0o600))
	}
	return before
}

// shopWith makes a database with a table of so many rows, and a large object.
func shopWith(t *testing.T, rows string) *pgtest.Server {
	t.Helper()
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE shop")
	sql(t, pg, "shop", "CREATE TABLE orders AS SELECT i, md5(i::text) || repeat(md5((i*7)::text), 12) AS x FROM generate_series(1, "+rows+") i",
		"CREATE TABLE notes(t text)", "INSERT INTO notes VALUES ('a'), ('b')", "SELECT lo_from_bytea(0, decode(repeat('ab', 9000), 'hex'))")
	return pg
}

// TestDamageIsFoundNamedAndMendedByTheNextBackup is the whole way: a pack rots,
// the restore fails, the check names it and whom it hurts, the next backup of
// the same rows sends what is damaged again, and the old snapshot restores.
func TestDamageIsFoundNamedAndMendedByTheNextBackup(t *testing.T) {
	pg := shopWith(t, "40000")
	s := running(t, pg)
	want := digests(t, pg, "shop")
	old := backup(t, s, "--database", "shop")
	sound := checked(t, s, 0, "--read-data")
	if sound.Check.State != "CHECK_STATE_CLEAN" || sound.Check.PacksRead != sound.Check.Packs || sound.Check.FramesRead != sound.Check.Chunks || sound.Check.Chunks == 0 || len(sound.Findings) != 0 {
		t.Fatalf("a sound repository: %+v", sound)
	}
	key := largest(t, s, objects(t, s, "packs"))
	overwrite(t, s, key, func(b []byte) []byte { return spoiled(t, key, b, seal.KindRowsText) })
	refused(t, s, 6, []string{"corrupt"}, "restore", old, "--to", "db1/main", "--database", "shop=shop_broken", "--wait")
	v := checked(t, s, 7, "--read-data")
	if len(v.Findings) != 1 || v.Findings[0].Object != key || v.Findings[0].Problem != "damaged" || v.Check.SnapshotsHurt != 1 {
		t.Fatalf("%+v", v)
	}
	hurt := map[string]bool{}
	for _, e := range v.Findings[0].Effects {
		if e.SnapshotID != old || e.Instance != "db1/main" || e.Database != "shop" {
			t.Errorf("effect %+v", e)
		}
		hurt[e.Object] = true
	}
	if !hurt["public.orders"] {
		t.Errorf("hurt: %v", hurt)
	}
	if h := health(t, s); h.Health.CheckState != "damaged" || h.Health.DamagedPacks != 1 || len(h.Notices) == 0 || !strings.Contains(h.Notices[0].Message, "damaged") {
		t.Errorf("status: %+v", h)
	}
	// A restarted controller has not forgotten.
	_, err := s.Controller.Stop(t.Context())
	must(t, err)
	must(t, s.StartController(t.Context()))
	must(t, s.Online(t.Context(), "db1/main"))
	next := backup(t, s, "--database", "shop")
	if n := job(t, s, next).Result.Stats.NewChunks; n == 0 {
		t.Error("nothing was sent again")
	}
	for _, id := range []string{old, next} {
		ok(t, s, "restore", id, "--to", "db1/main", "--database", "shop=mended", "--wait")
		if d := cmp.Diff(want, digests(t, pg, "mended")); d != "" {
			t.Errorf("restore of %s: %s", id, d)
		}
		sql(t, pg, "postgres", "DROP DATABASE mended")
	}
	v = checked(t, s, 7, "--read-data")
	if v.Check.SnapshotsHurt != 0 || len(v.Findings) != 1 || len(v.Findings[0].Effects) != 0 {
		t.Errorf("after mending: %+v", v)
	}
}

// spoiled flips a bit in every chunk of a kind in a pack.
func spoiled(t *testing.T, key string, b []byte, kind seal.Kind) []byte {
	t.Helper()
	_, id, err := repo.ParsePackObject(key)
	must(t, err)
	d, err := pack.ReadDirectory(t.Context(), func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[off : off+n])), nil
	}, int64(len(b)), id)
	must(t, err)
	count := 0
	for _, e := range d.Entries {
		if h, err := seal.ParseHeader(b[e.Offset:]); err == nil && h.Kind == kind {
			b[e.Offset+int64(e.Length)-20] ^= 1
			count++
		}
	}
	if count == 0 {
		t.Fatalf("%s has no chunk of kind %d", key, kind)
	}
	return b
}

func largest(t *testing.T, s *harness.System, keys []string) string {
	t.Helper()
	best, size := "", int64(-1)
	for _, key := range keys {
		info, err := os.Stat(filepath.Join(s.StoreDir(), key))
		must(t, err)
		if info.Size() > size {
			best, size = key, info.Size()
		}
	}
	return best
}

// TestChecksWhileBackupsRunRaiseNoAlarm: what is being written must not look
// like damage.
func TestChecksWhileBackupsRunRaiseNoAlarm(t *testing.T) {
	pg := shopWith(t, "30000")
	s := running(t, pg)
	for range 3 {
		sql(t, pg, "shop", "UPDATE orders SET x = md5(random()::text) || repeat(md5(random()::text), 12)")
		var v jobs
		must(t, s.JSON(t.Context(), &v, "backup", "db1/main", "--database", "shop"))
		for ended := false; !ended; {
			if c := checked(t, s, 0, "--read-data"); len(c.Findings) > 0 {
				t.Fatalf("while a backup runs: %+v", c.Findings)
			}
			ended = job(t, s, v.Jobs[0].ID).State == "JOB_STATE_SUCCEEDED"
		}
	}
}

// TestTheScrubFindsDamageByItself lets the controller find what nobody looks for.
func TestTheScrubFindsDamageByItself(t *testing.T) {
	pg := shopWith(t, "2000")
	s := system(t)
	config := filepath.Join(s.Dir, "controller.yaml")
	must(t, os.WriteFile(config, []byte("scrub:\n  daily_bytes: 100TiB\n  interval: 200ms\n"), 0o600))
	must(t, s.Init(t.Context()))
	must(t, s.StartController(t.Context(), "--config", config))
	must(t, s.Enroll(t.Context(), "db1", pg.Env("postgres")))
	want := digests(t, pg, "shop")
	old := backup(t, s, "--database", "shop")
	must(t, s.Eventually(t.Context(), "everything was scrubbed once", s.Controller, func() (bool, error) {
		return health(t, s).Health.ScrubCompleteTime != "", nil
	}))
	// Every pack is torn.
	for _, key := range objects(t, s, "packs") {
		overwrite(t, s, key, func(b []byte) []byte { return b[:len(b)/2] })
	}
	must(t, s.Eventually(t.Context(), "the scrub has found it", s.Controller, func() (bool, error) {
		return health(t, s).Health.DamagedPacks > 0, nil
	}))
	// Nothing of it counts as stored: the next backup sends all of it again, and
	// does not rest on what is torn.
	next := backup(t, s, "--database", "shop")
	first, second := job(t, s, old).Result.Stats, job(t, s, next).Result.Stats
	if second.NewChunks < first.Chunks {
		t.Errorf("%d chunks were sent again, all %d were torn", second.NewChunks, first.Chunks)
	}
	for i, id := range []string{next, old} { // the same rows and schema: the old snapshot is mended too
		name := "again" + strconv.Itoa(i)
		ok(t, s, "restore", id, "--to", "db1/main", "--database", "shop="+name, "--wait")
		if d := cmp.Diff(want, digests(t, pg, name)); d != "" {
			t.Errorf("restore of %s: %s", id, d)
		}
	}
}

// TestAChangeOfAnyKindOfObjectIsNamedByTheRealPrograms changes one object of each
// kind in a store that a controller has open. internal/check has the loop over
// all objects and all changes.
func TestAChangeOfAnyKindOfObjectIsNamedByTheRealPrograms(t *testing.T) {
	pg := shopWith(t, "500")
	s := running(t, pg)
	id := backup(t, s, "--database", "shop")
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	gone := func([]byte) []byte { return nil }
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	for _, below := range []string{"packs", "index", "snapshots", "catalog", "domains", "ca", "epochs", "keys"} {
		all := objects(t, s, below)
		key := all[len(all)-1] // of the log the newest record: what a full record stands for may be dropped
		for name, change := range map[string]func([]byte) []byte{"flip": flip, "cut": cut, "gone": gone} {
			code := 7
			if name == "gone" && (below == "index" || below == "ca") {
				code = 0 // a cache; an authority may be kept elsewhere
			}
			before := overwrite(t, s, key, change)
			v := checked(t, s, code)
			if code == 7 && !slices.ContainsFunc(v.Findings, func(f findingView) bool {
				return strings.HasPrefix(key, strings.TrimSuffix(f.Object, "/"))
			}) {
				t.Errorf("%s, %s: %+v", key, name, v.Findings)
			}
			_ = os.Remove(filepath.Join(s.StoreDir(), key)) // it may be gone
			must(t, os.WriteFile(filepath.Join(s.StoreDir(), key), before, 0o600))
		}
	}
	if v := checked(t, s, 0, "--read-data"); len(v.Findings) > 0 {
		t.Errorf("all was put back: %+v", v.Findings)
	}
	// A second one is refused, a sampled one has its seed, a canceled one says so.
	refused(t, s, 2, []string{"--sample"}, "repo", "check", "--sample", "50")
	if out := ok(t, s, "repo", "check", "--sample", "50%", "--seed", "42"); !strings.Contains(out, "sample 50%, seed 42") {
		t.Errorf("sampled: %s", out)
	}
	ok(t, s, "repo", "check", "--wait=false", "--rate", "1KiB", "-o", "name")
	refused(t, s, 9, []string{"runs since"}, "repo", "check")
	ok(t, s, "repo", "check", "--cancel")
	refused(t, s, 6, []string{"canceled"}, "repo", "check", "--attach")
	if out := ok(t, s, "repo", "stats"); !strings.Contains(out, "1, standing for") || !strings.Contains(out, "db1/main") {
		t.Errorf("stats of %s: %s", id, out)
	}
}
