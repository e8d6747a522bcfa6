package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
)

func TestARepositoryInABucketGivesTheRowsBack(t *testing.T) {
	bucketServer := s3test.Start(t) // its credentials are in our environment, and so in the programs'
	bucket := bucketServer.Bucket(t)
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	s := system(t)
	s.Store = bucketServer.URL(bucket, "fleet/one")
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context())))
	must(t, s.Enroll(t.Context(), "db1", pg.Env("postgres")))
	before := digests(t, pg, source)
	first := backup(t, s, "--database", source)
	must(t, dataset.Change(t.Context(), pg.URL(source), 0.05))
	second := backup(t, s, "--database", source)
	after := digests(t, pg, source)

	// A controller that starts again reads everything back from the bucket.
	must(t, s.Close(context.WithoutCancel(t.Context())))
	must(t, s.StartController(t.Context()))
	must(t, s.StartAgent(t.Context(), "db1", "", pg.Env("postgres")))
	must(t, s.Online(t.Context(), "db1/main"))
	old, now := dropLater(t, pg, source+"_old"), dropLater(t, pg, source+"_now")
	ok(t, s, "restore", first, "--to", "db1/main", "--database", source+"="+old, "--wait")
	ok(t, s, "restore", second, "--to", "db1/main", "--database", source+"="+now, "--wait")
	if d := cmp.Diff(before, digests(t, pg, old)); d != "" {
		t.Errorf("first snapshot: %s", d)
	}
	if d := cmp.Diff(after, digests(t, pg, now)); d != "" {
		t.Errorf("second snapshot: %s", d)
	}
	if err := s.Init(t.Context(), "--state-dir", filepath.Join(s.Dir, "another")); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("init in a bucket that holds a repository: %v", err)
	}
	kept(t, bucketServer.Folder(bucket), filepath.Join(s.Dir, "controller"))
}

// kept proves that the repository is in the bucket, below its prefix, and that
// the credentials went nowhere.
func kept(t *testing.T, bucket, state string) {
	t.Helper()
	packs := 0
	must(t, filepath.WalkDir(filepath.Join(bucket, "fleet", "one", "packs"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			packs++
		}
		return err
	}))
	if packs == 0 {
		t.Error("the bucket holds no pack")
	}
	must(t, filepath.WalkDir(filepath.Dir(state), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), s3test.SecretKey) {
			t.Errorf("%s holds the store's secret key", path)
		}
		return err
	}))
}
