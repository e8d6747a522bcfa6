package copies_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestACopyIsTheSameRepository(t *testing.T) {
	w := newWorld(t)
	w.backup()
	w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	w.same(w.store, to)
	w.clean("the copy", to, 2)

	// What comes later follows: packs, snapshots, keys, generations, epochs, log and
	// full records.
	must(t, w.repo.AddKey(t.Context(), repo.NewID(), w.key))
	_, err := w.domain.BumpSealEpoch(t.Context())
	must(t, err)
	w.backup()
	w.full()
	w.follow(s, "a")
	w.full() // again, of a number whose record was copied
	w.backup()
	w.follow(s, "a")
	w.same(w.store, to)
	w.clean("the copy", to, 4)

	// Another process goes on with the same copy.
	w.backup()
	again := w.service(map[string]blob.Store{"a": to})
	w.follow(again, "a")
	w.same(w.store, to)
	c := w.status(again, "a")
	if c.Objects != 0 || c.Strays != 0 || c.LeftOut != 0 || c.Problem != "" || c.Complete.IsZero() || c.Location != "a" || c.Lag != 0 {
		t.Errorf("status %+v", c)
	}
}

// Whatever moment the copying ends at, the copy is a clean repository in which
// every snapshot that it lists is whole, and the next run finishes it.
func TestEveryCutLeavesACleanCopy(t *testing.T) {
	w := newWorld(t)
	first := mem.New()
	w.backup()
	w.backup()
	w.follow(w.service(map[string]blob.Store{"a": first}), "a")
	w.backup()
	w.full()
	w.backup()
	for what, start := range map[string]*mem.Store{"empty": nil, "a copy that is behind": first} {
		steps := 0
		for n := 0; ; n++ {
			to := mem.New()
			if start != nil {
				for _, key := range keys(t, start, "") {
					must(t, to.Create(t.Context(), key, blob.Bytes(object(t, start, key))))
				}
			}
			faulty := blobtest.NewFaulty(to)
			faulty.StopAfter(n)
			if start == nil { // a new copy of a name that was one is refused
				must(t, w.catalog.Update(t.Context(), 0, deleteCopy("a")))
			}
			s := w.service(map[string]blob.Store{"a": faulty})
			var err error
			for again := true; again && err == nil; {
				again, err = s.Round(t.Context(), "a")
			}
			if err == nil {
				steps = n
				w.same(w.store, to)
				break
			}
			w.cleanCut(fmt.Sprintf("%s, stopped after %d steps", what, n), to, start == nil)
			w.follow(w.service(map[string]blob.Store{"a": to}), "a")
			if n%5 == 0 {
				w.same(w.store, to)
			}
		}
		t.Logf("%s: %d steps", what, steps)
		if steps < 10 {
			t.Errorf("%s: only %d steps", what, steps)
		}
	}
}

// cleanCut looks at a copy that is not finished. One that was just begun has no
// key yet; the log of a new one begins with the newest full record, before which
// everything that it speaks of must be there.
func (w *world) cleanCut(what string, to blob.Store, fresh bool) {
	w.t.Helper()
	_, err := repo.Open(w.t.Context(), to, w.key)
	if fresh && (errors.Is(err, errs.NotFound) || errors.Is(err, errs.Conflict)) {
		if n := len(keys(w.t, to, "")); n > 1 {
			w.t.Errorf("%s: %d objects without a key: %v", what, n, err)
		}
		return
	}
	findings, snapshots := w.verify(to)
	for _, key := range keys(w.t, to, repo.CatalogPrefix) {
		rec, err := w.repo.OpenLogRecord(key, object(w.t, to, key))
		must(w.t, err)
		var spokenOf int
		if _, err := fmt.Sscanf(string(rec.Payload), "after %d snapshots", &spokenOf); err != nil || spokenOf > snapshots {
			w.t.Errorf("%s: %s speaks of %d snapshots, %d are there, %v", what, key, spokenOf, snapshots, err)
		}
	}
	if fresh && len(keys(w.t, to, repo.CatalogPrefix)) == 0 {
		findings = slices.DeleteFunc(findings, func(f check.Finding) bool { return f.Kind == "catalog" && f.Problem == check.Missing })
	}
	if len(findings) > 0 {
		w.t.Errorf("%s: %+v", what, findings)
	}
}

func TestAStoreThatIsNoCopyIsRefused(t *testing.T) {
	w := newWorld(t)
	w.backup()
	other := newWorld(t)
	foreign := mem.New()
	must(t, foreign.Create(t.Context(), "something", blob.Bytes("of somebody")))
	taken := mem.New()
	w.follow(w.service(map[string]blob.Store{"a": taken}), "a")
	must(t, taken.Create(t.Context(), repo.EpochObject(3), blob.Bytes("of a controller that was rebuilt from the copy")))
	for what, c := range map[string]struct {
		store blob.Store
		kind  *errs.Kind
		says  string
	}{
		"another repository":        {other.store, errs.Conflict, "not a copy of"},
		"somebody's files":          {foreign, errs.Exists, "holds no repository"},
		"the store itself":          {w.store, errs.Invalid, "own store"},
		"a copy that somebody took": {taken, errs.Conflict, "of its own"},
		"a copy that is empty now":  {mem.New(), errs.Conflict, "is empty now"},
	} {
		s := w.service(map[string]blob.Store{"a": c.store})
		if what == "the store itself" {
			s = w.ownAsCopy()
		}
		before := keys(t, c.store, "")
		_, err := s.Round(t.Context(), "a")
		wantKind(t, what, err, c.kind)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		if after := keys(t, c.store, ""); !slices.Equal(before, after) {
			t.Errorf("%s: was written to: %q", what, after)
		}
	}
	if n := w.events.count(event.CopyAlarm); n != 5 {
		t.Errorf("%d alarms, want 5", n)
	}
}

func TestADamagedObjectIsNotCopied(t *testing.T) {
	w := newWorld(t)
	w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	w.backup()
	w.backup()
	var hurt []string
	for _, prefix := range []string{repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix, repo.DomainsPrefix, repo.CAPrefix, repo.EpochsPrefix} {
		for _, key := range keys(t, w.store, prefix) {
			if _, err := to.Stat(t.Context(), key); errors.Is(err, errs.NotFound) {
				damage(t, w.store, key)
				hurt = append(hurt, key)
				break
			}
		}
	}
	if len(hurt) != 3 {
		t.Fatalf("damaged %q", hurt)
	}
	w.follow(s, "a")
	for _, key := range hurt {
		if _, err := to.Stat(t.Context(), key); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s was copied, or %v", key, err)
		}
	}
	c := w.status(s, "a")
	if c.LeftOut != 3 || w.marks.count() != 1 || w.events.count(event.CopyAlarm) != 1 {
		t.Errorf("%d left out, %d packs marked, %d alarms", c.LeftOut, w.marks.count(), w.events.count(event.CopyAlarm))
	}
	if s.Wanted() < 3 {
		t.Errorf("%d objects wait for a good one", s.Wanted())
	}
}

// What goes from the store while a round is under way ends the round before
// anything is copied that may need what took its place.
func TestARoundEndsWhereTheStoreHasMoved(t *testing.T) {
	w := newWorld(t)
	w.backup()
	for _, prefix := range []string{repo.PacksPrefix, repo.IndexesPrefix} {
		to := mem.New()
		own := blobtest.NewFaulty(w.store)
		own.Plan(blobtest.Fault{Op: blob.OpStat, Prefix: prefix, Nth: 1, Effect: blobtest.Fail, Err: errs.NotFound})
		must(t, w.catalog.Update(t.Context(), 0, deleteCopy("a")))
		s := w.over(own, to)
		again, err := s.Round(t.Context(), "a")
		if !again || err != nil {
			t.Errorf("%s moved: %v, %v", prefix, again, err)
		}
		if n := len(keys(t, to, repo.SnapshotsPrefix)) + len(keys(t, to, repo.CatalogPrefix)); n != 0 {
			t.Errorf("%s moved: %d snapshots and log records were copied", prefix, n)
		}
		own.Verify(t)
		w.follow(s, "a")
		w.same(w.store, to)
	}
}

// A copy whose store loses a put without a word, or gives no answer to one, has
// nothing that refers to what is not there.
func TestAPutThatVanishesHoldsUpWhatNeedsIt(t *testing.T) {
	w := newWorld(t)
	w.backup()
	for _, prefix := range []string{repo.KeysPrefix, repo.DomainsPrefix, repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix, repo.CatalogPrefix} {
		for _, effect := range []blobtest.Effect{blobtest.Vanish, blobtest.Ambiguous, blobtest.Fail} {
			to := mem.New()
			faulty := blobtest.NewFaulty(to)
			faulty.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: effect})
			must(t, w.catalog.Update(t.Context(), 0, deleteCopy("a")))
			s := w.service(map[string]blob.Store{"a": faulty})
			_, err := s.Round(t.Context(), "a")
			wantKind(t, prefix, err, errs.Unavailable)
			w.cleanCut(fmt.Sprintf("%s, effect %d", prefix, effect), to, true)
			faulty.Verify(t)
			w.follow(s, "a")
			w.same(w.store, to)
		}
	}
}
