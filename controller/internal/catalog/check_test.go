package catalog_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestWhatIsKnownOfTheRepositorysHealthComesBack(t *testing.T) {
	c := create(t)
	view(t, c, func(tx *catalog.Tx) error {
		if _, err := tx.Check(); !errors.Is(err, errs.NotFound) {
			t.Errorf("before any check: %v", err)
		}
		if _, err := tx.Scrub(); !errors.Is(err, errs.NotFound) {
			t.Errorf("before any scrub: %v", err)
		}
		return nil
	})
	check, scrub, damaged := filled[catalog.Check](t), filled[catalog.Scrub](t), filled[catalog.DamagedPack](t)
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutCheck(check), tx.PutScrub(scrub), tx.PutDamagedPack(damaged))
	})
	view(t, c, func(tx *catalog.Tx) error {
		gotCheck, err := tx.Check()
		if d := cmp.Diff(check, gotCheck); d != "" || err != nil {
			t.Errorf("check: %s, %v", d, err)
		}
		gotScrub, err := tx.Scrub()
		if d := cmp.Diff(scrub, gotScrub); d != "" || err != nil {
			t.Errorf("scrub: %s, %v", d, err)
		}
		gotDamaged, err := tx.DamagedPack(damaged.Domain, damaged.Pack)
		if d := cmp.Diff(damaged, gotDamaged); d != "" || err != nil {
			t.Errorf("damaged pack: %s, %v", d, err)
		}
		return nil
	})
}

func TestDamagedPacksAreListedAndForgotten(t *testing.T) {
	c := create(t)
	at := func(domain, pack byte) catalog.DamagedPack {
		return catalog.DamagedPack{Domain: seal.DomainID{domain}, Pack: catalog.PackID{pack}, Whole: true, Found: time.Unix(1, 0).UTC()}
	}
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutDamagedPack(at(2, 1)), tx.PutDamagedPack(at(1, 9)), tx.PutDamagedPack(at(1, 3)), tx.PutDamagedPack(at(1, 3)))
	})
	list := func() (got []catalog.DamagedPack) {
		view(t, c, func(tx *catalog.Tx) error {
			for p, err := range tx.DamagedPacks() {
				if err != nil {
					return err
				}
				got = append(got, p)
			}
			return nil
		})
		return got
	}
	if d := cmp.Diff([]catalog.DamagedPack{at(1, 3), at(1, 9), at(2, 1)}, list()); d != "" {
		t.Error(d)
	}
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(tx.DeleteDamagedPack(seal.DomainID{1}, catalog.PackID{3}), tx.DeleteDamagedPack(seal.DomainID{7}, catalog.PackID{7}))
	})
	if d := cmp.Diff([]catalog.DamagedPack{at(1, 9), at(2, 1)}, list()); d != "" {
		t.Error(d)
	}
}

func TestTheRecordOfACheckIsBounded(t *testing.T) {
	c := create(t)
	check := filled[catalog.Check](t)
	check.Findings = make([]catalog.CheckFinding, catalog.MaxCheckFindings+5)
	check.Findings[0].Effects = make([]catalog.CheckEffect, catalog.MaxCheckEffects+3)
	check.Hurt = make([]catalog.HurtSnapshot, catalog.MaxCheckHurt+5)
	update(t, c, func(tx *catalog.Tx) error { return tx.PutCheck(check) })
	view(t, c, func(tx *catalog.Tx) error {
		got, err := tx.Check()
		if err != nil || len(got.Findings) != catalog.MaxCheckFindings || len(got.Hurt) != catalog.MaxCheckHurt ||
			len(got.Findings[0].Effects) != catalog.MaxCheckEffects || got.Findings[0].EffectsMore != 3 {
			t.Errorf("%d findings, %d hurt, %v", len(got.Findings), len(got.Hurt), err)
		}
		return nil
	})
	if len(check.Findings[0].Effects) != catalog.MaxCheckEffects+3 {
		t.Error("the caller's record was changed")
	}
}
