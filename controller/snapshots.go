package controller

import (
	"context"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/controller/internal/vault"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// snapshots gives jobs what they need of the repository, in their own words.
type snapshots struct {
	*vault.Vault // for SealEpoch
	repository   *repo.Repository
	catalog      *catalog.Catalog
	// ingest reads a snapshot's facts. It is set before anything runs: the ingest
	// needs the jobs, and the jobs need this.
	ingest *ingest.Server
}

var _ job.Store = (*snapshots)(nil)

// Find looks under the key of an attempt's job.
func (s *snapshots) Find(ctx context.Context, instance repo.InstanceID, a catalog.Attempt) (job.Presence, catalog.Snapshot, error) {
	d, err := s.repository.Domain(ctx, a.Domain)
	if err != nil {
		return job.Absent, catalog.Snapshot{}, err
	}
	result, err := d.ResolveSnapshot(ctx, instance, a.Job, a.Fence, a.ObjectHash)
	if err != nil {
		return job.Absent, catalog.Snapshot{}, err
	}
	return s.presence(ctx, instance, a, result.Outcome)
}

// Abort puts an abort marker under the key of an attempt's job, and tells what
// is there then.
func (s *snapshots) Abort(ctx context.Context, instance repo.InstanceID, a catalog.Attempt) (job.Presence, catalog.Snapshot, error) {
	d, err := s.repository.Domain(ctx, a.Domain)
	if err != nil {
		return job.Absent, catalog.Snapshot{}, err
	}
	marker, err := d.PrepareAbort(instance, a.Job, a.Fence, repo.Commit{Agent: a.Agent, Time: time.Now(), LogNumber: s.catalog.Head().Number})
	if err != nil {
		return job.Absent, catalog.Snapshot{}, err
	}
	result, err := d.PutSnapshot(ctx, marker)
	if err != nil {
		return job.Absent, catalog.Snapshot{}, err
	}
	return s.presence(ctx, instance, a, result.Outcome)
}

func (s *snapshots) presence(ctx context.Context, instance repo.InstanceID, a catalog.Attempt, o repo.Outcome) (job.Presence, catalog.Snapshot, error) {
	switch o {
	case repo.OutcomeAborted:
		return job.Aborted, catalog.Snapshot{}, nil
	case repo.OutcomeUnknown:
		return job.Absent, catalog.Snapshot{}, nil
	}
	found, err := s.ingest.Describe(ctx, committing(instance, a))
	return job.Present, snapshotRecord(found), err
}
