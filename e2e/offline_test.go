package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// orphan stops everything and deletes the controller's state folder; what is left
// is the store and the key, which it returns.
func orphan(t *testing.T, s *harness.System) (key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "unlock.key")
	b, err := os.ReadFile(filepath.Join(s.ControllerDir(), "unlock.key"))
	must(t, err)
	must(t, os.WriteFile(key, b, 0o600))
	must(t, s.Close(context.WithoutCancel(t.Context())))
	must(t, os.RemoveAll(s.ControllerDir()))
	return key
}

// aloneWith reads a repository of two backups with nothing but store and key.
func aloneWith(t *testing.T, pg *pgtest.Server, s *harness.System, source, id, key string) {
	t.Helper()
	args := func(more ...string) []string {
		return append([]string{"offline", "--store", s.Store, "--unlock", "file:" + key}, more...)
	}
	if out := ok(t, s, args("snapshots", "-o", "name")...); !strings.Contains(out, id) || strings.Count(out, "\n") != 2 {
		t.Errorf("snapshots: %s", out)
	}
	if out := ok(t, s, args("snapshots")...); !strings.Contains(out, "main ") || !strings.Contains(out, "complete") {
		t.Errorf("snapshots: %s", out)
	}
	var v struct {
		Databases []struct {
			Name string `json:"name"`
			Rows int64  `json:"rows"`
		} `json:"databases"`
	}
	must(t, s.JSON(t.Context(), &v, args("show", id[:9])...))
	if len(v.Databases) != 1 || v.Databases[0].Name != source || v.Databases[0].Rows == 0 {
		t.Errorf("show: %+v", v)
	}
	dir := t.TempDir()
	folder, script := filepath.Join(dir, "folder"), filepath.Join(dir, "plain.sql")
	ok(t, s, args("export", id, "--database", source, "--output", folder)...)
	ok(t, s, args("export", "latest:main", "--database", source, "--format", "plain", "--output", script)...)
	restored, loaded := empty(t, pg, source+"_d"), empty(t, pg, source+"_p")
	stock(t, pg, nil, "pg_restore", "--exit-on-error", "-j2", "-d", restored, folder)
	stock(t, pg, nil, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", loaded, "-f", script)
	same(t, pg, source, pg, restored)
	same(t, pg, source, pg, loaded)
	ok(t, s, args("export", "latest", "--all", "--output", filepath.Join(dir, "all"))...)

	ok(t, s, args("check")...)
	ok(t, s, args("check", "--read-data")...)
	if out := ok(t, s, args("check", "--read-data", "--sample", "50%", "-o", "json")...); !strings.Contains(out, `"damaged": false`) {
		t.Errorf("check: %s", out)
	}

	refused(t, s, 9, []string{folder, "already"}, args("export", id, "--database", source, "--output", folder)...)
	refused(t, s, 3, []string{"nosuch"}, args("export", id, "--database", "nosuch", "--output", filepath.Join(dir, "x"))...)
	refused(t, s, 3, []string{"ffff"}, args("show", "ffff")...)
}

func TestWithoutAControllerTheStoreAndTheKeyAreEnough(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	s := running(t, pg)
	backup(t, s, "--database", source)
	id := backup(t, s, "--database", source)
	key := orphan(t, s)
	before := tree(t, s.StoreDir())
	aloneWith(t, pg, s, source, id, key)
	t.Run("without index files", func(t *testing.T) {
		must(t, os.Rename(filepath.Join(s.StoreDir(), "index"), filepath.Join(s.Dir, "index-away")))
		defer func() { must(t, os.Rename(filepath.Join(s.Dir, "index-away"), filepath.Join(s.StoreDir(), "index"))) }()
		out := ok(t, s, "offline", "--store", s.Store, "--unlock", "file:"+key, "export", id, "--database", source, "--format", "plain", "--output", "-")
		if !strings.Contains(out, "COPY shop.customers") {
			t.Error("nothing was exported")
		}
	})
	if after := tree(t, s.StoreDir()); after != before {
		t.Errorf("the store was changed:\n%s\n%s", before, after)
	}

	other := filepath.Join(t.TempDir(), "other.key")
	must(t, os.WriteFile(other, []byte("not the passphrase of this one"), 0o600))
	refused(t, s, 4, []string{"none of 1 keys opens"}, "offline", "--store", s.Store, "--unlock", "file:"+other, "snapshots")
	refused(t, s, 2, []string{"--unlock"}, "offline", "--store", s.Store, "snapshots")
	refused(t, s, 3, []string{"no such file"}, "offline", "--store", "file:///nowhere/at/all", "--unlock", "file:"+key, "snapshots")

	// Damage is named, also that of a snapshot among others.
	for _, p := range packs(t, s) {
		flip(t, p)
	}
	refused(t, s, 7, []string{"damaged: packs/", "hurts snapshot " + id[:8], "database " + source + ", "}, "offline", "--store", s.Store, "--unlock", "file:"+key, "check", "--read-data")
	out := filepath.Join(t.TempDir(), "x")
	refused(t, s, 7, []string{"corrupt", "pack"}, "offline", "--store", s.Store, "--unlock", "file:"+key, "export", id, "--database", source, "--output", out)
	nothingAt(t, out)
	manifests, err := filepath.Glob(filepath.Join(s.StoreDir(), "snapshots", "*", id))
	must(t, err)
	flip(t, manifests[0])
	refused(t, s, 7, []string{"damaged", "complete", id}, "offline", "--store", s.Store, "--unlock", "file:"+key, "snapshots")
}

func TestWithoutAControllerABucketIsEnough(t *testing.T) {
	bucketServer := s3test.Start(t)
	bucket := bucketServer.Bucket(t)
	pg := shared.Server(t)
	source := filled(t, pg, 0.02)
	s := system(t)
	s.Store = bucketServer.URL(bucket, "fleet/one")
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context())))
	must(t, s.Enroll(t.Context(), "db1", pg.Env("postgres")))
	backup(t, s, "--database", source)
	id := backup(t, s, "--database", source)
	key := orphan(t, s)
	before := tree(t, bucketServer.Folder(bucket))
	aloneWith(t, pg, s, source, id, key)
	if after := tree(t, bucketServer.Folder(bucket)); after != before {
		t.Errorf("the bucket was changed:\n%s\n%s", before, after)
	}
}
