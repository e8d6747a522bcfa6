package keyring_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	t          *testing.T
	store      *blobtest.Faulty
	repository *repo.Repository
	domain     *repo.Domain
	catalog    *catalog.Catalog
	log        *repo.Log
	keys       *keyring.Service
}

var by = keyring.By{Actor: "operator/admin"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: blobtest.NewFaulty(mem.New())}
	w.repository, w.domain, _ = repotest.New(t, w.store)
	var err error
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Repository: w.repository.ID(), Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { _ = w.catalog.Close() })
	epoch, err := w.repository.ClaimEpoch(t.Context())
	must(t, err)
	w.log, err = repo.OpenLog(t.Context(), w.repository, epoch)
	must(t, err)
	w.keys = keyring.New(w.repository, w.log, w.catalog, audit.New(w.catalog, zaptest.NewLogger(t)), zaptest.NewLogger(t))
	return w
}

func (w *world) add(name, word string, u seal.Unlocker) repo.ID {
	w.t.Helper()
	k := catalog.Key{ID: repo.NewID(), Name: name}
	if word != "" {
		k.Sheet, k.Confirmation = true, unlock.Confirmation(word)
	}
	_, err := w.keys.Add(w.t.Context(), k, u, "test", by)
	must(w.t, err)
	return k.ID
}

func (w *world) protected(want bool, when string) {
	w.t.Helper()
	if got, err := w.keys.Protected(w.t.Context()); got != want || err != nil {
		w.t.Errorf("%s: protected %v, %v", when, got, err)
	}
}

func (w *world) opens(u seal.Unlocker) bool {
	w.t.Helper()
	_, err := repo.Open(w.t.Context(), w.store, u)
	if err != nil && errs.KindOf(err) != errs.Denied {
		w.t.Error(err)
	}
	return err == nil
}

func (w *world) actions() (all string) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) error {
		records, _, err := tx.Audit(catalog.Page{})
		for _, r := range records {
			all += r.Action + " "
		}
		return err
	}))
	return strings.TrimSpace(all)
}

func TestKeysAreAddedListedAndRemoved(t *testing.T) {
	w := newWorld(t)
	w.protected(false, "one key")
	file := seal.NewKeyFile()
	id := w.add("safe", "", file.Derive())
	w.protected(true, "two keys")
	if !w.opens(file) {
		t.Error("the new key does not open")
	}
	list, err := w.keys.List(t.Context())
	must(t, err)
	for _, k := range list {
		first := k.ID == repo.ID(w.repository.ID())
		if len(list) != 2 || k.InUse != first || k.Kind != "key file" || first && k.Name != "first" || !first && (k.Name != "safe" || k.CreatedBy != by.Actor) {
			t.Errorf("key %+v", k)
		}
	}
	if _, err := w.keys.Add(t.Context(), catalog.Key{ID: id}, file, "test", by); errs.KindOf(err) != errs.Exists {
		t.Errorf("the same id again: %v", err)
	}
	for ref, kind := range map[string]*errs.Kind{w.repository.ID().String(): errs.Conflict, "": errs.NotFound, "zz": errs.NotFound} {
		if _, err := w.keys.Remove(t.Context(), ref, by); errs.KindOf(err) != kind {
			t.Errorf("remove %q: %v", ref, err)
		}
	}
	// What is paused is paused for keys too.
	pause := func(tx *catalog.Tx) error {
		_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
		return err
	}
	must(t, w.catalog.Update(t.Context(), catalog.Async, pause))
	if _, err := w.keys.Remove(t.Context(), id.String(), by); errs.KindOf(err) != errs.Conflict || !w.opens(file) {
		t.Errorf("while deletion is paused: %v", err)
	}
	must(t, w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("x"); return err }))
	if removed, err := w.keys.Remove(t.Context(), id.String()[:8], by); err != nil || removed != id {
		t.Errorf("remove: %s, %v", removed, err)
	}
	if w.opens(file) {
		t.Error("a removed key opens")
	}
	w.protected(false, "one key again")
	if got := w.actions(); got != "key.add key.remove" {
		t.Errorf("audit: %s", got)
	}
}

func TestASheetProtectsOnceSomebodyHasSeenIt(t *testing.T) {
	w := newWorld(t)
	word := unlock.ConfirmWord()
	sheet := seal.NewKeyFile()
	id := w.add("sheet", word, sheet.Derive())
	w.protected(false, "a sheet that nobody has confirmed")
	if _, err := w.keys.Confirm(t.Context(), unlock.ConfirmWord(), by); errs.KindOf(err) != errs.NotFound {
		t.Errorf("another word: %v", err)
	}
	if _, err := w.keys.Confirm(t.Context(), "", by); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no word: %v", err)
	}
	k, err := w.keys.Confirm(t.Context(), " "+strings.ToUpper(word)+" ", by)
	if err != nil || k.ID != id || k.Confirmed.IsZero() || k.ConfirmedBy != by.Actor {
		t.Errorf("confirm: %+v, %v", k, err)
	}
	w.protected(true, "a confirmed sheet")
	if _, err := w.keys.Remove(t.Context(), id.String(), by); err != nil {
		t.Error(err)
	}
	w.protected(false, "its key removed")
	if got := w.actions(); got != "key.add key.confirm key.remove" {
		t.Errorf("audit: %s", got)
	}
}

func TestAKeyChangeThatIsCutOffAnywhereCanBeRepeated(t *testing.T) {
	for n := range 2 {
		w := newWorld(t)
		file := seal.NewKeyFile()
		w.store.StopAfter(n)
		k := catalog.Key{ID: repo.NewID(), Name: "cut off"}
		_, err := w.keys.Add(t.Context(), k, file.Derive(), "test", by)
		if (err == nil) != (n > 0) {
			t.Errorf("add stopped after %d steps: %v", n, err)
		}
	}
	// A put without an answer: the key may be there, under the id that was chosen.
	w := newWorld(t)
	w.store.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.KeysPrefix, Nth: 1, Effect: blobtest.Ambiguous})
	file := seal.NewKeyFile()
	k := catalog.Key{ID: repo.NewID(), Name: "in doubt"}
	if _, err := w.keys.Add(t.Context(), k, file.Derive(), "test", by); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("add without an answer: %v", err)
	}
	if _, err := w.keys.Add(t.Context(), k, file.Derive(), "test", by); errs.KindOf(err) != errs.Exists || !w.opens(file) {
		t.Errorf("the same again: %v", err)
	}
	// A removal that stopped behind its record.
	w.store.Plan(blobtest.Fault{Op: blob.OpDelete, Prefix: repo.KeysPrefix, Nth: 1, Effect: blobtest.Fail})
	if _, err := w.keys.Remove(t.Context(), k.ID.String(), by); errs.KindOf(err) != errs.Unavailable || !w.opens(file) {
		t.Errorf("remove: %v", err)
	}
	if _, err := w.keys.Remove(t.Context(), k.ID.String(), by); err != nil || w.opens(file) {
		t.Errorf("remove again: %v", err)
	}
	w.store.Verify(t)
}

func TestRotationGivesEveryDomainANewSealKeyAndWritesNothingAnew(t *testing.T) {
	w := newWorld(t)
	second, err := w.repository.CreateDomain(t.Context())
	must(t, err)
	count := func() (n int) {
		must(t, w.store.List(t.Context(), "", "", func(blob.Info) error { n++; return nil }))
		return n
	}
	before := count()
	if n, err := w.keys.Rotate(t.Context(), by); n != 2 || err != nil {
		t.Errorf("%d domains, %v", n, err)
	}
	if got := count(); got != before+2 {
		t.Errorf("%d objects more", got-before)
	}
	for _, id := range []seal.DomainID{w.domain.ID(), second} {
		d, err := w.repository.Domain(t.Context(), id)
		if err != nil || d.SealEpoch() != 2 {
			t.Errorf("domain %s: seal epoch %d, %v", id, d.SealEpoch(), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.keys.Rotate(ctx, by); err == nil {
		t.Error("canceled and done")
	}
	if got := w.actions(); got != "key.rotate" {
		t.Errorf("audit: %s", got)
	}
}
