package ingest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Damage in the store concerns those whose data it is: the others must not be
// without a controller for it.
func TestDamagedObjectsDoNotKeepTheControllerFromStarting(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 10, 1000)
	good := repo.NewID()
	_, _, err := a.backup(good, 1, chunks)
	must(t, err)
	w.stop()

	// A commit whose object is garbage, and a pack of a domain whose keys are gone.
	job, lost := repo.NewID(), seal.DomainID(repo.NewID())
	ref := a.lease(job, 2)
	must(t, w.catalog.Committing(t.Context(), ingest.Committing{Job: job, Fence: repo.Fence{Epoch: 1, Counter: 2}, Instance: a.instance, Domain: w.domain}))
	must(t, w.store.Create(t.Context(), repo.SnapshotObject(a.instance, job), blob.Bytes("garbage")))
	must(t, w.catalog.PackIntent(t.Context(), ingest.PackIntent{ID: pack.ID{1}, Domain: lost, Job: job, Fence: repo.Fence{Epoch: 1, Counter: 2}, Created: time.Now()}))
	must(t, w.catalog.PackStored(t.Context(), job, pack.ID{1}))
	_ = ref

	w.start()
	a.client = nil
	assertRestored(t, a, good, chunks)
	if open, _ := w.catalog.Unfinished(t.Context()); len(open) != 1 {
		t.Errorf("%d commits are undecided, want the one whose object cannot be believed", len(open))
	}
}

func TestALocalIndexThatRottedIsMadeAgainWhileItServes(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 10, 1000)
	good := repo.NewID()
	_, _, err := a.backup(good, 1, chunks)
	must(t, err)
	w.stop()
	folder := filepath.Join(w.dir, "index", w.domain.String())
	found, err := filepath.Glob(filepath.Join(folder, "*.index"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("index files: %v", found)
	}
	b, err := os.ReadFile(found[0])
	must(t, err)
	for i := 64; i < len(b)-32; i++ { // all but the ends, which opening looks at
		b[i] = 0
	}
	must(t, os.WriteFile(found[0], b, 0o600))

	w.start()
	a.client = nil
	w.server.VerifyIndexes(t.Context()) // nothing is open yet
	if _, _, err := a.backup(repo.NewID(), 2, chunks); err != nil {
		t.Errorf("backup with an index that has rotted: %v", err)
	}
	w.server.VerifyIndexes(t.Context())
	again, err := os.ReadFile(found[0])
	if err == nil && bytes.Equal(again, b) {
		t.Error("the damaged file is still there")
	}
	if _, err := os.Stat(filepath.Join(folder, "complete")); err != nil {
		t.Error(err)
	}
	assertRestored(t, a, good, chunks)
}
