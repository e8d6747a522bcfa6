package catalog_test

import (
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestAPermitCoversItsKeyOrFolder(t *testing.T) {
	c := create(t)
	since := time.Now().UTC()
	update(t, c, func(tx *catalog.Tx) error { return tx.PermitDelete(since, "snapshots/a/b", "packs/d/", "keys/k") })
	view(t, c, func(tx *catalog.Tx) error {
		for key, want := range map[string]bool{"snapshots/a/b": true, "snapshots/a/c": false, "snapshots/a": false, "packs/d/00/x": true, "packs/d/": true,
			"packs/e/00/x": false, "packs/d": false, "keys/k": true, "keys/kk": false, "repository.json": false, "": false} {
			if got, err := tx.Permitted(key); got != want || err != nil {
				t.Errorf("%q: %v, %v", key, got, err)
			}
		}
		var all []string
		for p, err := range tx.Permits("keys/k") {
			if err != nil || !p.Since.Equal(since) {
				t.Errorf("%+v, %v", p, err)
			}
			all = append(all, p.Object)
		}
		if len(all) != 2 || all[0] != "packs/d/" || all[1] != "snapshots/a/b" {
			t.Errorf("permits %q", all)
		}
		return nil
	})
	update(t, c, func(tx *catalog.Tx) error { return tx.DropPermits("packs/d/", "none") })
	view(t, c, func(tx *catalog.Tx) error {
		if got, err := tx.Permitted("packs/d/00/x"); got || err != nil {
			t.Errorf("after it was dropped: %v, %v", got, err)
		}
		return nil
	})
	for _, bad := range []string{"", "/"} {
		wants(t, c.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { return tx.PermitDelete(since, bad) }), errs.Invalid, "permit")
	}
}

func TestTheStateOfACopyIsKept(t *testing.T) {
	c := create(t)
	state := filled[catalog.CopyState](t)
	second := state
	second.Name = "second"
	update(t, c, func(tx *catalog.Tx) error {
		if err := tx.PutCopy(state); err != nil {
			return err
		}
		return tx.PutCopy(second)
	})
	update(t, c, func(tx *catalog.Tx) error { return tx.DeleteCopy("second") })
	view(t, c, func(tx *catalog.Tx) error {
		got, err := tx.Copy(state.Name)
		if err != nil || got != state {
			t.Errorf("%+v, want %+v, %v", got, state, err)
		}
		all, err := tx.Copies()
		if err != nil || len(all) != 1 {
			t.Errorf("%d copies, %v", len(all), err)
		}
		_, err = tx.Copy("second")
		wants(t, err, errs.NotFound, "second")
		return nil
	})
}
