package drill_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"iter"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/agent/internal/drill"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/report"
	"github.com/tuskvault/tuskvault/internal/seal"
)

var shared pgtest.Shared

func TestMain(m *testing.M) {
	code := shared.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// vault keeps the chunks of one snapshot and its object, made with the keys of a
// real domain.
type vault struct {
	domain *repo.Domain
	job    repo.JobID
	// bend, if set, changes what is given out of a chunk.
	bend func(ctx context.Context, kind seal.Kind, plain []byte) ([]byte, error)

	mu     sync.Mutex
	chunks map[seal.Name][]byte
	object []byte
	refs   *repo.References
}

func (v *vault) grant() job.Grant {
	k, e := v.domain.Keys(), v.domain.SealEpoch()
	return job.Grant{Domain: v.domain.ID(), NameKey: k.Name(), CutKey: k.Cut(), RefsKey: k.Refs(), SealKeys: map[uint32]seal.Key{e: k.Seal(e)},
		NewestEpoch: e, Cut: v.domain.Params()}
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
		return nil, fmt.Errorf("list %d: %w", i, errs.Corrupt)
	}
	return plain, nil
}

// Missing knows of nothing: what is damaged here is found when it is read.
func (d downloads) Missing(context.Context, uint32) ([]uint32, error) { return nil, nil }

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
			for _, e := range entries[span.First:][:span.Count] {
				d.mu.Lock()
				plain := bytes.Clone(d.chunks[e.Name])
				d.mu.Unlock()
				if d.bend != nil {
					if plain, err = d.bend(ctx, e.Kind, plain); err != nil {
						yield(transfer.Chunk{}, err)
						return
					}
				}
				if !yield(transfer.Chunk{Entry: e, Plain: plain}, nil) {
					return
				}
			}
		}
	}
}

// backUp makes a snapshot of databases.
func backUp(t *testing.T, s *pgtest.Server, databases ...string) *vault {
	t.Helper()
	_, domain, _ := repotest.New(t, mem.New())
	v := &vault{domain: domain, job: repo.NewID(), chunks: map[seal.Name][]byte{}}
	upload := func(ctx context.Context, _ job.Job, fn func(context.Context, logical.Uploader) error) error {
		return fn(ctx, uploads{v})
	}
	find := func(string) (postgres.Config, bool) { return config(s), true }
	r := logical.NewBackup(find, upload, "v")(t.Context(), job.Job{ID: v.job, Grant: v.grant(), Backup: &job.Backup{Instance: "main", Databases: databases}}, silent{})
	if r.Outcome != job.Succeeded {
		t.Fatalf("backup: %+v", r)
	}
	return v
}

func config(s *pgtest.Server) postgres.Config {
	return postgres.Config{Name: "main", Host: s.Dir, Port: s.Port, User: pgtest.Superuser, SSLMode: "disable", ToolDirs: []string{s.Bin}}
}

type silent struct{}

func (silent) Progress(job.Progress) {}
func (silent) Log(string, string)    {}

// reachable is a folder that the server's user can pass through.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tuskvault-drill-test-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// options are those of a ground below dir, for a snapshot.
func options(t *testing.T, dir string, s *pgtest.Server, v *vault) drill.Options {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	self := repo.NewID()
	return drill.Options{Base: filepath.Join(dir, "d"), ToolDirs: []string{s.Bin}, Instances: []postgres.Config{config(s)}, Version: "v",
		Preload: []string{"pg_stat_statements"}, Log: zaptest.NewLogger(t),
		Self: func() repo.AgentID { return self }, Repository: func() repo.RepositoryID { return repo.RepositoryID{1} },
		Sign: func(b []byte) (report.Signed, error) { return report.Sign(b, key, cert) },
		Download: func(ctx context.Context, _ job.Job, _ int, fn func(context.Context, logical.Downloader) error) error {
			return fn(ctx, downloads{v})
		}}
}

// ground is where a test holds its drills.
func ground(t *testing.T, o drill.Options) *drill.Ground {
	t.Helper()
	g := drill.New(o)
	t.Cleanup(func() {
		g.Close()
		nothingLeft(t, o.Base)
	})
	return g
}

// nothingLeft wants no folder and no process of a drill.
func nothingLeft(t *testing.T, base string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(base, "drill-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left := running(t, base); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// running lists processes that work below a folder.
func running(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range links {
		if cwd, err := os.Readlink(l); err == nil && strings.HasPrefix(cwd, dir) {
			all = append(all, l+" "+cwd)
		}
	}
	return all
}

func (v *vault) drill(change func(d *job.Drill)) job.Job {
	d := &job.Drill{Snapshot: v.job, Jobs: 2}
	if change != nil {
		change(d)
	}
	return job.Job{ID: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 7}, Grant: v.grant(), Drill: d}
}

// held holds a drill and reads its report.
func held(t *testing.T, g *drill.Ground, j job.Job) (job.Result, *report.Report) {
	t.Helper()
	r := g.Execute(t.Context(), j, silent{})
	if r.Drill == nil {
		t.Fatalf("no report: %+v", r)
	}
	rep, err := r.Drill.Verify()
	if err != nil {
		t.Fatal(err)
	}
	if (r.Outcome == job.Succeeded) != (rep.Verdict == report.Passed) || r.Outcome != job.Succeeded && r.Err == "" {
		t.Errorf("outcome %s (%s), verdict %s", r.Outcome, r.Err, rep.Verdict)
	}
	return r, rep
}
