package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

type commitStream = grpc.ClientStreamingServer[tuskvaultv1.CommitRequest, tuskvaultv1.CommitResponse]

// Commit makes a snapshot exist, in this order:
//
//  1. The manifest's parts are received and opened. Nothing is durable yet.
//  2. The job's packs that no index file covers are read back and covered by one;
//     the directories of its other packs are read back. Every list chunk is read,
//     and every chunk that it names is looked for among what this instance may
//     name. After a crash here the chunks are there, for the next attempt.
//  3. The journal records the commit with the object's hash, in the transaction
//     that checks that the attempt is current. After a crash here recovery finds
//     no object and takes the record back.
//  4. The store takes the snapshot object, if there is none: now the snapshot
//     exists. After a crash here recovery finds the object and does step 5.
//  5. The object is read back, and the journal records the snapshot from it.
//
// The same attempt may repeat a commit with the same parts.
func (s *Server) Commit(stream commitStream) error {
	m, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	begin := m.GetBegin()
	if begin == nil {
		return fmt.Errorf("commit: first message is not begin: %w", errs.Invalid)
	}
	g, err := s.authorize(stream.Context(), begin.GetAttempt(), KindBackup)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	peer, err := caller(stream.Context())
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	dom, err := s.domain(stream.Context(), g.Domain)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	c := &commit{s: s, grant: g, peer: peer, dom: dom, begin: begin}
	if err := c.check(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.watch(stream.Context(), begin.GetAttempt(), KindBackup, func(ctx context.Context) error {
		return c.run(ctx, stream)
	}); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return stream.SendAndClose(&tuskvaultv1.CommitResponse{SnapshotId: g.Job.String()})
}

// commit is one call.
type commit struct {
	s     *Server
	grant Grant
	peer  pki.Peer
	dom   *domain
	job   *jobState
	begin *tuskvaultv1.CommitBegin
}

// check refuses what begin says before anything is received.
func (c *commit) check() error {
	b := c.begin
	switch {
	case b.GetReferencesBytes() <= 0 || b.GetReferencesBytes() > repo.MaxSealedReferences:
		return fmt.Errorf("references of %d bytes: %w", b.GetReferencesBytes(), errs.Invalid)
	case b.GetContentBytes() <= 0 || b.GetContentBytes() > repo.MaxSealedContent:
		return fmt.Errorf("content of %d bytes: %w", b.GetContentBytes(), errs.Invalid)
	case repo.SnapshotKind(b.GetKind()) != repo.KindLogical:
		return fmt.Errorf("snapshot of kind %q: %w", b.GetKind(), errs.Unsupported)
	case b.GetSealEpoch() != c.epoch():
		return fmt.Errorf("content sealed in epoch %d, the attempt was given epoch %d: %w", b.GetSealEpoch(), c.epoch(), errs.Denied)
	}
	return nil
}

func (c *commit) epoch() uint32 {
	if c.grant.SealEpoch != 0 {
		return c.grant.SealEpoch
	}
	return c.dom.SealEpoch()
}

func (c *commit) run(ctx context.Context, stream commitStream) error {
	// One at a time for each job: that bounds the spool too.
	if err := c.s.beginSettling(ctx, c.grant.Job); err != nil {
		return err
	}
	defer c.s.endSettling(c.grant.Job)
	spool, err := os.CreateTemp(c.s.o.SpoolDir, "commit-*.spool")
	if err != nil {
		return fmt.Errorf("spool the manifest: %w", err)
	}
	// The file is only read back here: that it cannot be removed harms nothing but
	// the disk, and the next start removes it.
	defer func() { _ = errors.Join(spool.Close(), os.Remove(spool.Name())) }()
	if err := c.receive(stream, spool); err != nil {
		return fmt.Errorf("receive the manifest: %w", err)
	}
	// From here on the parts are in memory: few at a time.
	if err := c.s.commits.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer c.s.commits.Release(1)
	both := make([]byte, c.begin.GetReferencesBytes()+c.begin.GetContentBytes())
	if _, err := spool.ReadAt(both, 0); err != nil {
		return fmt.Errorf("read the manifest back: %w", err)
	}
	references, content := both[:c.begin.GetReferencesBytes()], both[c.begin.GetReferencesBytes():]
	if c.job, err = c.s.enterJob(c.grant, c.dom); err != nil {
		return err
	}
	defer c.s.leaveJob(c.job)
	if err := c.verify(ctx, references, content); err != nil {
		return err
	}
	return c.put(ctx, references, content)
}

// receive takes the parts: references, then content, each of the length announced.
func (c *commit) receive(stream commitStream, w io.Writer) error {
	references, content := c.begin.GetReferencesBytes(), c.begin.GetContentBytes()
	for references > 0 || content > 0 {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it breaks off: %w", errs.Invalid)
		}
		if err != nil {
			return err
		}
		piece, left := m.GetReferences(), &references
		if references == 0 {
			piece, left = m.GetContent(), &content
		}
		if len(piece) == 0 || int64(len(piece)) > *left {
			return fmt.Errorf("piece of %d bytes where %d are left: %w", len(piece), *left, errs.Invalid)
		}
		*left -= int64(len(piece))
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if m, err := stream.Recv(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("something follows its end: %w", errs.Invalid)
		}
		_ = m
		return err
	}
	return nil
}

// put does steps 3 to 5. It runs to its end although the agent may go: a
// snapshot whose fate is unknown keeps its job from ending.
func (c *commit) put(ctx context.Context, references, content []byte) error {
	ctx, end := c.s.detached(ctx)
	defer end()
	number, err := c.s.o.Journal.LogNumber(ctx)
	if err != nil {
		return err
	}
	prepared, err := c.dom.PrepareSnapshot(repo.SnapshotHeader{
		Kind:      repo.KindLogical,
		Complete:  c.begin.GetComplete(),
		Instance:  c.grant.Instance,
		Job:       c.grant.Job,
		Fence:     c.grant.Fence,
		SealEpoch: c.begin.GetSealEpoch(),
	}, references, content, repo.Commit{
		Agent:       repo.AgentID(c.peer.Agent),
		Certificate: c.peer.Fingerprint,
		Time:        time.Now(),
		LogNumber:   number,
	})
	if err != nil {
		return err
	}
	state := Committing{Job: c.grant.Job, Fence: c.grant.Fence, Instance: c.grant.Instance, Domain: c.grant.Domain, Object: prepared.Hash()}
	if err := c.s.o.Journal.Committing(ctx, state); err != nil {
		return err
	}
	result, putErr := c.dom.PutSnapshot(ctx, prepared)
	if putErr != nil {
		return c.unclear(ctx, state, putErr)
	}
	return c.s.settle(ctx, state, result.Outcome)
}

// unclear handles a put that failed: when the store refused it, and the object
// is not there, the commit is taken back; when the store did not answer, it
// stays as it is and Run finds out later.
func (c *commit) unclear(ctx context.Context, state Committing, putErr error) error {
	result, err := c.dom.ResolveSnapshot(ctx, state.Instance, state.Job, state.Fence, state.Object)
	switch {
	case err != nil || result.Outcome == repo.OutcomeUnknown && ambiguous(putErr):
		return errors.Join(putErr, err)
	case result.Outcome == repo.OutcomeUnknown:
		return errors.Join(putErr, c.s.o.Journal.Uncommitted(ctx, state.Job, state.Fence))
	}
	return c.s.settle(ctx, state, result.Outcome)
}
