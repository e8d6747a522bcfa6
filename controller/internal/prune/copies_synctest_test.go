package prune_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// elsewhere is a store with a place of its own.
type elsewhere struct{ blob.Store }

func (e elsewhere) Features() blob.Features {
	f := e.Store.Features()
	f.Location = "copy"
	return f
}

// sure is a clock that nothing is wrong with.
type sure struct{}

func (sure) Check(context.Context, bool) error { return nil }

// noMarks has no damaged packs.
type noMarks struct{}

func (noMarks) Mark(context.Context, ...check.BadPack) error           { return nil }
func (noMarks) Clear(context.Context, seal.DomainID, ...pack.ID) error { return nil }

// alarms counts events that copies tell people of.
type alarms struct {
	mu  sync.Mutex
	all []event.Event
}

func (a *alarms) Publish(e event.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Kind == event.CopyAlarm {
		a.all = append(a.all, e)
	}
}

func (a *alarms) told() []event.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

func (w *world) keys(s blob.Store) (keys []string) {
	w.t.Helper()
	must(w.t, s.List(w.t.Context(), "", "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
	return keys
}

// A snapshot is forgotten, purged after the delay, and what only it needed is
// pruned: a copy follows each step, only after it, and tells nobody.
func TestACopyFollowsWhatIsForgottenAndPruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		log, err := repo.OpenLog(t.Context(), w.repo, 1)
		must(t, err)
		head, err := log.Append(t.Context(), repo.LogSynchronous, []byte("changes"))
		must(t, err)
		w.update(func(tx *catalog.Tx) error {
			m, err := tx.Meta()
			m.Head = catalog.Witness{Repository: head.Repository, Epoch: head.Epoch, Number: head.Number, Hash: head.Hash}
			return errors.Join(err, tx.PutMeta(m))
		})
		h := w.host()
		h.backup(table("a", "1", 60), table("b", "1", 40))
		h.backup(table("a", "1", 60), table("b", "2", 40))
		h.backup(table("a", "1", 60), table("b", "2", 40), table("c", "3", 20))

		to, told := mem.New(), &alarms{}
		copy := copies.New(copies.Deps{Repository: w.repo, Epoch: 1, Unlockers: []seal.Unlocker{w.key}, Catalog: w.catalog, Trail: trail{}, Events: told, Marks: noMarks{}, Dir: t.TempDir(), Log: zap.NewNop()},
			copies.Options{Name: "a", MaxLag: 24 * time.Hour, Open: func(context.Context) (blob.Store, error) { return elsewhere{to}, nil }})
		const delay = 72 * time.Hour
		purger := forget.NewPurger(forget.Deps{Catalog: w.catalog, Store: w.store, Clock: sure{}, Trail: trail{}, Events: told, Users: &forget.Users{}, Delay: delay, Log: zap.NewNop()})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = copy.Run(ctx) })   // its status says what is wrong
		running.Go(func() { _ = purger.Run(ctx) }) // what it does not do is missed below
		defer running.Wait()
		defer cancel()
		same := func(when string) {
			t.Helper()
			if a, b := w.keys(w.store), w.keys(to); !slices.Equal(a, b) {
				t.Errorf("%s: the copy holds other objects:\n%q\nwant\n%q", when, b, a)
			}
			for what, s := range map[string]blob.Store{"the store": w.store, "the copy": elsewhere{to}} {
				r, err := repo.Open(t.Context(), s, w.key)
				must(t, err)
				report, err := check.Run(t.Context(), s, check.Options{Repository: r, Dir: t.TempDir(), ReadData: true, Sample: check.Whole})
				must(t, err)
				for _, f := range report.Findings {
					if !f.Harmless {
						t.Errorf("%s: %s: %+v", when, what, f)
					}
				}
			}
		}
		time.Sleep(time.Hour)
		same("copied")
		before := w.packs()

		old := w.kept[0]
		w.update(func(tx *catalog.Tx) error {
			_, news, err := forget.Forget(tx, old.id, forget.Wish{By: "operator/ann", Reason: "old", Now: time.Now(), Delay: delay})
			if !news {
				t.Error("it was not forgotten")
			}
			return err
		})
		w.kept = w.kept[1:]
		time.Sleep(delay - time.Hour)
		same("forgotten")
		if n := len(w.keys(to)); n == 0 || !slices.Contains(w.keys(to), repo.SnapshotObject(old.instance, old.id)) {
			t.Errorf("the copy has lost what is only forgotten: %d objects", n)
		}
		time.Sleep(2 * time.Hour)
		same("purged")
		if slices.Contains(w.keys(to), repo.SnapshotObject(old.instance, old.id)) {
			t.Error("the copy holds a purged snapshot")
		}
		if o := w.outcome(w.prune(prune.Spec{})); o.DeadPacks+o.RepackPacks == 0 {
			t.Fatalf("nothing to prune: %+v", o)
		}
		time.Sleep(time.Hour)
		same("condemned")
		if len(w.packs()) != len(before) {
			t.Errorf("%d packs were there, %d are", len(before), len(w.packs()))
		}
		time.Sleep(day)
		same("pruned")
		w.sound("pruned")
		gone := 0
		for _, id := range before {
			key := repo.PackObject(w.domain.ID(), id)
			if there := slices.Contains(w.keys(to), key); there != slices.Contains(w.packs(), id) {
				t.Errorf("pack %s: in the copy %v", id.Short(), there)
			} else if !there {
				gone++
			}
		}
		if gone == 0 {
			t.Error("no pack has gone")
		}
		c := copy.Status()[0]
		if len(told.told()) != 0 || c.Strays != 0 || c.LeftOut != 0 || c.Objects != 0 || c.Problem != "" {
			t.Errorf("alarms %+v, status %+v", told.told(), c)
		}
		must(t, w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			open, err := tx.OpenPauses()
			for p, err := range tx.Permits("") {
				must(t, err)
				t.Errorf("a permit that the copy has followed is left: %s", p.Object)
			}
			if len(open) != 0 {
				t.Errorf("pauses: %+v", open)
			}
			return err
		}))
	})
}
