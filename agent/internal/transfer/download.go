package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Downloader is the download side of one attempt of a restore. Its methods may
// be called concurrently.
//
// Each open iterator has a lane: a stream to the controller of its own and a
// fixed share of the memory, of which a quarter is the window of sealed bytes
// under way and the rest holds opened chunks. Lanes are used again by later
// iterators. One more lane, for the snapshot's parts and lists, serves all.
type Downloader struct {
	client tuskvaultv1.ChunkServiceClient
	job    job.Job
	o      Options
	opener *seal.Opener
	ctx    context.Context // ends with the downloader
	work   sync.WaitGroup  // openers and lanes
	toOpen chan *slot      // unbuffered: lanes wait for an opener
	open   *semaphore.Weighted

	mu   sync.Mutex
	idle []*lane
	refs *repo.References

	lists   listCache
	fetched atomic.Int64
}

// Chunk is one opened chunk: its name has been recomputed and its length agrees
// with its entry.
type Chunk struct {
	// Entry is what the chunk list says.
	Entry repo.ListEntry
	// Plain is valid until the iterator is asked for the next chunk.
	Plain []byte
}

// WithDownloader runs fn with a downloader for the attempt and returns when fn
// has returned and everything the downloader started is gone.
func WithDownloader(ctx context.Context, conn grpc.ClientConnInterface, j job.Job, o Options, fn func(ctx context.Context, d *Downloader) error) error {
	maxPlain := max(j.Grant.Cut.Max, repo.MaxListBytes)
	if j.Grant.Cut.Max <= 0 {
		return fmt.Errorf("download of job %s: the grant has no chunk size: %w", j.ID, errs.Invalid)
	}
	o = o.withDefaults(maxPlain)
	o.Memory = max(o.Memory, int64(o.Streams)*4*int64(seal.MaxFrame(maxPlain)))
	ctx, cancel := context.WithCancelCause(ctx)
	d := &Downloader{
		client: tuskvaultv1.NewChunkServiceClient(conn),
		job:    j,
		o:      o,
		opener: seal.NewOpener(j.Grant.Domain, j.Grant.NameKey, j.Grant.RefsKey, j.Grant.SealKeys, maxPlain),
		ctx:    ctx,
		toOpen: make(chan *slot),
		open:   semaphore.NewWeighted(int64(o.Streams)),
		lists:  listCache{fetching: semaphore.NewWeighted(1)},
	}
	for range o.Workers {
		d.work.Go(d.openChunks)
	}
	err := fn(ctx, d)
	cancel(fmt.Errorf("download: finished: %w", errs.Canceled))
	d.work.Wait()
	return err
}

// Fetched counts the sealed bytes received so far.
func (d *Downloader) Fetched() int64 { return d.fetched.Load() }

// share is the memory of one lane, and window the part of it that may be sealed
// bytes under way.
func (d *Downloader) share() int64  { return d.o.Memory / int64(d.o.Streams) }
func (d *Downloader) window() int64 { return max(d.share()/4, int64(d.maxFrame())) }

func (d *Downloader) maxFrame() int {
	return seal.MaxFrame(max(d.job.Grant.Cut.Max, repo.MaxListBytes))
}

// openChunks is one opener.
func (d *Downloader) openChunks() {
	for {
		select {
		case s := <-d.toOpen:
			s.open(d.opener)
		case <-d.ctx.Done():
			return
		}
	}
}

// Snapshot fetches the snapshot object of the grant and returns it whole. It
// must be called before the other methods, which need its references.
func (d *Downloader) Snapshot(ctx context.Context) ([]byte, error) {
	object, err := d.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("download the snapshot: %w", err)
	}
	parts, err := repo.DecodeSnapshot(object)
	if err != nil {
		return nil, fmt.Errorf("download the snapshot: %w", err)
	}
	refs, err := parts.OpenReferences(d.job.Grant.RefsKey)
	if err != nil {
		return nil, fmt.Errorf("download the snapshot: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refs = refs
	return object, nil
}

func (d *Downloader) snapshot(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc, err := d.begin(ctx, true)
	if err != nil {
		return nil, err
	}
	var object bytes.Buffer
	for last := false; !last; {
		m, err := rpc.Recv()
		if err != nil {
			return nil, ended(err)
		}
		piece := m.GetSnapshot()
		if piece == nil || object.Len()+len(piece.GetData()) > repo.MaxSnapshotBytes {
			return nil, fmt.Errorf("the controller's answer is no snapshot or is larger than %d bytes: %w", repo.MaxSnapshotBytes, errs.Invalid)
		}
		object.Write(piece.GetData())
		last = piece.GetLast()
	}
	if err := rpc.CloseSend(); err != nil {
		return nil, err
	}
	switch _, err := rpc.Recv(); {
	case err == nil:
		return nil, fmt.Errorf("the controller sent more than a snapshot: %w", errs.Invalid)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return object.Bytes(), nil
}

// begin opens a download stream that lives as long as ctx.
func (d *Downloader) begin(ctx context.Context, snapshot bool) (grpc.BidiStreamingClient[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse], error) {
	rpc, err := d.client.Download(ctx)
	if err != nil {
		return nil, err
	}
	err = rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Begin{Begin: &tuskvaultv1.DownloadBegin{
		Attempt: attemptRef(d.job), WantSnapshot: snapshot, WindowBytes: d.window()}}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
		return nil, err
	}
	return rpc, nil
}
