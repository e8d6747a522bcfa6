package logical

import (
	"context"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// OpenSnapshot fetches a snapshot object and opens its parts with the grant's
// keys. An object of another snapshot or domain is Corrupt.
func OpenSnapshot(ctx context.Context, snapshot repo.JobID, grant job.Grant, d Downloader) (*repo.Content, error) {
	return openSnapshot(ctx, job.Job{Grant: grant, Restore: &job.Restore{Snapshot: snapshot}}, d)
}

// NewSource gives a snapshot's streams to those that read them. Lists are checked once
// for as long as the source lives.
func NewSource(d Downloader) stream.Source {
	return &source{Downloader: d, lists: map[uint32]checkedList{}}
}
