// Package repotest makes small repositories for tests.
package repotest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// New makes a repository with one domain in an empty store, opened by a key file.
func New(t testing.TB, store blob.Store) (*repo.Repository, *repo.Domain, *seal.KeyFile) {
	t.Helper()
	unlocker := seal.NewKeyFile()
	r, err := repo.Init(t.Context(), store, repo.Options{Unlocker: unlocker, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.CreateDomain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Domain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r, d, unlocker
}

// Manifest is a small content with the references part that it fits: database
// "app" with a schema archive of one chunk and a table of two chunks. The chunks
// themselves are in no pack.
func Manifest() (*repo.References, *repo.Content) {
	refs := &repo.References{
		Lists: []repo.ListRef{{Name: seal.Name{1}, Entries: 3, Bytes: 60}}, Chunks: 3, Bytes: 60,
	}
	var sum repo.Fingerprint
	sum.Add(chunk.HashRow([]byte("1\tone\n")))
	sum.Add(chunk.HashRow([]byte("2\ttwo\n")))
	rows := repo.Stream{Spans: []repo.Span{{List: 0, First: 1, Count: 2}}, Bytes: 40}
	c := &repo.Content{
		Version: 1, Kind: repo.KindLogical, Agent: "test",
		Started: time.Unix(1700000000, 0).UTC(), Finished: time.Unix(1700000060, 0).UTC(),
		Instance: repo.InstanceFacts{Name: "main", SystemIdentifier: 7000000000000000001, Timeline: 1, Version: pg.Version(150018)},
		Logical: &repo.Logical{Databases: []repo.Database{{
			Name: "app", OID: 16384, State: repo.DatabaseComplete, Encoding: "UTF8", LSN: 0x1000, Properties: json.RawMessage(`{"datname":"app"}`),
			Archive: &repo.Archive{Tool: 150018, FormatVersion: "1.14",
				Stream: repo.Stream{Spans: []repo.Span{{List: 0, First: 0, Count: 1}}, Bytes: 20}},
			Tables: []repo.Table{{
				OID: 16385, Schema: "public", Name: "t", Columns: []pg.Name{"a", "b"}, Pages: 1, Rows: 2, Fingerprint: sum,
				Runs: []repo.Run{{Stream: rows, Rows: 2, Fingerprint: sum}},
			}},
		}}},
	}
	return refs, c
}

// Prepare makes the snapshot object of Manifest for an attempt.
func Prepare(t testing.TB, d *repo.Domain, instance repo.InstanceID, job repo.JobID, fence repo.Fence) *repo.PreparedSnapshot {
	t.Helper()
	refs, content := Manifest()
	epoch := d.SealEpoch()
	sealedRefs, err := repo.SealReferences(refs, d.Keys().Refs(), d.ID(), job)
	if err != nil {
		t.Fatal(err)
	}
	sealedContent, err := repo.SealContent(content, d.Keys().Seal(epoch), d.ID(), job)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.PrepareSnapshot(repo.SnapshotHeader{
		Kind: repo.KindLogical, Complete: true, Instance: instance, Job: job, Fence: fence, SealEpoch: epoch,
	}, sealedRefs, sealedContent, repo.Commit{Agent: repo.NewID(), Certificate: [32]byte{7}, Time: time.Unix(1700000061, 5000).UTC(), LogNumber: 3})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
