package ingest_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestTheIndexIsACache(t *testing.T) {
	for name, harm := range map[string]func(w *world){
		"deleted": func(w *world) { must(w.t, os.RemoveAll(filepath.Join(w.dir, "index"))) },
		"deleted with the store's index files": func(w *world) {
			must(w.t, os.RemoveAll(filepath.Join(w.dir, "index")))
			must(w.t, deleteAll(w, repo.IndexesPrefix))
		},
		"damaged": func(w *world) {
			for _, f := range indexFiles(w) {
				must(w.t, os.Truncate(f, 100))
			}
		},
		"half deleted": func(w *world) { must(w.t, os.Remove(indexFiles(w)[0])) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			a := w.agent()
			chunks := a.rows(1, 20, 1000)
			job := repo.NewID()
			_, _, err := a.backup(job, 1, chunks)
			must(t, err)
			w.stop()
			harm(w)
			w.start()
			a.client = nil
			assertRestored(t, a, job, chunks)
			sent, _, err := a.backup(repo.NewID(), 2, chunks)
			must(t, err)
			if sent != 0 {
				t.Fatalf("%d chunks were sent again", sent)
			}
		})
	}
}

func indexFiles(w *world) []string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "index", w.domain.String(), "*.index"))
	must(w.t, err)
	if len(files) == 0 {
		w.t.Fatal("there are no index files to harm")
	}
	return files
}

func deleteAll(w *world, prefix string) error {
	var keys []string
	if err := w.store.List(w.t.Context(), prefix, "", func(i blob.Info) error {
		keys = append(keys, i.Key)
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := w.store.Delete(w.t.Context(), k); err != nil {
			return err
		}
	}
	return nil
}

func TestADamagedChunkIsNamedWithItsPack(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	job := repo.NewID()
	_, _, err := a.backup(job, 1, chunks)
	must(t, err)
	id := w.damage(chunks[7])
	_, err = a.restore(job, a.instance)
	if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), "of list") {
		t.Fatalf("got %v, want one that names pack %s and the position", err, id)
	}

	// A second copy in another pack is used instead.
	u, err := a.begin(a.lease(repo.NewID(), 2))
	must(t, err)
	must(t, u.put(chunks[7]))
	must(t, u.flush())
	must(t, u.end())
	w.restart()
	a.client = nil
	assertRestored(t, a, job, chunks)
}

// damage flips a byte of the chunk's frame in the one pack it is in.
func (w *world) damage(c chunkFrame) pack.ID {
	w.t.Helper()
	for _, p := range w.catalog.Packs(func(p ingest.PackRecord) bool { return true }) {
		key := repo.PackObject(p.Domain, p.ID)
		dir, err := pack.ReadDirectory(w.t.Context(), opener(w.store, key), p.Size, p.ID)
		must(w.t, err)
		if e, ok := dir.Find(c.name); ok {
			must(w.t, w.store.Damage(w.t.Context(), key, e.Offset+int64(e.Length)-1, []byte{^c.frame[len(c.frame)-1]}))
			return p.ID
		}
	}
	w.t.Fatal("the chunk is in no pack")
	return pack.ID{}
}

func TestTheSmallLastPacksOfAJobBecomeOne(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	ref := a.lease(repo.NewID(), 1)
	var uploads []*upload
	for range 4 {
		u, err := a.begin(ref)
		must(t, err)
		uploads = append(uploads, u)
	}
	for i, u := range uploads {
		must(t, u.put(a.rows(i, 5, 1000)...))
	}
	var wg sync.WaitGroup
	failed := make([]error, len(uploads))
	for i, u := range uploads {
		wg.Go(func() { failed[i] = u.flush() })
	}
	wg.Wait()
	must(t, errors.Join(failed...))
	if n := w.store.Creates("packs"); n != 1 {
		t.Fatalf("%d packs, want one for all four streams", n)
	}
	for _, u := range uploads {
		must(t, u.end())
	}
	again, err := a.begin(ref)
	must(t, err)
	for i := range 4 {
		missing, err := again.missing(a.rows(i, 5, 1000)...)
		must(t, err)
		if len(missing) != 0 {
			t.Fatalf("%d chunks of stream %d are missing", len(missing), i)
		}
	}
	must(t, again.end())
}

func TestACommitMayBeRepeatedAndOnlyOneAttemptWins(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 10, 1000)
	job := repo.NewID()
	ref := a.lease(job, 1)
	m := a.manifest(job, chunks)
	_, _, err := a.store(ref, append(append([]chunkFrame{a.archive()}, chunks...), m.lists...)...)
	must(t, err)
	must(t, a.commit(ref, m))
	must(t, a.commit(ref, m)) // the answer got lost
	if n := w.store.Creates("snapshots"); n != 1 {
		t.Fatalf("%d snapshot objects", n)
	}
	// A later attempt of the same job finds that the first one won.
	later := a.lease(job, 2)
	if err := a.commit(later, a.manifest(job, chunks)); !errors.Is(err, errs.Conflict) {
		t.Fatalf("got %v", err)
	}
	if snap, _ := w.catalog.Snapshot(job); snap.Fence.Counter != 1 {
		t.Fatalf("recorded as made by %s", snap.Fence)
	}
	if left, _ := w.catalog.Unfinished(t.Context()); len(left) != 0 {
		t.Fatalf("%d commits are left unfinished", len(left))
	}
}

func TestACommitThatIsNotCompleteIsNotCalledSo(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 3, 1000)
	job := repo.NewID()
	ref := a.lease(job, 1)
	m := a.manifest(job, chunks)
	_, _, err := a.store(ref, append(append([]chunkFrame{a.archive()}, chunks...), m.lists...)...)
	must(t, err)
	content, err := repo.OpenContent(m.content, a.grant.Seal[m.epoch], a.domain, job)
	must(t, err)
	content.Logical.Databases[0].State = repo.DatabasePartial
	a.seal(m, content)
	if err := a.commit(ref, m); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `"app"`) {
		t.Fatalf("got %v", err)
	}
	m.complete = false
	must(t, a.commit(ref, m))
	if snap, _ := w.catalog.Snapshot(job); snap.Complete {
		t.Fatal("recorded as complete")
	}
}

func opener(s blob.Store, key string) pack.OpenFunc {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return s.Open(ctx, key, off, n) }
}
