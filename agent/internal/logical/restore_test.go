package logical_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// vault is both sides of a transfer: it keeps chunks and one snapshot object,
// made with the keys of a real domain.
type vault struct {
	domain *repo.Domain
	job    repo.JobID

	mu      sync.Mutex
	chunks  map[seal.Name][]byte
	object  []byte
	refs    *repo.References
	streams int
	damaged seal.Name // a chunk that is there and cannot be opened
}

func newVault(t *testing.T) *vault {
	t.Helper()
	_, domain, _ := repotest.New(t, mem.New())
	return &vault{domain: domain, job: repo.NewID(), chunks: map[seal.Name][]byte{}}
}

func (v *vault) grant() job.Grant {
	k, e := v.domain.Keys(), v.domain.SealEpoch()
	return job.Grant{Domain: v.domain.ID(), NameKey: k.Name(), CutKey: k.Cut(), RefsKey: k.Refs(), SealKeys: map[uint32]seal.Key{e: k.Seal(e)},
		NewestEpoch: e, Cut: v.domain.Params()}
}

func (v *vault) upload(ctx context.Context, _ job.Job, fn func(context.Context, logical.Uploader) error) error {
	return fn(ctx, uploads{v})
}

func (v *vault) download(ctx context.Context, _ job.Job, streams int, fn func(context.Context, logical.Downloader) error) error {
	v.streams = streams
	return fn(ctx, downloads{v})
}

type uploads struct{ *vault }

func (u uploads) Buffer(context.Context) ([]byte, error) {
	return make([]byte, 0, u.domain.Params().Max), nil
}
func (u uploads) Release([]byte)                              {}
func (u uploads) Stream(context.Context) (dump.Stream, error) { return u, nil }
func (u uploads) Sent() int64                                 { return 0 }
func (u uploads) Stats() transfer.Stats                       { return transfer.Stats{} }
func (u uploads) Put(_ context.Context, _ seal.Kind, name seal.Name, plain []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.chunks[name] = bytes.Clone(plain)
	return nil
}

func (u uploads) PutCopy(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	return u.Put(ctx, kind, name, plain)
}

func (u uploads) Commit(_ context.Context, m transfer.Manifest) error {
	p, err := u.domain.PrepareSnapshot(repo.SnapshotHeader{Kind: repo.KindLogical, Complete: m.Complete, Instance: repo.NewID(), Job: u.job,
		Fence: repo.Fence{Epoch: 1, Counter: 1}, SealEpoch: m.SealEpoch}, m.References, m.Content, repo.Commit{})
	if err != nil {
		return err
	}
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // in memory
	u.object, err = io.ReadAll(r)
	return err
}

type downloads struct{ *vault }

func (d downloads) Fetched() int64 { return 11 }

func (d downloads) Snapshot(context.Context) ([]byte, error) {
	s, err := repo.DecodeSnapshot(d.object)
	if err != nil {
		return nil, err
	}
	if d.refs, err = s.OpenReferences(d.domain.Keys().Refs()); err != nil {
		return nil, err
	}
	return d.object, nil
}

func (d downloads) List(_ context.Context, i uint32) ([]byte, error) {
	plain, ok := d.chunks[d.refs.Lists[i].Name]
	if !ok {
		return nil, fmt.Errorf("list %d: frame does not open: %w", i, errs.Corrupt)
	}
	return plain, nil
}

func (d downloads) Missing(ctx context.Context, i uint32) ([]uint32, error) {
	plain, err := d.List(ctx, i)
	if err != nil {
		return nil, err
	}
	entries, err := repo.DecodeList(plain)
	var missing []uint32
	for at, e := range entries {
		if _, ok := d.chunks[e.Name]; !ok {
			missing = append(missing, uint32(at))
		}
	}
	return missing, err
}

func (d downloads) Stream(ctx context.Context, spans []repo.Span) iter.Seq2[transfer.Chunk, error] {
	return func(yield func(transfer.Chunk, error) bool) {
		for _, span := range spans {
			plain, err := d.List(ctx, span.List)
			if err != nil {
				yield(transfer.Chunk{}, err)
				return
			}
			entries, err := repo.DecodeList(plain)
			if err != nil {
				yield(transfer.Chunk{}, err)
				return
			}
			for i, e := range entries[span.First:][:span.Count] {
				d.mu.Lock()
				plain, ok := d.chunks[e.Name]
				d.mu.Unlock()
				if !ok || e.Name == d.damaged {
					yield(transfer.Chunk{}, fmt.Errorf("chunk %d of list %d: %w", i, span.List, errs.Corrupt))
					return
				}
				if !yield(transfer.Chunk{Entry: e, Plain: plain}, nil) {
					return
				}
			}
		}
	}
}

// backedUp makes a snapshot of a database with 12 rows.
func backedUp(t *testing.T, s *pgtest.Server) (*vault, string) {
	t.Helper()
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT generate_series(1, 12) AS i", "CREATE INDEX ON t (i)")
	v := newVault(t)
	r := logical.NewBackup(instances(s), v.upload, "v")(t.Context(), job.Job{ID: v.job, Grant: v.grant(), Backup: &job.Backup{Instance: "main", Databases: []string{db}}}, silent{})
	if r.Outcome != job.Succeeded {
		t.Fatalf("backup: %+v", r)
	}
	return v, db
}

func (v *vault) restore(change func(*job.Restore), from, to string) job.Job {
	r := &job.Restore{Instance: "main", Snapshot: v.job, Databases: []job.Mapping{{Source: from, Target: to}}, Jobs: 3}
	if change != nil {
		change(r)
	}
	return job.Job{ID: repo.NewID(), Grant: v.grant(), Restore: r}
}

func TestARestoreGivesBackWhatTheBackupTook(t *testing.T) {
	s := shared.Server(t)
	v, db := backedUp(t, s)
	to := pgtest.Unique("back")
	t.Cleanup(func() { s.DropDatabase(t, to) })
	run := logical.NewRestore(instances(s), v.download)

	dry := run(t.Context(), v.restore(func(r *job.Restore) { r.DryRun = true }, db, to), silent{})
	if dry.Outcome != job.Succeeded || !strings.Contains(strings.Join(dry.Plan, "\n"), "create database "+to+" from "+db+": 1 tables, 12 rows") || len(dry.Databases) != 0 {
		t.Errorf("dry run %+v", dry)
	}
	if n := s.Query(t, "postgres", "SELECT 1 FROM pg_database WHERE datname = '"+to+"'"); len(n) != 0 {
		t.Fatal("a dry run made a database")
	}
	r := run(t.Context(), v.restore(nil, db, to), silent{})
	if r.Outcome != job.Succeeded || r.Stats.Rows != 12 || r.Stats.TransferredBytes != 11 || r.Started.IsZero() || r.Ended.Before(r.Started) || v.streams != 4 {
		t.Fatalf("result %+v, %d streams", r, v.streams)
	}
	if d := r.Databases[0]; !d.Complete || d.Target != to || d.TablesCompared != 1 {
		t.Errorf("database %+v", d)
	}
	if n := s.Query(t, to, "SELECT sum(i) FROM t")[0][0]; n != "78" {
		t.Errorf("sum %s", n)
	}
	again := run(t.Context(), v.restore(func(r *job.Restore) { r.DryRun = true }, db, to), silent{})
	again.Problems = slices.DeleteFunc(again.Problems, func(p repo.Problem) bool { return p.Object == "server" }) // of an old minor version
	if again.Outcome != job.Failed || again.Retryable || !strings.Contains(again.Err, "exists already") || len(again.Problems) != 1 || again.Problems[0].Hint == "" || len(again.Plan) == 0 {
		t.Errorf("dry run over what exists %+v", again)
	}
}

func TestARestoreThatCannotBeDoneSaysWhy(t *testing.T) {
	s := shared.Server(t)
	v, db := backedUp(t, s)
	content, refs := func() (*repo.Content, *repo.References) {
		snap, err := repo.DecodeSnapshot(v.object)
		if err != nil {
			t.Fatal(err)
		}
		refs, err := snap.OpenReferences(v.domain.Keys().Refs())
		if err != nil {
			t.Fatal(err)
		}
		c, err := snap.OpenContent(v.domain.Keys().Seal(snap.Header.SealEpoch), refs)
		if err != nil {
			t.Fatal(err)
		}
		return c, refs
	}()
	table := content.Logical.Databases[0].Tables[0].Runs[0].Stream.Spans[0]
	list := refs.Lists[table.List].Name
	entries, err := repo.DecodeList(v.chunks[list])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(v *vault, j *job.Job)
		says   []string
	}{
		"no such instance":           {func(_ *vault, j *job.Job) { j.Restore.Instance = "other" }, []string{`instance "other"`}},
		"another snapshot":           {func(_ *vault, j *job.Job) { j.Restore.Snapshot = repo.NewID() }, []string{"another snapshot", "corrupt"}},
		"a damaged object":           {func(v *vault, _ *job.Job) { v.object = bytes.Clone(v.object); v.object[len(v.object)/2] ^= 1 }, []string{"corrupt"}},
		"no key of the epoch":        {func(_ *vault, j *job.Job) { j.Grant.SealKeys = nil }, []string{"no key of epoch"}},
		"a damaged list":             {func(v *vault, _ *job.Job) { delete(v.chunks, list) }, []string{"database " + db, "list", "corrupt"}},
		"a missing chunk of a table": {func(v *vault, _ *job.Job) { delete(v.chunks, entries[table.First].Name) }, []string{"table public.t", "rows cannot be read whole", "1 of", "in no pack", "corrupt"}},
		"a damaged chunk of a table": {func(v *vault, _ *job.Job) { v.damaged = entries[table.First].Name }, []string{"load table public.t", "corrupt", "was dropped"}},
		"no such database":           {func(_ *vault, j *job.Job) { j.Restore.Databases[0].Source = "nope" }, []string{"database nope", "no database of that name"}},
		"not a restore":              {func(_ *vault, j *job.Job) { j.Restore = nil }, []string{"is none"}},
	} {
		t.Run(name, func(t *testing.T) {
			own := &vault{domain: v.domain, job: v.job, object: v.object, chunks: map[seal.Name][]byte{}}
			for k, b := range v.chunks {
				own.chunks[k] = b
			}
			j := own.restore(nil, db, "never_made")
			c.change(own, &j)
			r := logical.NewRestore(instances(s), own.download)(t.Context(), j, silent{})
			if r.Outcome != job.Failed || r.Retryable || strings.Contains(r.Err, "\n") {
				t.Errorf("result %+v", r)
			}
			for _, w := range c.says {
				if !strings.Contains(r.Err, w) {
					t.Errorf("%q is not in: %s", w, r.Err)
				}
			}
			if n := s.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname = 'never_made' OR datname LIKE 'tuskvault%'"); len(n) != 0 {
				t.Errorf("left behind: %v", n)
			}
		})
	}
}

func TestACanceledRestoreSaysSo(t *testing.T) {
	s := shared.Server(t)
	v, db := backedUp(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	download := func(ctx context.Context, j job.Job, streams int, fn func(context.Context, logical.Downloader) error) error {
		return v.download(ctx, j, streams, func(ctx context.Context, d logical.Downloader) error {
			return fn(ctx, canceling{d, func() { cancel(fmt.Errorf("the operator canceled it: %w", errs.Canceled)) }})
		})
	}
	r := logical.NewRestore(instances(s), download)(ctx, v.restore(nil, db, "canceled"), silent{})
	if r.Outcome != job.Canceled || !strings.Contains(r.Err, "the operator canceled it") {
		t.Errorf("result %+v", r)
	}
	if n := s.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'tuskvault%'"); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

// canceling cancels the job when the first rows are asked for.
type canceling struct {
	logical.Downloader
	cancel func()
}

func (c canceling) Stream(ctx context.Context, spans []repo.Span) iter.Seq2[transfer.Chunk, error] {
	return func(yield func(transfer.Chunk, error) bool) {
		for x, err := range c.Downloader.Stream(ctx, spans) {
			if err == nil && x.Entry.Kind == seal.KindRowsText {
				c.cancel()
				<-ctx.Done()
				err = context.Cause(ctx)
			}
			if !yield(x, err) || errors.Is(err, errs.Canceled) {
				return
			}
		}
	}
}
