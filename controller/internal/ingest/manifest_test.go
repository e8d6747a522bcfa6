package ingest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// manifest is what a backup of one table commits.
type manifest struct {
	job                 repo.JobID
	lists               []chunkFrame
	refs                *repo.References
	references, content []byte
	epoch               uint32
	complete            bool
}

// manifest makes the manifest of a database with one table of these chunks, and
// the list chunks it needs.
func (a *agent) manifest(job repo.JobID, chunks []chunkFrame) *manifest {
	a.w.t.Helper()
	m := &manifest{job: job, epoch: a.grant.NewestEpoch, complete: true}
	put := func(_ context.Context, plain []byte) (seal.Name, error) {
		c := a.chunk(seal.KindList, plain)
		m.lists = append(m.lists, c)
		return c.name, nil
	}
	builder := repo.NewListBuilder()
	db := builder.Database()
	archive := db.Run(repo.RunOrder{})
	must(a.w.t, archive.Add(a.w.t.Context(), a.entry(a.archive()), put))
	must(a.w.t, archive.End(a.w.t.Context(), put))
	run := db.Run(repo.RunOrder{Object: 16384})
	for _, c := range chunks {
		must(a.w.t, run.Add(a.w.t.Context(), a.entry(c), put))
	}
	must(a.w.t, run.End(a.w.t.Context(), put))
	must(a.w.t, db.Finish(a.w.t.Context(), put))
	m.refs = builder.References()
	content := &repo.Content{
		Kind: repo.KindLogical, Started: time.Now(), Finished: time.Now(),
		Instance: repo.InstanceFacts{Name: "main", SystemIdentifier: 42, Version: 180001},
		Logical: &repo.Logical{Databases: []repo.Database{{
			Name: "app", State: repo.DatabaseComplete, Time: time.Now(),
			Archive: &repo.Archive{FormatVersion: "1.16", Stream: archive.Stream()},
			Tables: []repo.Table{{OID: 16384, Schema: "public", Name: "t", Rows: run.Rows(), Fingerprint: run.Fingerprint(),
				Runs: []repo.Run{{Stream: run.Stream(), Rows: run.Rows(), Fingerprint: run.Fingerprint()}}}},
		}}},
	}
	a.seal(m, content)
	return m
}

func (a *agent) seal(m *manifest, content *repo.Content) {
	a.w.t.Helper()
	var err error
	m.references, err = repo.SealReferences(m.refs, a.grant.Refs, a.domain, m.job)
	must(a.w.t, err)
	m.content, err = repo.SealContent(content, a.grant.Seal[m.epoch], a.domain, m.job)
	must(a.w.t, err)
}

func (a *agent) archive() chunkFrame { return a.chunk(seal.KindArchive, []byte("PGDMP schema")) }

func (a *agent) entry(c chunkFrame) repo.ListEntry {
	e := repo.ListEntry{Kind: c.kind, Name: c.name, Length: uint32(len(c.plain))}
	if c.kind == seal.KindRowsText {
		e.Rows = 1
		e.Fingerprint.Add(chunk.HashRow(c.plain))
	}
	return e
}

func (a *agent) commit(ref *tuskvaultv1.AttemptRef, m *manifest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.w.t.Context()), 10*time.Minute)
	defer cancel()
	rpc, err := a.client.Commit(ctx)
	if err != nil {
		return err
	}
	_ = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Begin{Begin: &tuskvaultv1.CommitBegin{
		Attempt: ref, ReferencesBytes: int64(len(m.references)), ContentBytes: int64(len(m.content)),
		Kind: "logical", Complete: m.complete, SealEpoch: m.epoch}}})
	_ = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_References{References: m.references}})
	_ = rpc.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Content{Content: m.content}})
	answer, err := rpc.CloseAndRecv()
	if err == nil && answer.GetSnapshotId() != m.job.String() {
		return fmt.Errorf("committed %q", answer.GetSnapshotId())
	}
	return err
}

// backup stores chunks and commits them.
func (a *agent) backup(job repo.JobID, counter uint64, chunks []chunkFrame) (sent int, durable uint64, err error) {
	ref := a.lease(job, counter)
	m := a.manifest(job, chunks)
	all := append([]chunkFrame{a.archive()}, chunks...)
	sent, durable, err = a.store(ref, append(all, m.lists...)...)
	if err != nil {
		return sent, durable, err
	}
	return sent, durable, a.commit(ref, m)
}

// restore downloads a snapshot and gives the plaintext of all chunks of its
// lists, in order.
func (a *agent) restore(snapshot repo.JobID, of repo.InstanceID) ([][]byte, error) {
	ref := a.leaseRestore(snapshot, of)
	d, err := a.download(ref, true)
	if err != nil {
		return nil, err
	}
	defer d.cancel()
	object, err := d.object()
	if err != nil {
		return nil, err
	}
	s, err := repo.DecodeSnapshot(object)
	if err != nil {
		return nil, err
	}
	refs, err := s.OpenReferences(a.grant.Refs)
	if err != nil {
		return nil, err
	}
	opener := seal.NewOpener(a.domain, a.grant.Name, a.grant.Refs, a.grant.Seal, repo.MaxListBytes+1<<20)
	var all [][]byte
	for i, l := range refs.Lists {
		frames, err := d.ask(&tuskvaultv1.DownloadRange{List: uint32(i), ListChunk: true}, 1)
		if err != nil {
			return nil, err
		}
		plain, err := opener.Open(nil, frames[0], seal.KindList, l.Name)
		if err != nil {
			return nil, err
		}
		entries, err := repo.DecodeList(plain)
		if err != nil {
			return nil, err
		}
		frames, err = d.ask(&tuskvaultv1.DownloadRange{List: uint32(i), Count: l.Entries}, int(l.Entries))
		if err != nil {
			return nil, err
		}
		for j, e := range entries {
			plain, err := opener.Open(nil, frames[j], e.Kind, e.Name)
			if err != nil {
				return nil, err
			}
			all = append(all, plain)
		}
	}
	return all, nil
}

type download struct {
	rpc      tuskvaultv1.ChunkService_DownloadClient
	cancel   context.CancelFunc
	sequence uint64
}

func (a *agent) download(ref *tuskvaultv1.AttemptRef, snapshot bool) (*download, error) {
	if a.client == nil {
		a.client = tuskvaultv1.NewChunkServiceClient(a.w.connect(a))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.w.t.Context()), time.Minute)
	a.w.t.Cleanup(cancel)
	rpc, err := a.client.Download(ctx)
	if err != nil {
		return nil, err
	}
	_ = rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Begin{Begin: &tuskvaultv1.DownloadBegin{
		Attempt: ref, WantSnapshot: snapshot, WindowBytes: 2 << 20}}})
	return &download{rpc: rpc, cancel: cancel}, nil
}

func (d *download) object() ([]byte, error) {
	var object []byte
	for {
		m, err := d.rpc.Recv()
		if err != nil {
			return nil, err
		}
		object = append(object, m.GetSnapshot().GetData()...)
		if m.GetSnapshot().GetLast() {
			return object, nil
		}
	}
}

// ask asks for a range and gives its frames.
func (d *download) ask(r *tuskvaultv1.DownloadRange, n int) ([][]byte, error) {
	d.sequence++
	r.Sequence = d.sequence
	_ = d.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Range{Range: r}})
	var frames [][]byte
	for len(frames) < n {
		m, err := d.rpc.Recv()
		if err != nil {
			return nil, err
		}
		var bytes int64
		for _, f := range m.GetFrames().GetFrames() {
			bytes += int64(len(f))
		}
		frames = append(frames, m.GetFrames().GetFrames()...)
		_ = d.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Credit{Credit: &tuskvaultv1.DownloadCredit{Bytes: bytes}}})
	}
	return frames, nil
}
