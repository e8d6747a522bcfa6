// Package transfertest has a controller's ChunkService in memory, for tests of
// what moves chunks. It keeps to the wire strictly: it counts credit both ways
// and refuses what goes beyond, and it can be told to fail, to be slow and to
// break off.
package transfertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Controller is a ChunkService in memory with one domain.
type Controller struct {
	tuskvaultv1.UnimplementedChunkServiceServer
	// Window is the credit of upload streams at their start. Set it before use.
	Window int64
	// Latency is how long each answer to a question takes, without holding up
	// the next. Set it before use.
	Latency time.Duration

	repository *repo.Repository
	domain     *repo.Domain
	issuer     *pki.Issuer

	mu        sync.Mutex
	hook      func(n int, message any) error
	messages  int
	frames    map[seal.Name][]byte
	received  map[seal.Name]int
	snapshots map[repo.JobID][]byte
	commits   int
}

// New makes a controller with chunks cut by params.
func New(ctx context.Context, params chunk.Params) (*Controller, error) {
	repository, err := repo.Init(ctx, mem.New(), repo.Options{Unlocker: seal.NewKeyFile(), Name: "test", ChunkParams: params})
	if err != nil {
		return nil, err
	}
	id, err := repository.CreateDomain(ctx)
	if err != nil {
		return nil, err
	}
	domain, err := repository.Domain(ctx, id)
	if err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(repository.ID(), time.Now())
	if err != nil {
		return nil, err
	}
	issuer, err := root.Issuer(1, time.Now())
	if err != nil {
		return nil, err
	}
	return &Controller{
		Window: 4 << 20, repository: repository, domain: domain, issuer: issuer,
		frames: map[seal.Name][]byte{}, received: map[seal.Name]int{}, snapshots: map[repo.JobID][]byte{},
	}, nil
}

// Serve serves in memory and gives a connection of an agent. Stop ends both.
func (c *Controller) Serve() (conn *grpc.ClientConn, stop func(), err error) {
	config, err := pki.ServerTLS(c.issuer.Root(), pki.NewServerCertificate(c.issuer, 24*time.Hour).Certificate)
	if err != nil {
		return nil, nil, err
	}
	server := rpc.NewServer(rpc.ServerOptions{TLS: config, Log: zap.NewNop()})
	tuskvaultv1.RegisterChunkServiceServer(server, c)
	l := bufconn.Listen(1 << 20)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) }) // ends with Stop
	conn, err = c.dial(l)
	if err != nil {
		server.Stop()
		return nil, nil, err
	}
	return conn, func() {
		_ = conn.Close() // nothing to be lost
		server.Stop()
		served.Wait()
	}, nil
}

func (c *Controller) dial(l *bufconn.Listener) (*grpc.ClientConn, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return nil, err
	}
	chain, err := c.issuer.IssueAgent(csr, repo.NewID(), time.Now(), 24*time.Hour)
	if err != nil {
		return nil, err
	}
	identity, err := pki.NewIdentity(key, chain.Certificates, c.issuer.Root().Raw, time.Now())
	if err != nil {
		return nil, err
	}
	config, err := identity.ClientTLS()
	if err != nil {
		return nil, err
	}
	return rpc.Dial("controller.test:1", config, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
}

// Backup gives an attempt of a backup.
func (c *Controller) Backup(id repo.JobID, counter uint64) job.Job {
	return job.Job{ID: id, Fence: repo.Fence{Epoch: 1, Counter: counter}, Grant: convert(c.domain.WriteGrant()), Backup: &job.Backup{}}
}

// Restore gives an attempt of a restore of a snapshot.
func (c *Controller) Restore(snapshot repo.JobID) (job.Job, error) {
	g, err := c.domain.ReadGrant(repo.EpochsUpTo(c.domain.SealEpoch()))
	if err != nil {
		return job.Job{}, err
	}
	return job.Job{ID: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 1}, Grant: convert(g), Restore: &job.Restore{Snapshot: snapshot}}, nil
}

func convert(g repo.Grant) job.Grant {
	return job.Grant{Domain: g.Domain, NameKey: g.Name, CutKey: g.Cut, RefsKey: g.Refs, SealKeys: g.Seal, NewestEpoch: g.NewestEpoch, Cut: g.Params}
}

// Received tells how often a chunk was put.
func (c *Controller) Received(n seal.Name) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received[n]
}

// Chunks is the number of chunks stored.
func (c *Controller) Chunks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.frames)
}

// Commits is the number of commits that came.
func (c *Controller) Commits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// Change replaces a stored frame by what fn makes of it; nil removes it.
func (c *Controller) Change(n seal.Name, fn func([]byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := fn(append([]byte(nil), c.frames[n]...))
	if frame == nil {
		delete(c.frames, n)
		return
	}
	c.frames[n] = frame
}

// SetHook has fn called for each message of an agent from now on, with its
// number, counted from 1 over all streams; its error ends that stream.
func (c *Controller) SetHook(fn func(n int, message any) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook, c.messages = fn, 0
}

// message counts a message and asks the hook.
func (c *Controller) message(m any) error {
	c.mu.Lock()
	c.messages++
	n, hook := c.messages, c.hook
	c.mu.Unlock()
	if hook != nil {
		return hook(n, m)
	}
	return nil
}

// Commit implements the service: it keeps the snapshot under the job's id.
func (c *Controller) Commit(stream grpc.ClientStreamingServer[tuskvaultv1.CommitRequest, tuskvaultv1.CommitResponse]) error {
	var begin *tuskvaultv1.CommitBegin
	var references, content []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = c.message(m)
		}
		if err != nil {
			return err
		}
		if m.GetBegin() != nil {
			begin = m.GetBegin()
		}
		references, content = append(references, m.GetReferences()...), append(content, m.GetContent()...)
	}
	id, err := repo.ParseID(begin.GetAttempt().GetJobId())
	if err != nil {
		return err
	}
	if int64(len(references)) != begin.GetReferencesBytes() || int64(len(content)) != begin.GetContentBytes() {
		return fmt.Errorf("parts of %d and %d bytes", len(references), len(content))
	}
	prepared, err := c.domain.PrepareSnapshot(repo.SnapshotHeader{
		Kind: repo.KindLogical, Complete: begin.GetComplete(), Instance: repo.NewID(), Job: id,
		Fence:     repo.Fence{Epoch: begin.GetAttempt().GetEpoch(), Counter: begin.GetAttempt().GetCounter()},
		SealEpoch: begin.GetSealEpoch(),
	}, references, content, repo.Commit{Time: time.Now()})
	if err != nil {
		return err
	}
	r, err := prepared.Open()
	if err != nil {
		return err
	}
	object, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.commits++
	c.snapshots[id] = object
	c.mu.Unlock()
	return stream.SendAndClose(&tuskvaultv1.CommitResponse{SnapshotId: id.String()})
}

func hashOf(frame []byte) [32]byte { return sha256.Sum256(frame) }
