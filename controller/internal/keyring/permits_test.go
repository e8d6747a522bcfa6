package keyring_test

import (
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

// objects lists the store.
func (w *world) objects() (keys []string) {
	w.t.Helper()
	must(w.t, w.store.List(w.t.Context(), "", "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
	return keys
}

// deletes runs fn and wants that copies may follow each object that it deletes,
// and delete none that is there. It gives how many were deleted.
func (w *world) deletes(what string, fn func()) (n int) {
	w.t.Helper()
	before := w.objects()
	fn()
	after := w.objects()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) error {
		for _, key := range slices.Concat(before, after) {
			gone := !slices.Contains(after, key)
			if gone {
				n++
			}
			if ok, err := tx.Permitted(key); err != nil || ok != gone {
				w.t.Errorf("%s: %s: gone %v, copies may delete it %v, %v", what, key, gone, ok, err)
			}
		}
		return nil
	}))
	return n
}

func TestCopiesMayFollowWhatIsDeletedOfKeys(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.repository.PutCA(ctx, "aa01", []byte("root")))
	id := w.add("safe", "", seal.NewKeyFile().Derive())
	remove := func(id repo.ID) func() {
		return func() { _, err := w.keys.Remove(ctx, id.String(), by); must(t, err) }
	}
	if n := w.deletes("a key is removed", remove(id)); n != 1 {
		t.Errorf("%d objects of a key", n)
	}
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipient, err := unlock.ParseRecipient(identity.Recipient().String())
	must(t, err)
	escrow := w.add("escrow", "", recipient)
	lost := w.add("lost", "", seal.NewKeyFile().Derive())
	if n := w.deletes("a new master key", func() { _, err := w.keys.RotateMaster(ctx, []repo.ID{lost}, by); must(t, err) }); n < 4 {
		t.Errorf("only %d objects of an old master key", n)
	}
	// What the next master key has wrapped has another name than the first did.
	if n := w.deletes("a key of a later master key is removed", remove(escrow)); n != 1 {
		t.Errorf("%d objects of a key", n)
	}
	// Nothing is deleted, and nothing may be, while deletion is paused.
	must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
		return err
	}))
	if n := w.deletes("while deletion is paused", func() { _, err := w.keys.RotateMaster(ctx, nil, by); must(t, err) }); n != 0 {
		t.Errorf("%d objects were deleted while deletion is paused", n)
	}
}
