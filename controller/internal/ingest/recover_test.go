package ingest_test

import (
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
