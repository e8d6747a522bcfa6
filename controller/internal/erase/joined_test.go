package erase_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func (w *world) update(fn func(*catalog.Tx) error) {
	w.t.Helper()
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Local, fn))
}

func TestNothingIsErasedThatSomebodyHolds(t *testing.T) {
	w := newWorld(t)
	var held catalog.Snapshot
	hold := func(until time.Time) {
		w.update(func(tx *catalog.Tx) error {
			rows, _, err := tx.SnapshotsOf(w.instance.ID, catalog.Page{Size: 1})
			if err != nil {
				return err
			}
			held = rows[0]
			held.Hold = catalog.Hold{Until: until, By: "operator/bob", Reason: "audit of the year", Time: time.Now().Add(-time.Hour)}
			return tx.PutSnapshot(held)
		})
	}
	hold(time.Now().Add(24 * time.Hour))
	before := w.objects(w.domain.ID())
	_, err := w.service.Erase(t.Context(), w.request(), by)
	if errs.KindOf(err) != errs.Conflict {
		t.Fatalf("it is held: %v", err)
	}
	for _, word := range []string{held.ID.Short(), "operator/bob", "audit of the year", "db1/main"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if w.objects(w.domain.ID()) != before || w.listed(w.instance.ID) != 2 {
		t.Error("something was erased")
	}
	// A hold that has ended keeps nothing, and one in another domain keeps only that.
	hold(time.Now().Add(-time.Minute))
	w.update(func(tx *catalog.Tx) error {
		s, err := tx.Snapshot(w.kept)
		s.Hold = catalog.Hold{Until: time.Now().Add(time.Hour), By: "operator/bob", Reason: "audit", Time: time.Now()}
		return errors.Join(err, tx.PutSnapshot(s))
	})
	if _, err := w.service.Erase(t.Context(), w.request(), by); err != nil {
		t.Fatal(err)
	}
	w.finish()
	w.erased("released")
}

func TestAnErasureDropsWhatIsNotedOfPruningAndLetsCopiesFollow(t *testing.T) {
	w := newWorld(t)
	prune := func(d seal.DomainID) repo.ID {
		id := repo.NewID()
		w.update(func(tx *catalog.Tx) error {
			return errors.Join(tx.PutPrune(catalog.Prune{ID: id, Domain: d, Phase: catalog.PruneCondemned, Condemned: time.Now(), Packs: 2000, Bytes: 1, By: "operator/ann"}),
				tx.Condemn(id, make([]catalog.PackID, 2000)), tx.PutPruneNeed(d, catalog.PruneNeed{Since: time.Now(), Snapshots: 1, Bytes: 1}))
		})
		return id
	}
	going, also, staying := prune(w.domain.ID()), prune(w.domain.ID()), prune(w.other.ID())
	objects := func() (keys []string) {
		must(t, w.inner.List(t.Context(), "", "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
		return keys
	}
	before := objects()
	_, err := w.service.Erase(t.Context(), w.request(), by)
	must(t, err)
	w.finish()
	after := objects()
	must(t, w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		prunes, err := tx.Prunes()
		if err != nil || len(prunes) != 1 || prunes[0].ID != staying {
			t.Errorf("prunes: %+v, %v", prunes, err)
		}
		for id, want := range map[repo.ID]int{going: 0, also: 0, staying: 2000} {
			n := 0
			for _, err := range tx.CondemnedBy(id) {
				must(t, err)
				n++
			}
			if n != want {
				t.Errorf("%d packs are condemned, want %d", n, want)
			}
		}
		needs, err := tx.PruneNeeds()
		if err != nil || len(needs) != 1 || needs[0].Domain != w.other.ID() {
			t.Errorf("needs: %+v, %v", needs, err)
		}
		kinds := map[string]int{}
		for _, key := range slices.Concat(before, after) {
			gone := !slices.Contains(after, key)
			if ok, err := tx.Permitted(key); err != nil || ok != gone {
				t.Errorf("%s: gone %v, copies may delete it %v, %v", key, gone, ok, err)
			}
			if gone {
				kinds[key[:strings.IndexByte(key, '/')+1]]++
			}
		}
		for _, kind := range []string{repo.DomainsPrefix, repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix} {
			if kinds[kind] == 0 {
				t.Errorf("nothing of %s was erased", kind)
			}
		}
		return nil
	}))
}

// What the store has not let go of an erased domain is no damage to a check.
func TestACheckOfWhatIsLeftOfAnErasureFindsNoDamage(t *testing.T) {
	w := newWorld(t)
	// A lock keeps one object of each kind, so that the rest does not fit together.
	for _, prefix := range []string{repo.DomainsPrefix, repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix} {
		w.store.Plan(blobtest.Fault{Op: blob.OpDelete, Prefix: prefix, Nth: 1, Effect: blobtest.Fail, Err: errs.Locked})
	}
	_, err := w.domain.BumpSealEpoch(t.Context())
	must(t, err)
	_, err = w.service.Erase(t.Context(), w.request(), by)
	must(t, err)
	w.finish()
	if w.objects(w.domain.ID()) == 0 {
		t.Fatal("nothing is left to be checked")
	}
	r, err := repo.Open(t.Context(), w.inner, w.unlocker)
	must(t, err)
	report, err := check.Run(t.Context(), w.inner, check.Options{Repository: r, Dir: t.TempDir(), ReadData: true, Sample: check.Whole, Known: scrub.NewKnown(w.catalog)})
	must(t, err)
	for _, f := range report.Findings {
		for _, id := range []string{w.domain.ID().String(), w.instance.ID.String()} {
			if strings.Contains(f.Object+f.Detail, id) {
				t.Errorf("%+v", f)
			}
		}
	}
	w.store.Verify(t)
}
