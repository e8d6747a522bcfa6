package prune_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// change changes the record of a kept snapshot.
func (w *world) change(k kept, fn func(*catalog.Snapshot)) {
	w.t.Helper()
	w.update(func(tx *catalog.Tx) error {
		s, err := tx.Snapshot(k.id)
		if err != nil {
			return err
		}
		fn(&s)
		return tx.PutSnapshot(s)
	})
}

// permitted tells whether copies may delete a pack.
func (w *world) permitted(id pack.ID) (ok bool) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) (err error) {
		ok, err = tx.Permitted(repo.PackObject(w.domain.ID(), id))
		return err
	}))
	return ok
}

// A snapshot that is purged keeps nothing, though the store does not let its
// object go; one that is only forgotten, or held, keeps everything.
func TestAPurgedSnapshotKeepsNothingAndCopiesMayFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		h := w.host()
		h.backup(table("a", "1", 40))
		h.backup(table("b", "1", 40))
		going := w.kept[0]
		w.change(going, func(s *catalog.Snapshot) {
			s.Forgotten = catalog.Forgotten{Time: time.Now(), By: "operator/ann", Reason: "old", PurgeAfter: time.Now()}
			s.Hold = catalog.Hold{Until: time.Now().Add(time.Hour), By: "operator/ann", Reason: "audit", Time: time.Now()}
		})
		if o := w.outcome(w.prune(prune.Spec{Domains: domains(w)})); o.DeadPacks+o.RepackPacks != 0 {
			t.Fatalf("it is forgotten and held: %+v", o)
		}
		time.Sleep(2 * time.Hour)
		if o := w.outcome(w.prune(prune.Spec{Domains: domains(w)})); o.DeadPacks+o.RepackPacks != 0 {
			t.Fatalf("it is forgotten: %+v", o)
		}
		before := w.packs()
		w.change(going, func(s *catalog.Snapshot) { s.Purged = time.Now() })
		w.kept = w.kept[1:]
		if o := w.outcome(w.prune(prune.Spec{Domains: domains(w)})); o.DeadPacks == 0 || o.WaitingPacks == 0 {
			t.Fatalf("it is purged: %+v", o)
		}
		for _, id := range before {
			if w.permitted(id) {
				t.Errorf("copies may delete pack %s, which is condemned", id.Short())
			}
		}
		time.Sleep(day)
		synctest.Wait()
		left := w.packs()
		if len(left) == 0 || len(left) >= len(before) {
			t.Errorf("%d packs were there, %d are", len(before), len(left))
		}
		for _, id := range before {
			if there := slices.Contains(left, id); w.permitted(id) == there {
				t.Errorf("pack %s: is there %v, copies may delete it %v", id.Short(), there, !there)
			}
		}
		// It is still listed by the store: what it needs is missed by nobody.
		_, err := w.store.Stat(t.Context(), repo.SnapshotObject(going.instance, going.id))
		must(t, err)
		r, err := check.Run(t.Context(), w.store, check.Options{Repository: w.repo, Dir: t.TempDir(), ReadData: true, Sample: check.Whole, Known: scrub.NewKnown(w.catalog)})
		must(t, err)
		for _, f := range r.Findings {
			if !f.Harmless {
				t.Errorf("%+v", f)
			}
		}
		must(t, w.store.Store.Delete(t.Context(), repo.SnapshotObject(going.instance, going.id)))
		w.sound("pruned")
	})
}

// erase does what the record of an erasure does, and destroys the keys.
func (w *world) erase() {
	w.t.Helper()
	id := w.domain.ID()
	w.update(func(tx *catalog.Tx) error {
		err := errors.Join(tx.PutErasure(catalog.Erasure{Domain: id, Began: time.Now(), By: "operator/ann"}), tx.DropPruning(id))
		for _, k := range w.kept {
			err = errors.Join(err, tx.DeleteSnapshot(k.id))
		}
		return err
	})
	_, err := w.repo.DestroyDomain(w.t.Context(), id)
	must(w.t, errors.Join(err, w.ingest.Forget(id)))
}

func TestAPruneInADomainThatIsErasedEndsAndLeavesNoProblem(t *testing.T) {
	// It is erased right before the n-th change that prunes make, until they make no
	// more.
	for n, more := 1, true; more; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			defer w.stop()
			h := w.host()
			h.backup(table("a", "1", 40), table("b", "1", 24))
			h.backup(table("a", "1", 40), table("b", "2", 24))
			w.forget(0)
			changes := 0
			w.records.before = func() {
				if changes++; changes == n {
					w.erase()
				}
			}
			run := w.prune(prune.Spec{})
			time.Sleep(day) // the background goes on with it meanwhile
			synctest.Wait()
			if more = changes >= n; !more && n < 6 {
				t.Errorf("only %d changes", changes)
			}
			last, err := w.runner.Last(t.Context())
			must(t, err)
			for _, o := range slices.Concat(run.Outcomes, last.Outcomes) {
				if o.Problem != "" {
					t.Errorf("before change %d: %s", n, o.Problem)
				}
			}
			if !more {
				return
			}
			w.healthy("in the same process")
			w.restart()
			w.healthy("in the next one")
			must(t, w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
				prunes, err := tx.Prunes()
				needs, needErr := tx.PruneNeeds()
				if len(prunes)+len(needs) > 0 {
					t.Errorf("before change %d: %d prunes and %d needs are left", n, len(prunes), len(needs))
				}
				return errors.Join(err, needErr)
			}))
		})
	}
}

func (w *world) healthy(when string) {
	w.t.Helper()
	h, err := w.runner.Health(w.t.Context())
	if err != nil || h != (prune.Health{}) {
		w.t.Errorf("%s: %+v, %v", when, h, err)
	}
}

// A problem that a domain had is none once the domain is erased.
func TestWhatKeptADomainFromBeingPrunedIsForgottenWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		h := w.host()
		h.backup(table("a", "1", 40))
		must(t, w.store.Store.Delete(t.Context(), repo.SnapshotObject(w.kept[0].instance, w.kept[0].id)))
		run, err := w.tryPrune(prune.Spec{Domains: domains(w)})
		must(t, err)
		if len(run.Outcomes) != 1 || !strings.Contains(run.Outcomes[0].Problem, errs.Corrupt.Error()) {
			t.Fatalf("%+v", run)
		}
		if h, err := w.runner.Health(t.Context()); err != nil || h.Problem == "" {
			t.Errorf("%+v, %v", h, err)
		}
		w.erase()
		w.healthy("erased")
		w.restart()
		w.healthy("after a restart")
	})
}
