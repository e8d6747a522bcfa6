package offline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// The same in a real bucket, locked objects and all. versitygw cannot serve here: it
// gives a version that was overwritten or hidden the time of that.
func TestABucketUnderDeleteMarkersIsReadAsItWas(t *testing.T) {
	endpoint := s3test.StartMinIO(t)
	const bucket = "versioned"
	s3test.MakeBucket(t, endpoint, bucket, true)
	p, err := place.Parse("s3://" + bucket + "?path_style=true&endpoint=" + endpoint + "&lock=compliance&lock_days=30")
	if err != nil {
		t.Fatal(err)
	}
	p.Bucket.LockTime = repo.LockTime
	store, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, d, key := repotest.New(t, store)
	job := repotest.NewBackups(t, r, d).Backup(repotest.Table{Database: "app", Name: "t", Rows: 50, Seed: "x"})
	// The service counts in seconds: the attack must not be in the same one.
	before := time.Now().Truncate(time.Second).Add(time.Second)
	<-time.After(time.Until(before.Add(time.Second)))
	if n := s3test.NewAttacker(endpoint, bucket, "").HideAll(t); n < 5 {
		t.Fatalf("%d objects were hidden", n)
	}
	present, err := p.OpenReadOnly(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o, err := offline.Open(t.Context(), present, t.TempDir(), key); err == nil {
		_ = o.Close()
		t.Error("the present reads")
	}
	past, err := blob.At(present, before)
	if err != nil {
		t.Fatal(err)
	}
	o, err := offline.Open(t.Context(), past, t.TempDir(), key)
	if err != nil {
		t.Fatal(err)
	}
	var ids []repo.JobID
	err = o.List(t.Context(), func(s *offline.Snapshot) error {
		ids = append(ids, s.ID)
		if s.Err != nil {
			return s.Err
		}
		_, err := o.Source(t.Context(), s)
		return err
	})
	if err != nil || !slices.Equal(ids, []repo.JobID{job}) {
		t.Errorf("%v, %v", ids, err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	// And all of it comes back.
	v, err := blob.AsVersioned(store)
	if err != nil {
		t.Fatal(err)
	}
	err = past.List(t.Context(), "", "", func(i blob.Info) error {
		var all []blob.Version
		if err := v.Versions(t.Context(), i.Key, "", func(e blob.Version) error {
			if e.Key == i.Key {
				all = append(all, e)
			}
			return nil
		}); err != nil {
			return err
		}
		if found, ok := blob.Newest(all, before); ok {
			return v.Recover(t.Context(), found)
		}
		t.Errorf("%s is not in the past", i.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o, err = offline.Open(t.Context(), present, t.TempDir(), key); err != nil {
		t.Fatalf("after the recovery: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}
