package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// agent speaks the wire by hand, so that it can also say what no agent of ours
// would.
type agent struct {
	w        *world
	id       repo.AgentID
	instance repo.InstanceID
	identity *pki.Identity
	domain   seal.DomainID
	grant    repo.Grant
	sealer   *seal.Sealer
	namer    *seal.Namer
	client   tuskvaultv1.ChunkServiceClient
}

func (a *agent) useDomain(id seal.DomainID) {
	d, err := a.w.repo.Domain(a.w.t.Context(), id)
	must(a.w.t, err)
	a.domain, a.grant = id, d.WriteGrant()
	a.sealer = seal.NewSealer(id, a.grant.NewestEpoch, a.grant.Seal[a.grant.NewestEpoch], a.grant.Refs)
	a.namer = seal.NewNamer(a.grant.Name)
}

// lease gives the agent an attempt of a backup.
func (a *agent) lease(job repo.JobID, counter uint64, change ...func(*ingest.Grant)) *tuskvaultv1.AttemptRef {
	g := ingest.Grant{
		Job: job, Fence: repo.Fence{Epoch: 1, Counter: counter}, Kind: ingest.KindBackup,
		Instance: a.instance, Domain: a.domain, SealEpoch: a.grant.NewestEpoch,
	}
	for _, fn := range change {
		fn(&g)
	}
	a.w.catalog.Lease(a.id, g)
	return &tuskvaultv1.AttemptRef{JobId: job.String(), Epoch: 1, Counter: counter}
}

// leaseRestore gives the agent an attempt of a restore.
func (a *agent) leaseRestore(snapshot repo.JobID, of repo.InstanceID) *tuskvaultv1.AttemptRef {
	return a.lease(repo.NewID(), 1, func(g *ingest.Grant) {
		g.Kind, g.Snapshot, g.SnapshotInstance = ingest.KindRestore, snapshot, of
	})
}

// chunk is a chunk and its frame.
type chunkFrame struct {
	kind  seal.Kind
	plain []byte
	name  seal.Name
	frame []byte
	hash  seal.FrameHash
}

func (a *agent) chunk(kind seal.Kind, plain []byte) chunkFrame {
	a.w.t.Helper()
	c := chunkFrame{kind: kind, plain: plain, name: a.namer.Name(kind, plain)}
	var err error
	c.frame, err = a.sealer.Seal(nil, kind, c.name, plain)
	must(a.w.t, err)
	c.hash = seal.HashFrame(c.frame)
	return c
}

// rows makes n different chunks of text rows of about size bytes each.
func (a *agent) rows(seed, n, size int) []chunkFrame {
	var all []chunkFrame
	for i := range n {
		var plain []byte
		for j := 0; len(plain) < size; j++ {
			plain = fmt.Appendf(plain, "%d\trow %d of chunk %d\t%x\n", seed, j, i, uint64(seed*1_000_003+i*7919+j)*0x9e3779b97f4a7c15)
		}
		all = append(all, a.chunk(seal.KindRowsText, plain))
	}
	return all
}

// upload is an upload stream driven by hand.
type upload struct {
	t      testing.TB
	rpc    tuskvaultv1.ChunkService_UploadClient
	cancel context.CancelFunc
	window int64
	asked  uint64
	sent   uint64
	// durable is the newest mark.
	durable uint64
}

func (a *agent) begin(ref *tuskvaultv1.AttemptRef) (*upload, error) {
	if a.client == nil {
		a.client = tuskvaultv1.NewChunkServiceClient(a.w.connect(a))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.w.t.Context()), time.Minute)
	a.w.t.Cleanup(cancel)
	rpc, err := a.client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	u := &upload{t: a.w.t, rpc: rpc, cancel: cancel}
	_ = rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Begin{Begin: &tuskvaultv1.UploadBegin{Attempt: ref}}})
	m, err := rpc.Recv()
	if err != nil {
		return nil, err
	}
	u.window = m.GetReady().GetWindowBytes()
	return u, nil
}

// next gives the next answer that is no credit.
func (u *upload) next() (*tuskvaultv1.UploadResponse, error) {
	for {
		m, err := u.rpc.Recv()
		if err != nil {
			return nil, err
		}
		u.window += m.GetCredit().GetBytes()
		if m.GetAck() != nil {
			u.durable = m.GetAck().GetDurableFrames()
		}
		if m.GetCredit() == nil {
			return m, nil
		}
	}
}

// missing asks for chunks and gives those that are missing.
func (u *upload) missing(chunks ...chunkFrame) ([]chunkFrame, error) {
	var names []byte
	for _, c := range chunks {
		names = append(names, c.name[:]...)
	}
	u.asked++
	_ = u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Have{Have: &tuskvaultv1.UploadHave{Sequence: u.asked, Names: names}}})
	for {
		m, err := u.next()
		if err != nil {
			return nil, err
		}
		if h := m.GetHave(); h != nil {
			var missing []chunkFrame
			for i, c := range chunks {
				if h.GetMissing()[i/8]>>(i%8)&1 == 1 {
					missing = append(missing, c)
				}
			}
			return missing, nil
		}
	}
}

// put sends chunks, each in a message of its own, waiting for credit.
func (u *upload) put(chunks ...chunkFrame) error {
	for _, c := range chunks {
		for u.window < int64(len(c.frame)) {
			m, err := u.rpc.Recv()
			if err != nil {
				return err
			}
			u.window += m.GetCredit().GetBytes()
			if m.GetAck() != nil {
				u.durable = m.GetAck().GetDurableFrames()
			}
		}
		u.window -= int64(len(c.frame))
		u.sent++
		if err := u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Put{
			Put: &tuskvaultv1.UploadPut{Frames: [][]byte{c.frame}, FrameHashes: c.hash[:]}}}); err != nil {
			_, err := u.next()
			return err
		}
	}
	return nil
}

// flush waits until everything is durable.
func (u *upload) flush() error {
	_ = u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Flush{Flush: &tuskvaultv1.UploadFlush{}}})
	for {
		m, err := u.next()
		if err != nil {
			return err
		}
		if m.GetAck().GetFlushed() {
			if u.durable != u.sent {
				return fmt.Errorf("flushed at %d of %d frames", u.durable, u.sent)
			}
			return nil
		}
	}
}

// end closes the stream and waits for the controller.
func (u *upload) end() error {
	_ = u.rpc.CloseSend()
	for {
		if _, err := u.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// store sends what is missing of chunks and flushes; it tells how many were sent.
func (a *agent) store(ref *tuskvaultv1.AttemptRef, chunks ...chunkFrame) (sent int, durable uint64, err error) {
	u, err := a.begin(ref)
	if err != nil {
		return 0, 0, err
	}
	defer u.cancel()
	for first := 0; first < len(chunks); first += 1024 {
		missing, err := u.missing(chunks[first:min(first+1024, len(chunks))]...)
		if err != nil {
			return sent, u.durable, err
		}
		sent += len(missing)
		if err := u.put(missing...); err != nil {
			return sent, u.durable, err
		}
	}
	if err := u.flush(); err != nil {
		return sent, u.durable, err
	}
	return sent, u.durable, u.end()
}
