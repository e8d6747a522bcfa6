package copies_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// oneOfEach gives an object of every kind that can be healed when it is damaged.
func oneOfEach(t *testing.T, s blob.Store) (out []string) {
	t.Helper()
	for _, prefix := range []string{repo.DomainsPrefix, repo.CAPrefix, repo.EpochsPrefix, repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix, repo.CatalogPrefix} {
		out = append(out, keys(t, s, prefix)[0])
	}
	return out
}

func TestEachKindOfObjectIsHealedFromTheOtherStore(t *testing.T) {
	w := newWorld(t)
	w.backup()
	w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	whole := map[string][]byte{}
	for _, key := range oneOfEach(t, w.store) {
		whole[key] = object(t, w.store, key)
	}
	for _, store := range []struct {
		name string
		of   blob.Store
		from string
	}{{"", w.store, "a"}, {"a", to, ""}} {
		for key, want := range whole {
			// Flipped, cut off, empty, gone.
			for how, bad := range map[string][]byte{"flipped": flip(want), "cut": want[:len(want)/2], "empty": {}, "gone": nil} {
				must(t, store.of.Delete(t.Context(), key))
				if bad != nil {
					must(t, store.of.Create(t.Context(), key, blob.Bytes(bad)))
				}
				from, err := s.Heal(t.Context(), store.name, key)
				if err != nil || from != store.from || !bytes.Equal(object(t, store.of, key), want) {
					t.Errorf("%s %s in %q: from %q, %v", key, how, store.name, from, err)
				}
				if bad != nil && !kept(t, store.of, key, bad) {
					t.Errorf("%s %s in %q: the damaged one was not kept", key, how, store.name)
				}
			}
		}
		w.clean("healed "+store.name, store.of, 2)
	}
	if n := w.trail.count("repository.heal"); n != 2*4*len(whole) || w.events.count(event.ObjectHealed) != n {
		t.Errorf("%d audit records and %d events of %d", n, w.events.count(event.ObjectHealed), 2*4*len(whole))
	}
	// A whole object is left alone, whatever is asked.
	steps := w.trail.count("repository.heal")
	for key := range whole {
		if from, err := s.Heal(t.Context(), "", key); err != nil || from != "" {
			t.Errorf("%s is whole: from %q, %v", key, from, err)
		}
	}
	if w.trail.count("repository.heal") != steps {
		t.Error("whole objects were replaced")
	}
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	return b
}

// kept tells whether damaged bytes are in quarantine.
func kept(t *testing.T, s blob.Store, key string, bad []byte) bool {
	t.Helper()
	for _, k := range keys(t, s, repo.QuarantinePrefix) {
		if strings.HasSuffix(k, "/"+key) && bytes.Equal(object(t, s, k), bad) {
			return true
		}
	}
	return false
}

func TestADamagedCopyHealsNothing(t *testing.T) {
	w := newWorld(t)
	w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	for _, key := range oneOfEach(t, w.store) {
		damage(t, to, key)
		damage(t, w.store, key)
		bad, worse := object(t, w.store, key), object(t, to, key)
		for _, store := range []string{"", "a"} {
			if _, err := s.Heal(t.Context(), store, key); !errors.Is(err, errs.Corrupt) {
				t.Errorf("%s: %v", key, err)
			}
		}
		if !bytes.Equal(bad, object(t, w.store, key)) || !bytes.Equal(worse, object(t, to, key)) {
			t.Errorf("%s was touched", key)
		}
		damage(t, to, key) // flipped back
		damage(t, w.store, key)
	}
	for what, key := range map[string]string{"no object": "something/else", "quarantine": repo.QuarantinePrefix + "00/packs/x"} {
		_, err := s.Heal(t.Context(), "", key)
		wantKind(t, what, err, errs.Invalid)
	}
	_, err := s.Heal(t.Context(), "nobody", repo.CAObject("aa01"))
	wantKind(t, "no such copy", err, errs.NotFound)
}

// Whatever step of healing is the last one, a good one is in one of the stores
// and healing again ends well.
func TestHealingStoppedAnywhereIsHarmless(t *testing.T) {
	w := newWorld(t)
	w.backup()
	to := mem.New()
	w.follow(w.service(map[string]blob.Store{"a": to}), "a")
	for _, key := range oneOfEach(t, w.store) {
		want := object(t, w.store, key)
		for n := 0; ; n++ {
			for _, old := range keys(t, w.store, repo.QuarantinePrefix) {
				must(t, w.store.Delete(t.Context(), old))
			}
			must(t, w.store.Delete(t.Context(), key))
			must(t, w.store.Create(t.Context(), key, blob.Bytes(flip(want))))
			faulty := blobtest.NewFaulty(w.store)
			faulty.StopAfter(n)
			s := w.over(faulty, to)
			_, err := s.Heal(t.Context(), "", key)
			if err == nil {
				if n != 3 {
					t.Errorf("%s: %d steps, want 3", key, n)
				}
				break
			}
			if got, err := w.store.Stat(t.Context(), key); err == nil && got.Size != int64(len(want)) {
				t.Errorf("%s, stopped after %d steps: %v", key, n, got)
			}
			again := w.over(w.store, to)
			from, err := again.Heal(t.Context(), "", key)
			if err != nil || from != "a" || !bytes.Equal(object(t, w.store, key), want) || !kept(t, w.store, key, flip(want)) {
				t.Errorf("%s, stopped after %d steps, again: from %q, %v", key, n, from, err)
			}
		}
	}
	w.clean("healed", w.store, 1)
}

// over makes a Service whose repository is in a store, with a copy it has met.
func (w *world) over(own, to blob.Store) *copies.Service {
	w.t.Helper()
	r, err := repo.Open(w.t.Context(), named{own, "own"}, w.key)
	must(w.t, err)
	s := copies.New(copies.Deps{Repository: r, Epoch: 2, Unlockers: []seal.Unlocker{w.key}, Catalog: w.catalog, Trail: w.trail, Events: w.events, Marks: w.marks,
		Dir: w.t.TempDir(), Log: zaptest.NewLogger(w.t)}, copies.Options{Name: "a", MaxLag: time.Hour, Open: func(context.Context) (blob.Store, error) { return named{to, "a"}, nil }})
	must(w.t, s.Open(w.t.Context(), "a"))
	return s
}

func TestWhatTheStoreLostComesBackUnlessItWasDeletedOnPurpose(t *testing.T) {
	w := newWorld(t)
	w.backup()
	gone := w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")

	// Lost: nothing permits it.
	var lost []string
	for _, prefix := range []string{repo.DomainsPrefix, repo.CAPrefix, repo.PacksPrefix, repo.SnapshotsPrefix} {
		key := keys(t, w.store, prefix)[0]
		must(t, w.store.Delete(t.Context(), key))
		lost = append(lost, key)
	}
	for _, key := range keys(t, w.store, repo.IndexesPrefix) { // all of them: none was merged into others
		must(t, w.store.Delete(t.Context(), key))
		lost = append(lost, key)
	}
	key := keys(t, w.store, repo.KeysPrefix)[0]
	whole := object(t, w.store, key)
	must(t, w.store.Delete(t.Context(), key))
	w.follow(s, "a")
	for _, key := range lost {
		if _, err := w.store.Stat(t.Context(), key); err != nil {
			t.Errorf("%s is not back: %v", key, err)
		}
	}
	// A key is put back by people: it is told of.
	if c := w.status(s, "a"); c.Strays != 1 || w.events.count(event.CopyAlarm) != 1 {
		t.Errorf("%d strays, %d alarms", c.Strays, w.events.count(event.CopyAlarm))
	}
	must(t, w.store.Create(t.Context(), key, blob.Bytes(whole)))
	w.follow(s, "a")
	if c := w.status(s, "a"); c.Strays != 0 {
		t.Errorf("%d strays", c.Strays)
	}
	w.same(w.store, to)

	// While a person has yet to decide which store is right, nothing comes back or goes.
	snapshot := repo.SnapshotObject(w.backups.Instance, gone)
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Subject: "test", Reason: "test", Since: time.Now()})
		return errors.Join(err, tx.PermitDelete(time.Now(), snapshot))
	}))
	must(t, w.store.Delete(t.Context(), snapshot))
	must(t, w.store.Delete(t.Context(), lost[2]))
	w.follow(s, "a")
	if c := w.status(s, "a"); c.Strays != 1 {
		t.Errorf("%d strays while deletion is paused", c.Strays)
	}
	if _, err := to.Stat(t.Context(), snapshot); err != nil {
		t.Errorf("deleted while deletion is paused: %v", err)
	}
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("me"); return err }))
	w.follow(s, "a") // the pack comes back; the snapshot goes, since it was permitted
	w.same(w.store, to)
	w.clean("the copy", to, 1)
	must(t, s.DropPermits(t.Context()))
	must(t, w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		for p, err := range tx.Permits("") {
			t.Errorf("permit %s is left, %v", p.Object, err)
		}
		return nil
	}))
}

func TestTheNewestRecordOfTheLogIsHealedOnceThereIsAnother(t *testing.T) {
	w := newWorld(t)
	w.backup()
	to := mem.New()
	w.follow(w.service(map[string]blob.Store{"a": to}), "a")
	key := repo.LogObject(w.backups.LogNumber)
	whole := object(t, w.store, key)
	damage(t, w.store, key)
	s := w.service(map[string]blob.Store{"a": to}) // a controller that starts then
	must(t, s.Open(t.Context(), "a"))
	if s.Wanted() != 1 {
		t.Errorf("%d objects wait to be healed", s.Wanted())
	}
	_, err := s.Heal(t.Context(), "", key)
	wantKind(t, "damaged", err, errs.Busy)
	must(t, w.store.Delete(t.Context(), key)) // the catalog vouches for it
	if from, err := s.Heal(t.Context(), "", key); err != nil || from != "a" {
		t.Errorf("missing: from %q, %v", from, err)
	}
	damage(t, w.store, key)
	w.backup()
	if from, err := s.Heal(t.Context(), "", key); err != nil || from != "a" || !bytes.Equal(whole, object(t, w.store, key)) {
		t.Errorf("damaged, with another after it: from %q, %v", from, err)
	}
	w.follow(s, "a")
	w.clean("healed", w.store, 2)
}

func TestTheClaimOfTheReigningEpochIsNotDeleted(t *testing.T) {
	w := newWorld(t)
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	key := repo.EpochObject(2)
	damage(t, w.store, key)
	bad := object(t, w.store, key)
	_, err := s.Heal(t.Context(), "", key)
	wantKind(t, "damaged", err, errs.Conflict)
	if !bytes.Equal(bad, object(t, w.store, key)) {
		t.Error("it was touched")
	}
	must(t, w.store.Delete(t.Context(), key))
	if from, err := s.Heal(t.Context(), "", key); err != nil || from != "a" {
		t.Errorf("missing: from %q, %v", from, err)
	}
	w.same(w.store, to)
}
