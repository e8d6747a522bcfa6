package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// trySettling makes the caller the only one that decides about a job's snapshot
// in this process, unless another is at it.
func (s *Server) trySettling(job repo.JobID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settling[job] != nil {
		return false
	}
	s.settling[job] = make(chan struct{})
	return true
}

// beginSettling is trySettling that waits: an agent that repeats a commit may come
// before the first one has ended.
func (s *Server) beginSettling(ctx context.Context, job repo.JobID) error {
	for !s.trySettling(job) {
		s.mu.Lock()
		ended := s.settling[job]
		s.mu.Unlock()
		if ended == nil {
			continue
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *Server) endSettling(job repo.JobID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.settling[job])
	delete(s.settling, job)
}

// settle ends a commit by what the store says. The record of a snapshot is made
// from the object in the store, read back and verified: a put that the store
// only pretended to do is found out here, before anybody is told of success.
func (s *Server) settle(ctx context.Context, c Committing, outcome repo.Outcome) error {
	switch outcome {
	case repo.OutcomeAborted:
		if err := s.o.Journal.Uncommitted(ctx, c.Job, c.Fence); err != nil {
			return err
		}
		return fmt.Errorf("snapshot %s was given up before: %w", c.Job, errs.Conflict)
	case repo.OutcomeDone, repo.OutcomeSuperseded:
		snap, err := s.Describe(ctx, c)
		if errors.Is(err, errs.NotFound) {
			return fmt.Errorf("snapshot %s: the store took it and does not have it: %v: %w", c.Job, err, errs.Unavailable) //nolint:errorlint // replaces the kind
		}
		if err != nil {
			return err
		}
		if err := s.o.Journal.Committed(ctx, snap); err != nil {
			return fmt.Errorf("journal snapshot %s: %w", c.Job, err)
		}
		if snap.Fence != c.Fence {
			return fmt.Errorf("snapshot %s was made by attempt %s: %w", c.Job, snap.Fence, errs.Conflict)
		}
		return nil
	}
	return fmt.Errorf("snapshot %s: the store does not say what became of it: %w", c.Job, errs.Unavailable)
}

// Describe reads a snapshot from the store and tells what the catalog keeps of it.
func (s *Server) Describe(ctx context.Context, c Committing) (Snapshot, error) {
	packs, err := s.o.Journal.PacksOf(ctx, c.Job)
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.decoding.Acquire(ctx, 1); err != nil {
		return Snapshot{}, context.Cause(ctx)
	}
	defer s.decoding.Release(1)
	snap, err := Describe(ctx, s.o.Repository, c.Instance, c.Job)
	if err != nil {
		return Snapshot{}, err
	}
	if snap.Domain != c.Domain {
		return Snapshot{}, fmt.Errorf("snapshot %s: is of domain %s, not %s: %w", c.Job, snap.Domain, c.Domain, errs.Corrupt)
	}
	for _, p := range packs {
		snap.StoredBytes += p.Size
		snap.NewChunks += int64(p.Chunks)
	}
	return snap, nil
}

// Describe reads a snapshot from the store, verifies it and tells what can be
// known from its object alone: all but what it added to the store. It may take a
// gigabyte of memory; callers bound how many run at once.
func Describe(ctx context.Context, r *repo.Repository, instance repo.InstanceID, job repo.JobID) (Snapshot, error) {
	object, raw, err := r.ReadSnapshotObject(ctx, instance, job)
	if err != nil {
		return Snapshot{}, err
	}
	d, err := r.Domain(ctx, object.Header.Domain)
	if err != nil {
		return Snapshot{}, err
	}
	keys := d.Keys()
	refs, err := object.OpenReferences(keys.Refs())
	if err != nil {
		return Snapshot{}, err
	}
	content, err := object.OpenContent(keys.Seal(object.Header.SealEpoch), refs)
	if err != nil {
		return Snapshot{}, err
	}
	snap := facts(object, refs, content)
	snap.Object, snap.Size = sha256.Sum256(raw), int64(len(raw))
	snap.SealEpoch = max(d.SealEpoch(), object.Header.SealEpoch)
	return snap, nil
}

// facts reads from a snapshot what people ask about it.
func facts(object *repo.Snapshot, refs *repo.References, content *repo.Content) Snapshot {
	h := object.Header
	snap := Snapshot{
		ID: h.Job, Fence: h.Fence, Instance: h.Instance, Domain: h.Domain, Agent: object.Commit.Agent,
		Kind: h.Kind, Complete: h.Complete,
		Committed: object.Commit.Time, Started: content.Started, Finished: content.Finished,
		SystemIdentifier: content.Instance.SystemIdentifier, ServerVersion: int(content.Instance.Version),
		Chunks: refs.Chunks, PlainBytes: refs.Bytes, Problems: content.Problems,
	}
	for i := range content.Logical.Databases {
		d := databaseFacts(&content.Logical.Databases[i])
		snap.Rows += d.Rows
		snap.Databases = append(snap.Databases, d)
	}
	return snap
}

func databaseFacts(d *repo.Database) SnapshotDatabase {
	f := SnapshotDatabase{
		Name: d.Name.Display(), State: d.State, Tables: int64(len(d.Tables)),
		LSN: d.LSN.String(), Time: d.Time, Problems: d.Problems,
	}
	if d.Archive != nil {
		f.PlainBytes += d.Archive.Stream.Bytes
	}
	for i := range d.Tables {
		f.Rows += d.Tables[i].Rows
		for _, r := range d.Tables[i].Runs {
			f.PlainBytes += r.Stream.Bytes
			if r.Binary {
				f.Rows += r.Rows // a table's own number is that of its text rows
			}
		}
	}
	if d.LargeObjects != nil {
		f.PlainBytes += d.LargeObjects.Data.Bytes + d.LargeObjects.Meta.Bytes
	}
	return f
}

// settleAll looks at every commit that is neither done nor taken back. A commit
// whose object is not there, and which nobody is working on, is taken back: a
// later attempt may make the snapshot, and should a put of the earlier one still
// arrive, that one has won, and the later one finds it.
func (s *Server) settleAll(ctx context.Context) error {
	unfinished, err := s.o.Journal.Unfinished(ctx)
	if err != nil {
		return fmt.Errorf("list commits: %w", err)
	}
	var all error
	for _, c := range unfinished {
		if !s.trySettling(c.Job) {
			continue
		}
		if err := s.settleOne(ctx, c); harmed(err) {
			s.o.Logger.Error("commit not settled", zap.Stringer("job_id", c.Job), zap.Error(err))
		} else {
			all = errors.Join(all, err)
		}
		s.endSettling(c.Job)
	}
	return all
}

func (s *Server) settleOne(ctx context.Context, c Committing) error {
	d, err := s.domain(ctx, c.Domain)
	if err != nil {
		return err
	}
	result, err := d.ResolveSnapshot(ctx, c.Instance, c.Job, c.Fence, c.Object)
	if err != nil {
		return err
	}
	log := s.o.Logger.With(zap.Stringer("job_id", c.Job), zap.Stringer("attempt", c.Fence))
	if result.Outcome == repo.OutcomeUnknown {
		log.Info("commit taken back: the snapshot does not exist")
		return s.o.Journal.Uncommitted(ctx, c.Job, c.Fence)
	}
	log.Info("commit settled", zap.Stringer("outcome", result.Outcome))
	err = s.settle(ctx, c, result.Outcome)
	if errors.Is(err, errs.Conflict) {
		return nil // superseded or given up: recorded, and nobody is waiting to be told
	}
	return err
}
