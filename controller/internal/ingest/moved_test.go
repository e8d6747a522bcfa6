package ingest_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/internal/repo"
)

// An operator joins the instance to a cluster between two attempts of a job: the
// second is given another domain, and the first has left chunks in the old one.
func TestAnAttemptInAnotherDomainTakesNothingOfTheOneBefore(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 10, 1000)
	job := repo.NewID()
	_, _, err := a.store(a.lease(job, 1), chunks...)
	must(t, err)
	cluster, err := w.repo.CreateDomain(t.Context())
	must(t, err)
	a.useDomain(cluster)
	chunks = a.rows(1, 10, 1000)
	sent, _, err := a.backup(job, 2, chunks)
	must(t, err)
	if sent == 0 {
		t.Error("chunks of the old domain were called present")
	}
	assertRestored(t, a, job, chunks)
}
