package ingest_test

import (
	"bytes"
	"testing"

	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestABackupIsStoredCommittedAndReadBack(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 200, 20_000)
	job := repo.NewID()
	sent, _, err := a.backup(job, 1, chunks)
	must(t, err)
	if sent < 201 {
		t.Fatalf("%d chunks sent, want at least 201", sent)
	}
	snap, ok := w.catalog.Snapshot(job)
	if !ok || snap.Chunks != 201 || snap.Rows != 200 || snap.StoredBytes == 0 || !snap.Complete ||
		len(snap.Databases) != 1 || snap.Databases[0].Name != "app" || snap.SystemIdentifier != 42 || snap.Agent != a.id {
		t.Fatalf("snapshot recorded as %+v", snap)
	}
	assertRestored(t, a, job, chunks)

	// The next backup of the same rows sends nothing, also after a restart.
	w.restart()
	a.client = nil
	next := repo.NewID()
	sent, _, err = a.backup(next, 2, chunks)
	must(t, err)
	if sent != 0 {
		t.Fatalf("the second backup sent %d chunks", sent)
	}
	assertRestored(t, a, next, chunks)
}

// assertRestored downloads a snapshot and compares it with its source.
func assertRestored(t *testing.T, a *agent, job repo.JobID, chunks []chunkFrame) {
	t.Helper()
	got, err := a.restore(job, a.instance)
	must(t, err)
	want := map[string]int{"PGDMP schema": 1}
	for _, c := range chunks {
		want[string(c.plain)]++
	}
	for _, p := range got {
		want[string(p)]--
	}
	for p, n := range want {
		if n != 0 {
			t.Fatalf("chunk %q came %d times too few", bytes.TrimSpace([]byte(p))[:20], n)
		}
	}
	if len(got) != len(chunks)+1 {
		t.Fatalf("%d chunks restored, want %d", len(got), len(chunks)+1)
	}
}
