package logical_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
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

// controller is an upload side that keeps what is committed.
type controller struct {
	mu     sync.Mutex
	chunks int64
	got    *transfer.Manifest
	refuse error
}

func (c *controller) upload(ctx context.Context, _ job.Job, fn func(context.Context, logical.Uploader) error) error {
	return fn(ctx, c)
}

func (c *controller) Buffer(context.Context) ([]byte, error) {
	return make([]byte, 0, chunk.DefaultParams.Max), nil
}
func (c *controller) Release([]byte)                              {}
func (c *controller) Stream(context.Context) (dump.Stream, error) { return c, nil }
func (c *controller) Sent() int64                                 { return 1 }
func (c *controller) Stats() transfer.Stats                       { return transfer.Stats{Chunks: c.chunks, SentBytes: 7} }
func (c *controller) Commit(_ context.Context, m transfer.Manifest) error {
	if c.refuse != nil {
		return c.refuse
	}
	c.got = &m
	return nil
}

func (c *controller) Put(context.Context, seal.Kind, seal.Name, []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks++
	return nil
}

func (c *controller) PutCopy(ctx context.Context, k seal.Kind, n seal.Name, b []byte) error {
	return c.Put(ctx, k, n, bytes.Clone(b))
}

type silent struct{}

func (silent) Progress(job.Progress) {}
func (silent) Log(string, string)    {}

func backupOf(databases ...string) job.Job {
	return job.Job{
		ID: repo.NewID(), Backup: &job.Backup{Instance: "main", Databases: databases},
		Grant: job.Grant{Domain: seal.DomainID{9}, NameKey: seal.Key{1}, CutKey: seal.Key{2}, RefsKey: seal.Key{3},
			SealKeys: map[uint32]seal.Key{4: {5}}, NewestEpoch: 4, Cut: chunk.DefaultParams},
	}
}

func instances(s *pgtest.Server) logical.Instances {
	return func(name string) (postgres.Config, bool) {
		return postgres.Config{Name: name, Host: s.Dir, Port: s.Port, User: pgtest.Superuser, SSLMode: "disable", ToolDirs: []string{s.Bin}}, name == "main"
	}
}

func TestABackupCommitsASealedManifest(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE t AS SELECT generate_series(1, 12) AS i")
	c := &controller{}
	j := backupOf(db)
	r := logical.NewBackup(instances(s), c.upload, "v1.2.3")(t.Context(), j, silent{})
	if r.Outcome != job.Succeeded || r.Err != "" || r.Stats.Rows != 12 || r.Stats.Chunks == 0 || r.Stats.TransferredBytes != 7 || r.Started.IsZero() || r.Ended.Before(r.Started) {
		t.Fatalf("result %+v", r)
	}
	if len(r.Databases) != 1 || !r.Databases[0].Complete || r.Databases[0].Rows != 12 || r.Databases[0].Tables != 1 {
		t.Errorf("databases %+v", r.Databases)
	}
	if !c.got.Complete || c.got.SealEpoch != 4 {
		t.Errorf("manifest %+v", c.got)
	}
	refs, err := repo.OpenReferences(c.got.References, seal.Key{3}, seal.DomainID{9}, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	content, err := repo.OpenContent(c.got.Content, seal.Key{5}, seal.DomainID{9}, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Validate(refs); err != nil {
		t.Error(err)
	}
	if content.Agent != "v1.2.3" || content.Logical.Databases[0].Tables[0].Rows != 12 {
		t.Errorf("content %+v", content)
	}
}

func TestABackupWithoutOneOfItsDatabasesIsKeptAndFails(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	c := &controller{}
	r := logical.NewBackup(instances(s), c.upload, "v")(t.Context(), backupOf(db, "missing"), silent{})
	if r.Outcome != job.Failed || !strings.Contains(r.Err, "missing: no such database") || r.Retryable || len(r.Databases) != 2 || len(r.Problems) != 1 {
		t.Errorf("result %+v", r)
	}
	if c.got == nil || c.got.Complete {
		t.Errorf("manifest %+v", c.got)
	}
}

func TestABackupThatReadsNothingCommitsNothing(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	lock := fmt.Errorf("commit: %w", errs.Unavailable)
	for name, tc := range map[string]struct {
		job       job.Job
		change    func(*postgres.Config)
		refuse    error
		says      string
		retryable bool
		hint      bool
	}{
		"no such database":       {backupOf("nowhere"), nil, nil, "no such database", false, true},
		"no such instance":       {job.Job{Backup: &job.Backup{Instance: "other"}}, nil, nil, `instance "other"`, false, false},
		"server down":            {backupOf(db), func(c *postgres.Config) { c.Port = 1 }, nil, "no such file or directory", true, true},
		"wrong role":             {backupOf(db), func(c *postgres.Config) { c.User = "nobody" }, nil, "does not exist", false, true},
		"the controller is gone": {backupOf(db), nil, lock, "unavailable", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := &controller{refuse: tc.refuse}
			find := func(name string) (postgres.Config, bool) {
				cfg, ok := instances(s)(name)
				if tc.change != nil {
					tc.change(&cfg)
				}
				return cfg, ok
			}
			r := logical.NewBackup(find, c.upload, "v")(t.Context(), tc.job, silent{})
			if r.Outcome != job.Failed || !strings.Contains(r.Err, tc.says) || strings.Contains(r.Err, "\n") || r.Retryable != tc.retryable || c.got != nil {
				t.Errorf("result %+v", r)
			}
			if tc.hint && (len(r.Problems) == 0 || r.Problems[0].Hint == "") {
				t.Errorf("problems %+v", r.Problems)
			}
		})
	}
}

func TestACanceledBackupSaysSo(t *testing.T) {
	s := shared.Server(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("the operator canceled it: %w", errs.Canceled))
	c := &controller{}
	r := logical.NewBackup(instances(s), c.upload, "v")(ctx, backupOf(), silent{})
	if r.Outcome != job.Canceled || !strings.Contains(r.Err, "the operator canceled it") || c.got != nil {
		t.Errorf("result %+v", r)
	}
}
