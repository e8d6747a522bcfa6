package ingest_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// soundPacks fails the test when something is wrong with packs, lists or index
// files. The world has no log.
func (w *world) soundPacks() {
	w.t.Helper()
	for _, f := range w.inspect().Findings {
		if f.Kind != "catalog" && f.Kind != "epochs" {
			w.t.Fatalf("%+v", f)
		}
	}
}

// allPacks are those that the journal knows.
func (w *world) allPacks() (out []pack.ID) {
	for _, p := range w.catalog.Packs(func(ingest.PackRecord) bool { return true }) {
		out = append(out, p.ID)
	}
	return out
}

func TestWhatIsCondemnedIsNotStoredAndStillRead(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	old := repo.NewID()
	_, _, err := a.backup(old, 1, chunks)
	must(t, err)
	// Two jobs are told that all is stored.
	waited, other := repo.NewID(), repo.NewID()
	told := func(job repo.JobID, counter uint64) func() error {
		ref := a.lease(job, counter)
		m := a.manifest(job, chunks)
		sent, _, err := a.store(ref, append(append([]chunkFrame{a.archive()}, chunks...), m.lists...)...)
		if must(t, err); sent != 0 {
			t.Fatalf("%d chunks were sent again", sent)
		}
		return func() error { return a.commit(ref, m) }
	}
	commitWaited, commitOther := told(waited, 2), told(other, 3)
	packs := w.allPacks()
	decide := w.server.Condemn(w.domain, packs)
	decide([]repo.JobID{waited})
	w.server.Trust(w.domain, packs...) // a scrub has found them whole: that is no pardon
	w.server.Distrust(check.BadPack{Domain: w.domain, Pack: packs[0], Whole: true})
	w.server.Trust(w.domain, packs[0])

	assertRestored(t, a, old, chunks)
	if err := commitOther(); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a job that nobody waits for: %v", err)
	}
	must(t, commitWaited())
	sent, _, err := a.backup(repo.NewID(), 4, chunks)
	if must(t, err); sent < len(chunks) {
		t.Errorf("%d chunks were sent, all are condemned", sent)
	}
	// Whose copies are elsewhere now counts again, for the other job too.
	must(t, commitOther())
	w.server.Pardon(w.domain, packs)
	if sent, _, err = a.backup(repo.NewID(), 5, chunks); err != nil || sent != 0 {
		t.Errorf("%d chunks sent, %v", sent, err)
	}
}

// opened calls act when a pack is opened for the nth time.
type opened struct {
	blob.Store
	mu  sync.Mutex
	n   int
	at  int
	act func()
}

func (s *opened) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	s.mu.Lock()
	due := false
	if strings.HasPrefix(key, repo.PacksPrefix) {
		s.n++
		due = s.n == s.at && s.act != nil
	}
	s.mu.Unlock()
	if due {
		s.act()
	}
	return s.Store.Open(ctx, key, off, n)
}

// pruned does with packs what the last steps of a prune do, all of it being needed.
func (w *world) pruned(packs []pack.ID) {
	w.t.Helper()
	ctx := w.t.Context()
	use, err := check.Uses(ctx, check.UseOptions{Repository: w.repo, Domain: w.domain, Dir: filepath.Join(w.dir, "use"), Standing: func(*check.PackUse) check.Standing { return check.Condemned },
		Snapshots: func(_ context.Context, fn func(repo.InstanceID, repo.JobID) error) error {
			return w.repo.ListSnapshots(ctx, repo.InstanceID{}, func(s repo.SnapshotInfo) error { return fn(s.Header.Instance, s.Header.Job) })
		}})
	must(w.t, err)
	bytes, err := w.server.CopyFrames(ctx, ingest.Copying{Domain: w.domain, Prune: repo.NewID(), Each: use.EachCopy})
	if must(w.t, err); bytes != use.CopyBytes || bytes == 0 {
		w.t.Errorf("%d bytes copied, want %d", bytes, use.CopyBytes)
	}
	must(w.t, use.Close())
	must(w.t, w.server.ReplaceIndexes(ctx, w.domain, packs, func(context.Context, pack.ID) (bool, error) { return false, nil }))
	for _, id := range packs {
		must(w.t, w.store.Delete(ctx, repo.PackObject(w.domain, id)))
	}
	must(w.t, w.server.DropPacks(ctx, w.domain, packs))
}

// TestARestoreGoesOnWhenItsPacksArePrunedUnderIt prunes at each reading of a pack.
func TestARestoreGoesOnWhenItsPacksArePrunedUnderIt(t *testing.T) {
	for at, more := 1, true; more; at += 3 {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := a.rows(1, 20, 1000)
		job := repo.NewID()
		_, _, err := a.backup(job, 1, chunks)
		must(t, err)
		must(t, w.server.EndJob(t.Context(), job))
		packs := w.allPacks()
		s := &opened{Store: w.store.Store, at: at}
		s.act = func() { w.pruned(packs) }
		w.store.Store = s
		assertRestored(t, a, job, chunks)
		s.mu.Lock()
		more = s.n >= at
		s.mu.Unlock()
		for _, id := range packs {
			if has, err := w.server.HasPack(t.Context(), w.domain, id); err != nil || has == more {
				t.Errorf("at %d: has a pack that is gone: %v, %v", at, has, err)
			}
		}
		w.soundPacks()
		w.restart()
		a.client = nil
		assertRestored(t, a, job, chunks)
		w.stop()
	}
}

// TestIndexFilesAreReplacedAndDamagedOnesMadeAgain also finds many small ones and
// makes one of them.
func TestIndexFilesAreReplacedAndDamagedOnesMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	for n := range 12 {
		job := repo.NewID()
		_, _, err := a.backup(job, uint64(n+1), a.rows(n, 3, 1000))
		must(t, err)
		must(t, w.server.EndJob(t.Context(), job))
	}
	list := func() (keys []string) {
		must(t, w.store.List(t.Context(), repo.IndexPrefix(w.domain), "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
		return keys
	}
	if len(list()) != 12 {
		t.Fatalf("%d index files", len(list()))
	}
	must(t, w.store.Damage(t.Context(), list()[3], 70, []byte{1, 2, 3}))
	none := func(context.Context, pack.ID) (bool, error) { return false, nil }
	for range 2 { // again changes nothing
		must(t, w.server.ReplaceIndexes(t.Context(), w.domain, nil, none))
		if keys := list(); len(keys) != 1 {
			t.Fatalf("%d index files: %q", len(keys), keys)
		}
		w.soundPacks()
	}
}
