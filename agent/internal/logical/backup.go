package logical

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Uploader is what a backup needs of the upload side.
type Uploader interface {
	dump.Uploader
	// Commit makes the snapshot exist.
	Commit(ctx context.Context, m transfer.Manifest) error
	// Stats tells what was moved.
	Stats() transfer.Stats
}

// Upload runs fn with an uploader for an attempt; see transfer.WithUploader.
type Upload func(ctx context.Context, j job.Job, fn func(ctx context.Context, u Uploader) error) error

// Uploads gives the Upload over a connection to the controller.
func Uploads(conn grpc.ClientConnInterface, o transfer.Options) Upload {
	return func(ctx context.Context, j job.Job, fn func(context.Context, Uploader) error) error {
		return transfer.WithUploader(ctx, conn, j, o, func(ctx context.Context, u *transfer.Uploader) error {
			return fn(ctx, uploader{u})
		})
	}
}

// uploader gives transfer's streams as dump's.
type uploader struct{ *transfer.Uploader }

// Stream opens an upload stream.
func (u uploader) Stream(ctx context.Context) (dump.Stream, error) { return u.Uploader.Stream(ctx) }

// Sent counts the sealed bytes sent so far.
func (u uploader) Sent() int64 { return u.Stats().SentBytes }

// Instances finds the configuration of an instance by its name within the
// agent; false when there is none.
type Instances func(name string) (postgres.Config, bool)

// NewBackup makes the executor of backups. version is the program's, for the
// manifest.
//
// The steps of one backup, and what a crash between two of them leaves:
//
//  1. rows are read and their chunks sent (package dump): chunks that no
//     snapshot names, for prune;
//  2. the manifest is sealed here and handed over by Commit, which first waits
//     until every chunk is durable: the same;
//  3. the controller puts the snapshot object: now the snapshot exists, whether
//     or not the answer arrives. Its id is the job's, so a repeated attempt
//     learns that it was there already.
//
// A snapshot in which a database is missing is committed too, marked incomplete,
// and the job fails: what could be read is worth keeping. Such an attempt is
// not retryable, for its snapshot holds the job's id.
func NewBackup(instances Instances, upload Upload, version string) job.Executor {
	return func(ctx context.Context, j job.Job, r job.Reporter) job.Result {
		started := time.Now()
		result := backup(ctx, j, r, instances, upload, version)
		result.Started, result.Ended = started, time.Now()
		return result
	}
}

func backup(ctx context.Context, j job.Job, r job.Reporter, instances Instances, upload Upload, version string) job.Result {
	if j.Backup == nil {
		return job.FailedResult(ctx, fmt.Errorf("back up: job %s is none: %w", j.ID.Short(), errs.Invalid))
	}
	cfg, ok := instances(j.Backup.Instance)
	if !ok {
		return job.FailedResult(ctx, fmt.Errorf("back up instance %q: this agent has no such instance: %w", j.Backup.Instance, errs.NotFound))
	}
	var snapshot *dump.Snapshot
	var stats transfer.Stats
	err := upload(ctx, j, func(ctx context.Context, u Uploader) (err error) {
		defer func() { stats = u.Stats() }()
		snapshot, err = dump.Run(ctx, dump.Options{
			Config: cfg, Job: j.ID.Short(), Request: *j.Backup, Grant: j.Grant, Uploader: u, Reporter: r, Agent: version,
		})
		if err != nil {
			return err
		}
		return commit(ctx, j, u, snapshot)
	})
	if err != nil {
		return failedBackup(ctx, cfg, err, snapshot, stats)
	}
	result := job.Result{Outcome: job.Succeeded, Databases: snapshot.Databases, Problems: snapshot.Problems, Stats: figures(snapshot, stats)}
	if !snapshot.Complete {
		result.Outcome, result.Err = job.Failed, snapshot.Err.Error()
	}
	return result
}

// commit seals the manifest and makes the snapshot exist.
func commit(ctx context.Context, j job.Job, u Uploader, s *dump.Snapshot) error {
	// What the reader would refuse must not be committed.
	if err := s.Content.Validate(s.References); err != nil {
		return fmt.Errorf("check manifest: %w", err)
	}
	key, ok := j.Grant.SealKeys[j.Grant.NewestEpoch]
	if !ok {
		return fmt.Errorf("seal manifest: the grant has no key of epoch %d: %w", j.Grant.NewestEpoch, errs.Invalid)
	}
	references, err := repo.SealReferences(s.References, j.Grant.RefsKey, j.Grant.Domain, j.ID)
	if err != nil {
		return fmt.Errorf("seal references: %w", err)
	}
	content, err := repo.SealContent(s.Content, key, j.Grant.Domain, j.ID)
	if err != nil {
		return fmt.Errorf("seal manifest: %w", err)
	}
	return u.Commit(ctx, transfer.Manifest{References: references, Content: content, Complete: s.Complete, SealEpoch: j.Grant.NewestEpoch})
}

// failedBackup is the result of an attempt without a snapshot.
func failedBackup(ctx context.Context, cfg postgres.Config, err error, s *dump.Snapshot, stats transfer.Stats) job.Result {
	result := job.FailedResult(ctx, err)
	result.Stats = figures(s, stats)
	if s != nil {
		result.Problems, result.Databases = s.Problems, s.Databases
	} else if hint := postgres.Hint(err); hint != "" {
		result.Problems = []repo.Problem{{Severity: "error", Object: cfg.String(), Reason: err.Error(), Hint: hint}}
	}
	return result
}

func figures(s *dump.Snapshot, t transfer.Stats) job.Stats {
	out := job.Stats{Chunks: t.Chunks, NewChunks: t.NewChunks, NewPlainBytes: t.NewPlainBytes, TransferredBytes: t.SentBytes}
	if s != nil {
		out.Rows, out.PlainBytes = s.Rows, s.Bytes
	}
	return out
}
