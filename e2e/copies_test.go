package e2e_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// copyView is what tuskctl says of one copy.
type copyView struct {
	Name         string    `json:"name"`
	State        string    `json:"state"`
	Waiting      int64     `json:"objects_waiting"`
	CompleteTime time.Time `json:"complete_time"`
	Strays       int64     `json:"strays"`
	Healed       int64     `json:"healed"`
	Problem      string    `json:"problem"`
}

// copied waits until a copy in a folder has every object of the store but the
// newest of the catalog log, and says that it has everything.
func (d *disaster) copied(name, folder string) {
	d.t.Helper()
	var c copyView
	must(d.t, d.Eventually(d.t.Context(), "copy "+name+" has everything", d.Controller, func() (bool, error) {
		for _, key := range objects(d.t, d.System, "") {
			if strings.HasPrefix(key, "catalog/") || strings.HasPrefix(key, "quarantine/") {
				continue
			}
			if _, err := os.Stat(filepath.Join(folder, key)); err != nil {
				return false, nil
			}
		}
		var v struct {
			Copies []copyView `json:"copies"`
		}
		if err := d.JSON(d.t.Context(), &v, "status"); err != nil {
			return false, err
		}
		for _, c = range v.Copies {
			if c.Name == name {
				return c.State == "COPY_STATE_COMPLETE", nil
			}
		}
		return false, errors.New("no copy " + name)
	}))
	if c.Problem != "" || c.Strays != 0 || c.Waiting != 0 || c.CompleteTime.IsZero() {
		d.t.Errorf("copy %+v", c)
	}
}

// withCopies makes a system whose store has copies. Nothing scrubs: a test sees
// who heals what.
func withCopies(t *testing.T, copies string) *disaster {
	t.Helper()
	d := newDisaster(t)
	_, err := d.Controller.Stop(t.Context())
	must(t, err)
	must(t, os.WriteFile(d.config, []byte(quick+"scrub:\n  daily_bytes: 0\n"+copies), 0o600))
	d.returns()
	return d
}

// A folder is copied into a bucket; packs rot and vanish in the folder: restores go
// on, and the folder is healed. Then the folder and the controller are gone, and
// all comes back from the bucket.
func TestACopyInABucketHealsTheStoreAndReplacesIt(t *testing.T) {
	server := s3test.Start(t) // its credentials are in our environment, and so in the programs'
	bucket := server.Bucket(t)
	url, folder := server.URL(bucket, "second"), filepath.Join(server.Folder(bucket), "second")
	d := withCopies(t, "copies:\n  - name: offsite\n    store: "+url+"\n")
	want := digests(t, d.pg, "shop")
	first := backup(t, d.System, "--database", "shop")
	must(t, dataset.Change(t.Context(), d.pg.URL("shop"), 0.05))
	wantSecond := digests(t, d.pg, "shop")
	second := backup(t, d.System, "--database", "shop")
	d.copied("offsite", folder)
	checked(t, d.System, 0, "--copy", "offsite", "--read-data")
	refused(t, d.System, 3, []string{"nowhere"}, "repo", "check", "--copy", "nowhere")

	// What is damaged is read from the copy, and healed.
	key := largest(t, d.System, objects(t, d.System, "packs"))
	whole := overwrite(t, d.System, key, func(b []byte) []byte { return spoiled(t, key, b, seal.KindRowsText) })
	d.restores(first, "once", want)
	d.healed(key, whole)
	if log := d.restoreLog(); !strings.Contains(log, "copy offsite") {
		t.Errorf("the restore's log does not name the copy:\n%s", log)
	}
	if kept := objects(t, d.System, "quarantine"); len(kept) != 1 || !strings.HasSuffix(kept[0], "/"+key) {
		t.Errorf("kept: %q", kept)
	}
	// So is what is gone, and the snapshot object itself.
	overwrite(t, d.System, key, func([]byte) []byte { return nil })
	snapshot := objects(t, d.System, "snapshots")[0]
	object := overwrite(t, d.System, snapshot, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	d.restores(first, "twice", want)
	d.restores(second, "thrice", wantSecond)
	d.healed(key, whole)
	d.healed(snapshot, object)
	// A check heals too, and the next one is clean.
	overwrite(t, d.System, key, func(b []byte) []byte { return spoiled(t, key, b, seal.KindRowsText) })
	r := d.Ctl(t.Context(), "repo", "check", "--read-data")
	if r.Code != 7 || !strings.Contains(r.Stdout, "1 of 1 objects were healed from another store") {
		t.Errorf("check: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	checked(t, d.System, 0, "--read-data")
	if h := health(t, d.System); h.Health.DamagedPacks != 0 {
		t.Errorf("%d packs are still marked", h.Health.DamagedPacks)
	}
	if out := ok(t, d.System, "events"); !strings.Contains(out, "object-healed") {
		t.Errorf("no event of healing:\n%s", out)
	}
	if out := ok(t, d.System, "repo", "stats"); !strings.Contains(out, "offsite (") {
		t.Errorf("statistics do not name the copy:\n%s", out)
	}
	d.copied("offsite", folder)

	// Everything but the bucket and the key is lost.
	must(t, os.RemoveAll(d.StoreDir()))
	d.lose()
	offline := func(args ...string) string {
		t.Helper()
		r := d.Ctl(t.Context(), append([]string{"offline", "--store", url, "--unlock", "file:" + d.key}, args...)...)
		must(t, r.Err())
		return r.Stdout
	}
	if out := offline("snapshots"); !strings.Contains(out, first[:8]) || !strings.Contains(out, second[:8]) {
		t.Errorf("snapshots of the copy:\n%s", out)
	}
	offline("check", "--read-data")
	d.Store = url
	d.rebuild("snapshots  2,", "1 agents", "newest     snapshot of")
	must(t, os.WriteFile(d.config, []byte(quick), 0o600))
	d.returns()
	d.restores(first, "again", want)
	d.restores(second, "anew", wantSecond)
	third := backup(t, d.System, "--database", "shop")
	d.restores(third, "further", wantSecond)
	kept := 0
	must(t, filepath.WalkDir(filepath.Join(folder, "snapshots"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			kept++
		}
		return err
	}))
	if kept != 3 {
		t.Errorf("%d snapshots in the bucket", kept)
	}
}

// healed waits until an object of the store has its bytes again.
func (d *disaster) healed(key string, want []byte) {
	d.t.Helper()
	must(d.t, d.Eventually(d.t.Context(), key+" is healed", d.Controller, func() (bool, error) {
		got, err := os.ReadFile(filepath.Join(d.StoreDir(), key))
		return err == nil && bytes.Equal(got, want), nil
	}))
}

// restoreLog gives the log of the newest restore.
func (d *disaster) restoreLog() string {
	d.t.Helper()
	var v struct {
		Jobs []struct {
			ID   string `json:"id"`
			Kind string `json:"kind"`
		} `json:"jobs"`
	}
	must(d.t, d.JSON(d.t.Context(), &v, "job", "ls"))
	for _, j := range v.Jobs {
		if j.Kind == "JOB_KIND_RESTORE" {
			return ok(d.t, d.System, "job", "logs", j.ID)
		}
	}
	d.t.Fatal("no restore")
	return ""
}

// A controller that is killed while it copies goes on, and what is in the copy by
// then is whole.
func TestAControllerKilledWhileItCopiesGoesOn(t *testing.T) {
	random := seeded(t)
	rounds := 2
	if os.Getenv("TUSKVAULT_LONG") != "" {
		rounds = 20
	}
	second := t.TempDir()
	absent := filepath.Join(t.TempDir(), "not-mounted") // which disturbs nobody
	d := withCopies(t, "copies:\n  - name: slow\n    store: file://"+second+"\n    bytes_per_second: 1MiB\n  - name: absent\n    store: file://"+absent+"\n")
	jobs := 0
	for round := range rounds {
		must(t, dataset.Change(t.Context(), d.pg.URL("shop"), 0.05))
		backup(t, d.System, "--database", "shop")
		jobs++
		// The log is put after everything else: somewhere before that the program dies.
		wait := time.Duration(random.IntN(1500)) * time.Millisecond
		start := time.Now()
		must(t, d.Eventually(t.Context(), "it is time", d.Controller, func() (bool, error) { return time.Since(start) > wait, nil }))
		must(t, d.Controller.Kill())
		r := d.Ctl(t.Context(), "offline", "--store", "file://"+second, "--unlock", "file:"+d.key, "check", "--read-data")
		begun := len(files(t, filepath.Join(second, "catalog"))) > 0
		if r.Code != 0 && begun {
			t.Fatalf("round %d, killed after %s: the copy is not whole: exit code %d\n%s%s", round, wait, r.Code, r.Stdout, r.Stderr)
		}
		d.returns()
	}
	d.copied("slow", second)
	if out := ok(t, d.System, "status"); !strings.Contains(out, "absent: failing") || len(files(t, absent)) != 0 {
		t.Errorf("status with a copy that is not there:\n%s", out)
	}
	for _, args := range [][]string{{"snapshots", "-o", "name"}, {"check", "--read-data"}} {
		r := d.Ctl(t.Context(), append([]string{"offline", "--store", "file://" + second, "--unlock", "file:" + d.key}, args...)...)
		must(t, r.Err())
		if n := len(strings.Fields(r.Stdout)); args[0] == "snapshots" && n != jobs {
			t.Errorf("%d snapshots in the copy, want %d:\n%s", n, jobs, r.Stdout)
		}
	}
}

// files lists a folder that may not be there.
func files(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		must(t, err)
	}
	return all
}
