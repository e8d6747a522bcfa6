package logical

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Downloader is what a restore needs of the download side.
type Downloader interface {
	// Snapshot gives the whole snapshot object; it comes first.
	Snapshot(ctx context.Context) ([]byte, error)
	// Missing gives the positions of missing chunks in a chunk list, in order.
	Missing(ctx context.Context, i uint32) ([]uint32, error)
	// Stream gives chunks in order, opened and verified.
	Stream(ctx context.Context, spans []repo.Span) iter.Seq2[transfer.Chunk, error]
	// Fetched counts the sealed bytes received so far.
	Fetched() int64
}

// Download runs fn with a downloader for an attempt, of which up to streams
// streams are open at once; see transfer.WithDownloader.
type Download func(ctx context.Context, j job.Job, streams int, fn func(ctx context.Context, d Downloader) error) error

// Downloads gives the Download over a connection to the controller. Memory is
// shared by the streams: o.Memory, if less, is raised so that each has four of
// the largest chunks.
func Downloads(conn grpc.ClientConnInterface, o transfer.Options) Download {
	return func(ctx context.Context, j job.Job, streams int, fn func(context.Context, Downloader) error) error {
		o.Streams = streams
		return transfer.WithDownloader(ctx, conn, j, o, func(ctx context.Context, d *transfer.Downloader) error {
			return fn(ctx, d)
		})
	}
}

// NewRestore makes the executor of restores. What it does step by step, and what
// a crash leaves, is in package load. A dry run plans with the same planner and
// changes nothing; its result has the plan, and fails where the restore would be
// refused.
func NewRestore(instances Instances, download Download) job.Executor {
	return func(ctx context.Context, j job.Job, r job.Reporter) job.Result {
		started := time.Now()
		result := restore(ctx, j, r, instances, download)
		result.Started, result.Ended = started, time.Now()
		return result
	}
}

func restore(ctx context.Context, j job.Job, r job.Reporter, instances Instances, download Download) job.Result {
	if j.Restore == nil {
		return job.FailedResult(ctx, fmt.Errorf("restore: job %s is none: %w", j.ID.Short(), errs.Invalid))
	}
	cfg, ok := instances(j.Restore.Instance)
	if !ok {
		return job.FailedResult(ctx, fmt.Errorf("restore into instance %q: this agent has no such instance: %w", j.Restore.Instance, errs.NotFound))
	}
	var result job.Result
	// One stream for each session that loads, one for what is read beside them.
	err := download(ctx, j, plan.Jobs(j.Restore.Jobs)+1, func(ctx context.Context, d Downloader) (err error) {
		result, err = restoreFrom(ctx, j, r, cfg, d)
		result.Stats.TransferredBytes = d.Fetched()
		return err
	})
	if err == nil {
		return result
	}
	failed := job.FailedResult(ctx, err)
	failed.Stats, failed.Databases, failed.Plan, failed.Problems = result.Stats, result.Databases, result.Plan, result.Problems
	// Another attempt would find the databases that are in place, in its way.
	for _, db := range result.Databases {
		failed.Retryable = failed.Retryable && (!db.Complete || j.Restore.Replace || j.Restore.Live)
	}
	if hint := postgres.Hint(err); hint != "" && len(failed.Problems) == 0 {
		failed.Problems = []repo.Problem{{Severity: "error", Object: cfg.String(), Reason: err.Error(), Hint: hint}}
	}
	return failed
}

func restoreFrom(ctx context.Context, j job.Job, r job.Reporter, cfg postgres.Config, d Downloader) (job.Result, error) {
	content, err := openSnapshot(ctx, j, d)
	if err != nil {
		return job.Result{}, err
	}
	planned, err := load.Prepare(ctx, load.Options{
		Config: cfg, Source: &source{Downloader: d, lists: map[uint32]checkedList{}}, Reporter: r, Transferred: d.Fetched, Memory: hostMemory(),
	}, content, j.ID, *j.Restore)
	if err != nil {
		return job.Result{}, fmt.Errorf("restore snapshot %s: %w", j.Restore.Snapshot.Short(), err)
	}
	result := job.Result{Outcome: job.Succeeded, Plan: planned.Plan().Lines()}
	if j.Restore.DryRun {
		result.Problems = append(planned.Plan().Refusals, planned.Plan().Warnings...)
		return result, planned.Plan().Err()
	}
	planned.Plan().Tell(r.Log)
	out := planned.Run(ctx)
	result.Databases, result.Problems = out.Databases, out.Problems
	result.Stats.Rows, result.Stats.PlainBytes = out.Rows, out.Bytes
	return result, out.Err
}

// openSnapshot fetches the snapshot object and opens its parts with the grant's keys.
func openSnapshot(ctx context.Context, j job.Job, d Downloader) (*repo.Content, error) {
	raw, err := d.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	s, err := repo.DecodeSnapshot(raw)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", j.Restore.Snapshot.Short(), err)
	}
	if s.Header.Job != j.Restore.Snapshot || s.Header.Domain != j.Grant.Domain {
		return nil, fmt.Errorf("snapshot %s: the object is of another snapshot or domain: %w", j.Restore.Snapshot.Short(), errs.Corrupt)
	}
	key, ok := j.Grant.SealKeys[s.Header.SealEpoch]
	if !ok {
		return nil, fmt.Errorf("snapshot %s: the grant has no key of epoch %d: %w", j.Restore.Snapshot.Short(), s.Header.SealEpoch, errs.Denied)
	}
	refs, err := s.OpenReferences(j.Grant.RefsKey)
	if err != nil {
		return nil, err
	}
	return s.OpenContent(key, refs)
}

// source gives a snapshot's streams to those that read them.
type source struct {
	Downloader
	// lists that were read, with their missing chunks or what is wrong with them;
	// Check is for one goroutine.
	lists map[uint32]checkedList
}

// checkedList is what is known of a list.
type checkedList struct {
	missing []uint32
	err     error
}

// Stream gives the chunks of a stream.
func (s *source) Stream(ctx context.Context, st repo.Stream) iter.Seq2[stream.Chunk, error] {
	return func(yield func(stream.Chunk, error) bool) {
		for c, err := range s.Downloader.Stream(ctx, st.Spans) {
			e := c.Entry
			if !yield(stream.Chunk{Kind: e.Kind, First: e.First, Last: e.Last, Rows: e.Rows, Plain: c.Plain}, err) {
				return
			}
		}
	}
}

// Check reads the lists of a stream and asks which of their chunks are missing.
// Each list is read once, whatever the number of streams in it.
func (s *source) Check(ctx context.Context, st repo.Stream) error {
	for _, span := range st.Spans {
		l, ok := s.lists[span.List]
		if !ok {
			l.missing, l.err = s.Missing(ctx, span.List)
			if l.err != nil && !errors.Is(l.err, errs.Corrupt) {
				return l.err
			}
			s.lists[span.List] = l
		}
		if l.err != nil {
			return fmt.Errorf("chunk list %d: %w", span.List, l.err)
		}
		n := 0
		for _, at := range l.missing {
			if at >= span.First && at-span.First < span.Count {
				n++
			}
		}
		if n > 0 {
			return fmt.Errorf("chunk list %d: %d of %d chunks are in no pack of the store: %w", span.List, n, span.Count, errs.Corrupt)
		}
	}
	return nil
}

// hostMemory is the memory of this host in bytes, 0 where it does not say.
func hostMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
