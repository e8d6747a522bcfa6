package catalog_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func condemnedBy(t *testing.T, c *catalog.Catalog, id repo.ID) (out []catalog.PackID) {
	t.Helper()
	view(t, c, func(tx *catalog.Tx) error {
		for p, err := range tx.CondemnedBy(id) {
			if err != nil {
				return err
			}
			out = append(out, p)
		}
		return nil
	})
	return out
}

func packIDs(n int) []catalog.PackID {
	out := make([]catalog.PackID, n)
	for i := range out {
		out[i] = catalog.PackID{byte(i), byte(i >> 8), 1}
	}
	return out
}

func TestPrunesKeepTheirPacksUntilTheyEnd(t *testing.T) {
	c := create(t)
	prune, other := filled[catalog.Prune](t), filled[catalog.Prune](t)
	run := filled[catalog.PruneRun](t)
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutPrune(prune), tx.PutPrune(other), tx.Condemn(prune.ID, packIDs(2500)), tx.Condemn(other.ID, packIDs(3)), tx.PutPruneRun(run))
	})
	if got := condemnedBy(t, c, prune.ID); !slices.Equal(got, packIDs(2500)) {
		t.Errorf("%d packs", len(got))
	}
	// Fewer packs leave none of those that were there.
	update(t, c, func(tx *catalog.Tx) error { return tx.Condemn(prune.ID, packIDs(5)) })
	if got := condemnedBy(t, c, prune.ID); !slices.Equal(got, packIDs(5)) {
		t.Errorf("%d packs", len(got))
	}
	view(t, c, func(tx *catalog.Tx) error {
		got, err := tx.Prune(prune.ID)
		all, allErr := tx.Prunes()
		last, runErr := tx.PruneRun()
		if d := cmp.Diff(prune, got); d != "" || err != nil || allErr != nil || len(all) != 2 {
			t.Errorf("%s, %d prunes, %v", d, len(all), errors.Join(err, allErr))
		}
		if d := cmp.Diff(run, last); d != "" || runErr != nil {
			t.Errorf("%s, %v", d, runErr)
		}
		return nil
	})
	update(t, c, func(tx *catalog.Tx) error { return tx.DeletePrune(prune.ID) })
	if len(condemnedBy(t, c, prune.ID)) != 0 || len(condemnedBy(t, c, other.ID)) != 3 {
		t.Error("the wrong packs are gone")
	}
	err := c.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		return tx.Condemn(prune.ID, packIDs(catalog.MaxCondemned+1))
	})
	if !errors.Is(err, errs.Exhausted) {
		t.Errorf("too many: %v", err)
	}
}

func TestWhatIsNotedOfADomainGoesOnlyIfNothingCameSince(t *testing.T) {
	c := create(t)
	d, start := seal.DomainID{7}, time.Now().UTC()
	put := func(n catalog.PruneNeed) {
		update(t, c, func(tx *catalog.Tx) error { return tx.PutPruneNeed(d, n) })
	}
	needs := func() (out []catalog.PruneNeed) {
		view(t, c, func(tx *catalog.Tx) (err error) { out, err = tx.PruneNeeds(); return err })
		return out
	}
	put(catalog.PruneNeed{Since: start, Snapshots: 1, Bytes: 10})
	asOf := needs()[0]
	put(catalog.PruneNeed{Since: start.Add(time.Hour), Snapshots: 2, Bytes: 5})
	update(t, c, func(tx *catalog.Tx) error { return tx.DropPruneNeed(d, asOf) })
	want := []catalog.PruneNeed{{Domain: d, Since: start, Snapshots: 3, Bytes: 15}}
	if diff := cmp.Diff(want, needs()); diff != "" {
		t.Fatal(diff)
	}
	update(t, c, func(tx *catalog.Tx) error { return tx.DropPruneNeed(d, want[0]) })
	if len(needs()) != 0 {
		t.Error("it is still there")
	}
}
