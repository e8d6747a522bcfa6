package offline_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// An attacker with a credential that writes hides and overwrites every object.
func TestAStoreUnderDeleteMarkersIsReadAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.NewVersioned(nil)
		w := &world{t: t, store: store}
		r, d, key := repotest.New(t, store)
		job := repotest.NewBackups(t, r, d).Backup(repotest.Table{Database: "app", Name: "t", Rows: 50, Seed: "x"})
		time.Sleep(10 * time.Second)
		before := time.Now()
		time.Sleep(10 * time.Second)
		var all []string
		w.must(store.List(t.Context(), "", "", func(i blob.Info) error { all = append(all, i.Key); return nil }))
		for i, k := range all {
			if store.Hide(k); i%2 == 0 {
				store.Overwrite(k, []byte("rubbish"))
			}
		}
		read := func(at time.Time) (ids []repo.JobID, err error) {
			past, err := blob.At(blob.ReadOnly(blob.Retry(store, blob.RetryOptions{})), at)
			w.must(err)
			o, err := offline.Open(t.Context(), refusing{past, t}, t.TempDir(), key)
			if err != nil {
				return nil, err
			}
			defer func() { w.must(o.Close()) }()
			err = o.List(t.Context(), func(s *offline.Snapshot) error {
				if s.Err != nil {
					return s.Err
				}
				ids = append(ids, s.ID)
				_, err := o.Source(t.Context(), s)
				return err
			})
			return ids, err
		}
		if ids, err := read(time.Now()); err == nil {
			t.Errorf("the present reads: %v", ids)
		}
		if ids, err := read(before); err != nil || !slices.Equal(ids, []repo.JobID{job}) {
			t.Errorf("before the attack: %v, %v", ids, err)
		}
	})
}
