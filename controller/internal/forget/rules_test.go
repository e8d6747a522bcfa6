package forget_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func (w *world) tryForget(s catalog.Snapshot, allow string) error {
	return w.catalog.Update(w.t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
		wish := w.wish()
		wish.AllowLast = allow
		_, _, err := forget.Forget(tx, s.ID, wish)
		return err
	})
}

// alter changes the record of a snapshot.
func (w *world) alter(s catalog.Snapshot, fn func(*catalog.Snapshot)) {
	w.t.Helper()
	fn(&s)
	w.change(func(tx *catalog.Tx) error { return tx.PutSnapshot(s) })
}

func (w *world) drill(s catalog.Snapshot) {
	w.t.Helper()
	w.change(func(tx *catalog.Tx) error {
		return tx.PutDrill(catalog.Drill{Snapshot: s.ID, Job: repo.NewID(), Verdict: catalog.DrillPassed, Whole: true, Received: time.Now()}, catalog.DrillReport{Statement: []byte("{}")})
	})
}

func TestTheLastOfSomethingIsForgottenOnlyByItsInstancesName(t *testing.T) {
	for name, c := range map[string]struct {
		given func(w *world) catalog.Snapshot
		says  string // empty: it may be forgotten
	}{
		"the only one":         {func(w *world) catalog.Snapshot { return w.snapshot("app") }, "last complete snapshot of database app"},
		"another has the same": {func(w *world) catalog.Snapshot { w.snapshot("app"); return w.snapshot("app") }, ""},
		"another lacks one of its databases": {func(w *world) catalog.Snapshot { w.snapshot("app"); return w.snapshot("app", "shop") },
			"last complete snapshot of database shop"},
		"two others have one database each": {func(w *world) catalog.Snapshot {
			w.snapshot("app")
			w.snapshot("shop")
			return w.snapshot("app", "shop")
		}, ""},
		"the other is forgotten": {func(w *world) catalog.Snapshot {
			o := w.snapshot("app")
			s := w.snapshot("app")
			w.forget(o)
			return s
		}, "last complete"},
		"the other is of an earlier incarnation": {func(w *world) catalog.Snapshot {
			w.alter(w.snapshot("app"), func(o *catalog.Snapshot) { o.Incarnation = 2 })
			return w.snapshot("app")
		}, "last complete"},
		"the other has only a part of it": {func(w *world) catalog.Snapshot {
			w.alter(w.snapshot("app"), func(o *catalog.Snapshot) { o.Contents[0].Complete = false })
			return w.snapshot("app")
		}, "last complete"},
		"it has only a part itself": {func(w *world) catalog.Snapshot {
			s := w.snapshot("app")
			w.alter(s, func(o *catalog.Snapshot) { o.Contents[0].Complete = false })
			return s
		}, ""},
		"its databases are not known": {func(w *world) catalog.Snapshot {
			w.snapshot("app")
			s := w.snapshot("app")
			w.alter(s, func(o *catalog.Snapshot) { o.Contents = nil })
			return s
		}, "does not name"},
		"the only one that was verified": {func(w *world) catalog.Snapshot {
			w.snapshot("app")
			s := w.snapshot("app")
			w.drill(s)
			return s
		}, "last verified snapshot of database app"},
		"another was verified too": {func(w *world) catalog.Snapshot {
			w.drill(w.snapshot("app"))
			s := w.snapshot("app")
			w.drill(s)
			return s
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := c.given(w)
			if c.says == "" {
				must(t, w.tryForget(s, ""))
				return
			}
			for _, allow := range []string{"", "db2/main"} {
				err := w.tryForget(s, allow)
				last, ok := errors.AsType[*forget.LastError](err)
				if !ok || errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), c.says) || last.Snapshot.ID != s.ID {
					t.Errorf("allowed %q: %v, want it to say %q", allow, err, c.says)
				}
			}
			must(t, w.tryForget(s, "db1/main"))
		})
	}
}

func TestOneTransactionThatForgetsAllForgetsNone(t *testing.T) {
	w := newWorld(t)
	a, b := w.snapshot("app"), w.snapshot("app")
	err := w.catalog.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
		if _, news, err := forget.Forget(tx, a.ID, w.wish()); err != nil || !news {
			t.Errorf("the first: %t, %v", news, err)
		}
		_, _, err := forget.Forget(tx, b.ID, w.wish())
		return err
	})
	if errs.KindOf(err) != errs.Conflict {
		t.Errorf("the second: %v", err)
	}
	must(t, w.tryForget(b, "")) // neither was forgotten
}

func TestAHoldIsNeverShortenedAndReleasedOnlyAsAWhole(t *testing.T) {
	w := newWorld(t)
	w.snapshot("app")
	s := w.snapshot("app")
	now := time.Now()
	hold := func(until time.Time, reason string) (news bool, err error) {
		err = w.catalog.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) (err error) {
			wish := w.wish()
			wish.Reason = reason
			_, news, err = forget.Hold(tx, s.ID, until, wish)
			return err
		})
		return news, err
	}
	for _, c := range []struct {
		until  time.Time
		reason string
		news   bool
		kind   *errs.Kind
	}{
		{now.Add(-time.Hour), "past", false, errs.Invalid}, {now.Add(48 * time.Hour), "audit", true, nil}, {now.Add(48 * time.Hour), "audit", false, nil},
		{now.Add(24 * time.Hour), "shorter", false, errs.Conflict}, {now.Add(72 * time.Hour), "longer", true, nil},
	} {
		if news, err := hold(c.until, c.reason); news != c.news || errs.KindOf(err) != c.kind {
			t.Errorf("%s: %t, %v", c.reason, news, err)
		}
	}
	if err := w.tryForget(s, "db1/main"); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "is held until") || !strings.Contains(err.Error(), "longer") {
		t.Errorf("forget a held one: %v", err)
	}
	w.change(func(tx *catalog.Tx) error { _, _, err := forget.Release(tx, s.ID); return err })
	must(t, w.tryForget(s, ""))
}
