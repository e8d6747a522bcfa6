package check_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// world is a small repository with every kind of object in it.
type world struct {
	t       testing.TB
	store   *mem.Store
	repo    *repo.Repository
	domains []*repo.Domain
	backups []*repotest.Backups
	keys    []seal.Unlocker
	// snapshots by number: 0 and 1 of domains[0], 2 of domains[1].
	snapshots []repo.JobID
	head      repo.Witness
	records   []check.KnownSnapshot
	leaving   repo.JobID // purged while a check goes on
	erased    seal.DomainID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld makes one with 18 packs, newWorldOf with as many frames to a pack as
// wanted: 8 in newWorld.
func newWorld(t testing.TB) *world { return newWorldOf(t, 8) }

func newWorldOf(t testing.TB, packFrames int) *world {
	t.Helper()
	w := &world{t: t, store: mem.New()}
	r, first, key := repotest.New(t, w.store)
	w.repo, w.keys = r, []seal.Unlocker{key, seal.NewKeyFile()}
	must(t, r.AddKey(t.Context(), repo.NewID(), w.keys[1]))
	w.domains = []*repo.Domain{first}
	id, err := r.CreateDomain(t.Context())
	must(t, err)
	second, err := r.Domain(t.Context(), id)
	must(t, err)
	w.domains = append(w.domains, second)
	must(t, r.PutCA(t.Context(), "aa01", []byte("root")))
	must(t, r.PutCA(t.Context(), "aa02", []byte("issuer")))
	w.writeLog()
	for _, d := range w.domains {
		b := repotest.NewBackups(t, r, d)
		b.Epoch, b.LogNumber, b.PackFrames = 2, w.head.Number, packFrames
		w.backups = append(w.backups, b)
	}
	w.snapshots = append(w.snapshots, w.backups[0].Backup(
		repotest.Table{Database: "app", Name: "orders", Rows: 400, Seed: "1"}, repotest.Table{Database: "app", Name: "notes", Rows: 10, Seed: "1"},
		repotest.Table{Database: "crm", Name: "people", Rows: 20, Seed: "1"}))
	_, err = first.BumpSealEpoch(t.Context())
	must(t, err)
	w.snapshots = append(w.snapshots, w.backups[0].Backup(
		repotest.Table{Database: "app", Name: "orders", Rows: 400, Seed: "1"}, repotest.Table{Database: "app", Name: "notes", Rows: 10, Seed: "2"}))
	w.snapshots = append(w.snapshots, w.backups[1].Backup(repotest.Table{Database: "web", Name: "hits", Rows: 40, Seed: "1"}))
	marker, err := first.PrepareAbort(w.backups[0].Instance, repo.NewID(), repo.Fence{Epoch: 2, Counter: 9}, repo.Commit{Time: time.Now(), LogNumber: 1})
	must(t, err)
	_, err = first.PutSnapshot(t.Context(), marker)
	must(t, err)
	return w
}

// writeLog writes a log of two epochs with a full record.
func (w *world) writeLog() {
	w.t.Helper()
	for epoch := uint64(1); epoch <= 2; epoch++ {
		_, err := w.repo.ClaimEpoch(w.t.Context())
		must(w.t, err)
		l, err := repo.OpenLog(w.t.Context(), w.repo, epoch)
		must(w.t, err)
		for range 3 {
			w.head, err = l.Append(w.t.Context(), repo.LogSynchronous, []byte("changes"))
			must(w.t, err)
			if w.head.Number == 4 {
				must(w.t, l.PutFull(w.t.Context(), w.head, []byte("all of it")))
			}
		}
	}
}

// options check everything.
func (w *world) options() check.Options {
	return check.Options{Repository: w.repo, Unlockers: w.keys, Dir: w.t.TempDir(), ReadData: true, Sample: check.Whole, Seed: 1, Known: known{w}}
}

func (w *world) check(o check.Options) *check.Report {
	w.t.Helper()
	r, err := check.Run(w.t.Context(), w.store, o)
	must(w.t, err)
	return r
}

// known is what a catalog would know of the world as it was made.
type known struct{ w *world }

func (k known) Head(context.Context) (repo.Witness, error) { return k.w.head, nil }

func (k known) Snapshots(_ context.Context, fn func(check.KnownSnapshot) error) error {
	for _, s := range k.w.recorded() {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

func (k known) Snapshot(_ context.Context, id repo.JobID) (bool, error) {
	return slices.Contains(k.w.snapshots, id), nil
}

func (k known) Leaving(_ context.Context, id repo.JobID) (bool, error) {
	return k.w.leaving == id, nil
}

func (k known) Erased(_ context.Context, id seal.DomainID) (bool, error) {
	return k.w.erased == id, nil
}

func (k known) Unindexed(context.Context, pack.ID) (bool, error) { return false, nil }

// object reads an object's bytes.
func (w *world) object(key string) []byte {
	w.t.Helper()
	r, err := w.store.Open(w.t.Context(), key, 0, -1)
	must(w.t, err)
	b, err := io.ReadAll(r)
	must(w.t, err)
	return b
}

// put replaces an object's bytes; nil removes it.
func (w *world) put(key string, b []byte) {
	w.t.Helper()
	must(w.t, w.store.Delete(w.t.Context(), key))
	if b != nil {
		must(w.t, w.store.Create(w.t.Context(), key, blob.Bytes(bytes.Clone(b))))
	}
}

func (w *world) list(prefix string) []string {
	w.t.Helper()
	var keys []string
	must(w.t, w.store.List(w.t.Context(), prefix, "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
	return keys
}

// finding gives the finding of an object, nil when there is none.
func finding(r *check.Report, object string) *check.Finding {
	for i := range r.Findings {
		if r.Findings[i].Object == object {
			return &r.Findings[i]
		}
	}
	return nil
}

// tables gives what a finding hurts, as "NUMBER database object" of the world's snapshots.
func (w *world) effects(f *check.Finding) []string {
	var out []string
	for _, e := range f.Effects {
		out = append(out, strings.TrimSpace(string(rune('0'+slices.Index(w.snapshots, e.Snapshot)))+" "+e.Database+" "+e.Object))
	}
	slices.Sort(out)
	return out
}
