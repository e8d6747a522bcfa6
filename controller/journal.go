package controller

import (
	"context"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// journal gives the ingest what it needs of jobs and catalog, in its own words:
// the ingest knows neither.
type journal struct {
	jobs    *job.Manager
	catalog *catalog.Catalog
	stored  func() // a snapshot exists
}

var (
	_ ingest.Attempts = journal{}
	_ ingest.Journal  = journal{}
)

// plains opens snapshots that the catalog knows where their chunks are read.
type plains struct{ ingest *ingest.Server }

// OpenPlain opens a snapshot.
func (p plains) OpenPlain(ctx context.Context, s catalog.Snapshot) (api.Plain, error) {
	return p.ingest.OpenPlain(ctx, ingest.SnapshotRef{ID: s.ID, Instance: s.Instance, Domain: s.Domain})
}

// Authorize gives the grant of an attempt.
func (j journal) Authorize(ctx context.Context, agent repo.AgentID, id repo.JobID, fence repo.Fence) (ingest.Grant, error) {
	g, err := j.jobs.Authorize(ctx, agent, job.Ref{Job: id, Fence: fence})
	if err != nil {
		return ingest.Grant{}, err
	}
	out := ingest.Grant{Job: id, Fence: fence, Kind: ingest.KindBackup, Instance: g.Instance, Domain: g.Domain, Shared: g.Shared, SealEpoch: g.SealEpoch}
	if g.Kind == catalog.JobRestore || g.Kind == catalog.JobDrill { // both read one snapshot
		out.Kind, out.Domain, out.Snapshot, out.SnapshotInstance = ingest.KindRestore, g.Snapshot.Domain, g.Snapshot.ID, g.Snapshot.Instance
	}
	return out, nil
}

// PackIntent journals that a pack is about to be put.
func (j journal) PackIntent(ctx context.Context, i ingest.PackIntent) error {
	return j.jobs.PackIntent(ctx, catalog.Pack{ID: i.ID, Job: i.Job, Fence: i.Fence, Domain: i.Domain, Instance: i.Instance, Size: i.Size, Frames: int32(i.Chunks), Created: i.Created})
}

// PackStored notes that a pack is in the store.
func (j journal) PackStored(ctx context.Context, id repo.JobID, p pack.ID) error {
	return j.jobs.PackStored(ctx, id, p)
}

// PackDropped removes the intent of a pack that is not in the store.
func (j journal) PackDropped(ctx context.Context, id repo.JobID, p pack.ID) error {
	return j.jobs.PackDropped(ctx, id, p)
}

// PackIndexed notes that an index file covers packs.
func (j journal) PackIndexed(ctx context.Context, id repo.JobID, ids []pack.ID) error {
	out := make([]catalog.PackID, len(ids))
	for i, p := range ids {
		out[i] = catalog.PackID(p)
	}
	return j.jobs.PacksIndexed(ctx, id, out)
}

// PacksOf gives the packs that a job stored.
func (j journal) PacksOf(ctx context.Context, id repo.JobID) ([]ingest.PackRecord, error) {
	packs, err := j.jobs.Packs(ctx, id, func(p catalog.Pack) bool { return p.State != catalog.PackIntent })
	return packRecords(packs), err
}

// Intents gives every pack that may or may not be in the store.
func (j journal) Intents(ctx context.Context) ([]ingest.PackIntent, error) {
	packs, err := j.jobs.OpenPacks(ctx, catalog.PackIntent)
	out := make([]ingest.PackIntent, len(packs))
	for i, p := range packs {
		out[i] = packIntent(p)
	}
	return out, err
}

// Unindexed gives every pack that is in the store and in no index file.
func (j journal) Unindexed(ctx context.Context) ([]ingest.PackRecord, error) {
	packs, err := j.jobs.OpenPacks(ctx, catalog.PackStored)
	return packRecords(packs), err
}

func packRecords(packs []catalog.Pack) []ingest.PackRecord {
	out := make([]ingest.PackRecord, len(packs))
	for i, p := range packs {
		out[i] = ingest.PackRecord{PackIntent: packIntent(p), Indexed: p.State == catalog.PackIndexed}
	}
	return out
}

func packIntent(p catalog.Pack) ingest.PackIntent {
	return ingest.PackIntent{ID: p.ID, Domain: p.Domain, Job: p.Job, Fence: p.Fence, Instance: p.Instance, Size: p.Size, Chunks: int(p.Frames), Created: p.Created}
}

// Committing journals that an attempt is about to put its snapshot.
func (j journal) Committing(ctx context.Context, c ingest.Committing) error {
	return j.jobs.Committing(ctx, job.Ref{Job: c.Job, Fence: c.Fence}, c.Object)
}

// Committed journals a snapshot that exists.
func (j journal) Committed(ctx context.Context, s ingest.Snapshot) error {
	defer j.stored()
	return j.jobs.Committed(ctx, snapshotRecord(s))
}

// Uncommitted takes the committing state back.
func (j journal) Uncommitted(ctx context.Context, id repo.JobID, fence repo.Fence) error {
	return j.jobs.Uncommitted(ctx, job.Ref{Job: id, Fence: fence})
}

// Unfinished gives the commits whose outcome is not journaled.
func (j journal) Unfinished(ctx context.Context) ([]ingest.Committing, error) {
	all, err := j.jobs.Unfinished(ctx)
	out := make([]ingest.Committing, len(all))
	for i, u := range all {
		out[i] = committing(u.Instance, u.Attempt)
	}
	return out, err
}

func committing(instance repo.InstanceID, a catalog.Attempt) ingest.Committing {
	return ingest.Committing{Job: a.Job, Fence: a.Fence, Instance: instance, Domain: a.Domain, Object: a.ObjectHash}
}

// LogNumber is the number of the catalog log's newest record.
func (j journal) LogNumber(context.Context) (uint64, error) { return j.catalog.Head().Number, nil }

// snapshotRecord turns what the ingest tells of a snapshot into the catalog's
// record. What only the catalog knows is filled in there.
func snapshotRecord(s ingest.Snapshot) catalog.Snapshot {
	var contents []catalog.SnapshotDatabase
	if len(s.Databases) <= catalog.MaxContents {
		for _, d := range s.Databases {
			contents = append(contents, catalog.SnapshotDatabase{Name: d.Name, Complete: d.State == repo.DatabaseComplete})
		}
	}
	return catalog.Snapshot{ID: s.ID, Instance: s.Instance, Agent: s.Agent, Domain: s.Domain, Kind: s.Kind, Fence: s.Fence, Contents: contents,
		Started: s.Started, Committed: s.Committed, Complete: s.Complete, SealEpoch: s.SealEpoch, ObjectHash: s.Object, ObjectBytes: s.Size,
		Databases: int32(len(s.Databases)), Rows: s.Rows, PlainBytes: s.PlainBytes, Chunks: s.Chunks, StoredBytes: s.StoredBytes,
		ServerVersion: int32(s.ServerVersion), SystemIdentifier: s.SystemIdentifier}
}
