package keyring_test

import (
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

func TestANewMasterKeyKeepsWhatCanBeWrappedAnewAndNamesTheRest(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipient, err := unlock.ParseRecipient(identity.Recipient().String())
	must(t, err)
	opener, err := unlock.ParseIdentity(identity.String())
	must(t, err)
	w.add("escrow", "", recipient)
	file := seal.NewKeyFile()
	lost := w.add("safe", "", file.Derive())

	plan, err := w.keys.Plan(ctx)
	if err != nil || len(plan.Kept) != 2 || len(plan.Lost) != 1 || plan.Lost[0].ID != lost || plan.Master != 1 {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if _, err := w.keys.RotateMaster(ctx, nil, by); errs.KindOf(err) != errs.Conflict || w.repository.Master() != 1 || !w.opens(file) {
		t.Errorf("nobody has agreed: %v", err)
	}
	c, err := w.keys.RotateMaster(ctx, []repo.ID{lost}, by)
	if err != nil || c.Master != 2 || c.Removed == 0 || c.Remaining != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if w.opens(file) || !w.opens(opener) {
		t.Error("the wrong keys open")
	}
	// The service goes on: what was lost is added again, and the next change knows it.
	lost = w.add("safe", "", file.Derive())
	if !w.opens(file) {
		t.Error("the key that was added again does not open")
	}
	list, err := w.keys.List(ctx)
	must(t, err)
	if len(list) != 3 {
		t.Errorf("%d keys", len(list))
	}
	if c, err = w.keys.RotateMaster(ctx, []repo.ID{lost}, by); err != nil || c.Master != 3 {
		t.Errorf("again: %+v, %v", c, err)
	}
	if got := w.actions(); strings.Count(got, "key.rotate-master") != 2 || strings.Count(got, "key.rotated-master") != 2 {
		t.Errorf("audit: %s", got)
	}
}

func TestWhatOldMasterKeysSealedStaysWhileDeletionIsPausedOrLocked(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	pause := func(tx *catalog.Tx) error {
		_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
		return err
	}
	must(t, w.catalog.Update(ctx, catalog.Async, pause))
	c, err := w.keys.RotateMaster(ctx, nil, by)
	if err != nil || c.Removed != 0 || c.Remaining == 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("x"); return err }))
	// A lock of the store puts it off, and what opens it goes last.
	w.store.Plan(blobtest.Fault{Op: blob.OpDelete, Prefix: repo.DomainsPrefix, Nth: 1, Effect: blobtest.Fail, Err: errs.Denied})
	removed, kept, err := w.repository.DropReplaced(ctx, w.log, func([]string) error { return nil })
	if removed != 0 || kept != 1 || err != nil {
		t.Errorf("removed %d, kept %d, %v", removed, kept, err)
	}
	if removed, kept, err = w.repository.DropReplaced(ctx, w.log, func([]string) error { return nil }); removed != 2 || kept != 0 || err != nil {
		t.Errorf("removed %d, kept %d, %v", removed, kept, err)
	}
	w.store.Verify(t)
}
