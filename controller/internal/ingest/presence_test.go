package ingest_test

import (
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// What is missing is told of each chunk, and the stream goes on afterwards.
func TestMissingChunksAreToldWithoutReadingAny(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	first, second := a.rows(1, 5, 1000), a.rows(2, 5, 1000)
	_, _, err := a.backup(repo.NewID(), 1, first)
	must(t, err)
	known := w.catalog.Packs(func(ingest.PackRecord) bool { return true })
	job := repo.NewID()
	_, _, err = a.backup(job, 2, append(slices.Clone(first), second...)) // its first chunks are in the pack of before
	must(t, err)

	d, err := a.download(a.leaseRestore(job, a.instance), false)
	must(t, err)
	defer d.cancel()
	if missing := d.missing(t, 11); len(missing) != 0 {
		t.Errorf("nothing is gone, missing: %v", missing)
	}
	for _, p := range known {
		must(t, w.store.Delete(t.Context(), repo.PackObject(a.domain, p.ID)))
	}
	again, err := a.download(a.leaseRestore(job, a.instance), false) // which asks anew
	must(t, err)
	defer again.cancel()
	missing := again.missing(t, 11)
	if len(missing) != 6 { // the archive and five chunks
		t.Errorf("missing: %v", missing)
	}
	var there uint32
	for slices.Contains(missing, there) {
		there++
	}
	frames, err := again.ask(&tuskvaultv1.DownloadRange{First: there, Count: 1}, 1)
	if err != nil || len(frames) != 1 {
		t.Errorf("a chunk that is there: %v", err)
	}
}

// missing asks which of the first list's entries are gone.
func (d *download) missing(t *testing.T, count uint32) []uint32 {
	t.Helper()
	d.sequence++
	must(t, d.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Range{
		Range: &tuskvaultv1.DownloadRange{Sequence: d.sequence, Count: count, Presence: true}}}))
	m, err := d.rpc.Recv()
	must(t, err)
	if m.GetFrames().GetSequence() != d.sequence || len(m.GetFrames().GetFrames()) != 0 {
		t.Fatalf("answer %v", m)
	}
	return m.GetFrames().GetMissing()
}
