package vault_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/vault"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func newVault(t *testing.T) (*vault.Vault, seal.DomainID) {
	t.Helper()
	r, err := repo.Init(t.Context(), mem.New(), repo.Options{Unlocker: seal.NewKeyFile(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(r)
	d, err := v.NewDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v, d
}

func TestABackupGetsOneSealKeyAndARestoreThoseOfItsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, d := newVault(t)
		first, err := v.BackupGrant(t.Context(), d)
		if err != nil || len(first.Seal) != 1 || first.Cut == (seal.Key{}) {
			t.Fatalf("backup: %d seal keys, %v", len(first.Seal), err)
		}
		if err := v.NewSealEpoch(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		second, err := v.BackupGrant(t.Context(), d)
		if err != nil || len(second.Seal) != 1 || second.NewestEpoch != first.NewestEpoch+1 || second.Name != first.Name {
			t.Fatalf("after a new epoch: newest %d, %v", second.NewestEpoch, err)
		}
		old, err := v.RestoreGrant(t.Context(), catalog.Snapshot{Domain: d, SealEpoch: first.NewestEpoch})
		if err != nil || len(old.Seal) != int(first.NewestEpoch) || old.Cut != (seal.Key{}) {
			t.Fatalf("restore of the old snapshot: %d seal keys, %v", len(old.Seal), err)
		}
		if _, later := old.Seal[second.NewestEpoch]; later {
			t.Error("a restore of an old snapshot opens what was written later")
		}
	})
}

func TestASealKeyIsGivenOutForThirtyDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, d := newVault(t)
		first, err := v.SealEpoch(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * 24 * time.Hour)
		if e, err := v.SealEpoch(t.Context(), d); e != first || err != nil {
			t.Errorf("after 29 days: epoch %d, %v", e, err)
		}
		time.Sleep(2 * 24 * time.Hour)
		e, err := v.SealEpoch(t.Context(), d)
		if e != first+1 || err != nil {
			t.Errorf("after 31 days: epoch %d, %v", e, err)
		}
		if g, err := v.BackupGrant(t.Context(), d); g.NewestEpoch != e || err != nil {
			t.Errorf("the grant has epoch %d, %d was announced, %v", g.NewestEpoch, e, err)
		}
	})
}

func TestAnUnknownDomainGivesNothing(t *testing.T) {
	v, _ := newVault(t)
	if _, err := v.BackupGrant(t.Context(), seal.DomainID{1}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("backup: %v", err)
	}
	if _, err := v.RestoreGrant(t.Context(), catalog.Snapshot{Domain: seal.DomainID{1}, SealEpoch: 1}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("restore: %v", err)
	}
}
