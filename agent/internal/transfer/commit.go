package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

const (
	// pieceBytes is the size of a manifest's pieces; the wire allows 1 MiB.
	pieceBytes = 512 << 10
	// commitTries and commitPause bound the repetition of a commit whose answer got
	// lost. The controller recognizes a repeated commit of the same bytes.
	commitTries = 4
	commitPause = 2 * time.Second
	// commitTimeout bounds one try. The controller reads back the directory of every
	// pack of the job: 16,000 of them for a terabyte.
	commitTimeout = time.Hour
)

// Commit flushes all streams, sends the manifest and returns nil when the
// snapshot exists and is durable. No Put or Flush may run meanwhile. Conflict
// tells that another attempt of the job won.
func (u *Uploader) Commit(ctx context.Context, m Manifest) error {
	if err := u.flushAll(ctx); err != nil {
		return fmt.Errorf("commit snapshot %s: %w", u.job.ID, err)
	}
	pause := commitPause
	var first error
	for try := 1; ; try++ {
		err := u.commit(ctx, m)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, errs.Unavailable) || try == commitTries || ctx.Err() != nil {
			if err.Error() != first.Error() {
				// The first failure is what repetition could not mend: its kind decides
				// whether another attempt is worth it.
				err = fmt.Errorf("%w; repeated: %w", first, err)
			}
			return fmt.Errorf("commit snapshot %s: %w", u.job.ID, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("commit snapshot %s: %w", u.job.ID, context.Cause(ctx))
		}
		pause *= 2
	}
}

// commit is one try.
func (u *Uploader) commit(ctx context.Context, m Manifest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commitTimeout, fmt.Errorf("the controller did not answer within %s: %w", commitTimeout, errs.Timeout))
	defer cancel()
	rpc, err := u.client.Commit(ctx)
	if err != nil {
		return err
	}
	begin := &tuskvaultv1.CommitBegin{
		Attempt:         attemptRef(u.job),
		ReferencesBytes: int64(len(m.References)),
		ContentBytes:    int64(len(m.Content)),
		Kind:            string(repo.KindLogical),
		Complete:        m.Complete,
		SealEpoch:       m.SealEpoch,
	}
	err = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Begin{Begin: begin}})
	for b := range slices.Chunk(m.References, pieceBytes) {
		if err == nil {
			err = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_References{References: b}})
		}
	}
	for b := range slices.Chunk(m.Content, pieceBytes) {
		if err == nil {
			err = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Content{Content: b}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
		return err
	}
	answer, err := rpc.CloseAndRecv()
	if err != nil {
		return err
	}
	if answer.GetSnapshotId() != u.job.ID.String() {
		return fmt.Errorf("the controller committed snapshot %q: %w", answer.GetSnapshotId(), errs.Invalid)
	}
	return nil
}
