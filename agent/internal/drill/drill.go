package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
)

// defaultTime bounds a drill for which nobody has said how long it may take.
const defaultTime = 24 * time.Hour

// roomEvery is how often the free disk is looked at.
const roomEvery = 2 * time.Second

// errOverTime ends a drill that takes too long. Another attempt would too.
var errOverTime = fmt.Errorf("the drill took longer than it may: %w", errs.Timeout)

// Execute is the executor of drills; see the package comment for what it leaves
// when. It returns when the server and the folder are gone.
func (g *Ground) Execute(ctx context.Context, j job.Job, r job.Reporter) job.Result {
	if j.Drill == nil {
		return job.FailedResult(ctx, fmt.Errorf("drill: job %s is none: %w", j.ID.Short(), errs.Invalid))
	}
	rec := g.newRecord(j, r)
	limit := j.Drill.Timeout
	if limit <= 0 {
		limit = defaultTime
	}
	ctx, stop := context.WithTimeoutCause(ctx, limit, errOverTime)
	defer stop()
	// One stream for each session that loads, one for what is read beside them.
	err := g.o.Download(ctx, j, plan.Jobs(j.Drill.Jobs)+1, func(ctx context.Context, d logical.Downloader) error {
		defer func() { rec.TransferredBytes = d.Fetched() }()
		content, err := logical.OpenSnapshot(ctx, j.Drill.Snapshot, j.Grant, d)
		if err != nil {
			return err
		}
		if content.Logical == nil {
			return fmt.Errorf("drill of a snapshot of kind %q: %w", content.Kind, errs.Unsupported)
		}
		if err := rec.expect(content, *j.Drill); err != nil {
			return err
		}
		return g.hold(ctx, j, d, content, rec)
	})
	return g.result(ctx, rec, err)
}

// hold holds the drill once it is known what to restore.
func (g *Ground) hold(ctx context.Context, j job.Job, d logical.Downloader, content *repo.Content, rec *record) (err error) {
	programs, ok := postgres.ServerFor(postgres.FindServers(ctx, g.o.ToolDirs), content.Instance.Version)
	if !ok {
		major := content.Instance.Version.Major()
		return postgres.WithHint(fmt.Errorf("this host has no server programs of PostgreSQL %d or later: %w", major, errs.NotFound),
			fmt.Sprintf("install postgresql-%d (Debian, Ubuntu) or postgresql%d-server (Red Hat)", major, major))
	}
	rec.Host.ServerVersion, rec.Host.ServerFolder = int(programs.Version), programs.Folder
	if programs.Version.Major() != content.Instance.Version.Major() {
		rec.reporter.Log("warn", fmt.Sprintf("no PostgreSQL %d here, restoring into %s", content.Instance.Version.Major(), programs.Version))
	}
	f, err := g.enter(ctx, j)
	if err != nil {
		return err
	}
	if err := g.room(); err != nil {
		return errors.Join(err, g.leave(f))
	}
	s := newServer(programs, f, j.ID.Short())
	defer func() {
		began := time.Now()
		s.stop()
		// Whatever came before, the folder goes: this outlives ctx on purpose.
		if e := g.leave(f); e != nil {
			err = errors.Join(err, fmt.Errorf("the folder of the drill is still there: %w", e))
		}
		rec.phase("teardown", "", began)
	}()
	if err := g.raise(ctx, s, j, content, rec); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	proved := make(chan struct{})
	group.Go(func() error { return g.watch(gctx, s, proved) })
	group.Go(func() error {
		defer close(proved)
		return g.prove(gctx, s, j, d, content, rec)
	})
	return group.Wait()
}

// raise makes and starts the server, and what all databases need.
func (g *Ground) raise(ctx context.Context, s *server, j job.Job, content *repo.Content, rec *record) error {
	rec.reporter.Progress(job.Progress{Phase: "starting PostgreSQL " + s.programs.Version.String()})
	began := time.Now()
	if err := s.init(ctx); err != nil {
		return err
	}
	rec.phase("initdb", "", began)
	began = time.Now()
	var extensions []string
	for i := range content.Logical.Databases {
		for _, x := range content.Logical.Databases[i].Extensions {
			extensions = append(extensions, string(x.Name))
		}
	}
	preload := preloads(extensions, g.o.Preload, func(name string) bool {
		_, err := os.Stat(filepath.Join(s.programs.Libraries, name+".so"))
		return s.programs.Libraries != "" && filepath.Base(name) == name && err == nil
	})
	err := s.start(ctx, setup{version: s.programs.Version, memory: host.Look(g.o.Base).MemoryBytes, sessions: 2 * plan.Jobs(j.Drill.Jobs),
		socket: s.field.socket, preload: preload, title: "drill " + j.ID.Short()})
	if err != nil {
		return err
	}
	rec.Host.NetworkIsolated = s.process.isolated
	if !s.process.isolated {
		rec.reporter.Log("warn", "the server has this host's network: the kernel does not let this agent take it away")
	}
	rec.phase("start", "", began)
	began = time.Now()
	if err := s.globals(ctx, content); err != nil {
		return fmt.Errorf("prepare the server: %w", err)
	}
	rec.phase("globals", "", began)
	return nil
}

// globals makes the role of assertions, and every tablespace of the snapshot in a
// folder of ours. They are made before anything is restored and are found there
// by name, so that the places where the snapshot had them are never used.
func (s *server) globals(ctx context.Context, content *repo.Content) error {
	c, err := postgres.ConnectMaintenance(ctx, s.cfg, application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := s.makeReader(ctx, c); err != nil {
		return err
	}
	spaces, err := tablespaces(content)
	if err != nil {
		return err
	}
	for i, name := range spaces {
		dir := filepath.Join(s.field.dir, fmt.Sprintf("space-%d", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := s.field.who.give(dir); err != nil {
			return err
		}
		if err := c.Exec(ctx, "CREATE TABLESPACE "+name.Quote()+" LOCATION "+literal(dir)); err != nil {
			return err
		}
	}
	return nil
}

// room tells whether enough of the disk is free.
func (g *Ground) room() error {
	if free := host.Look(g.o.Base).FreeDiskBytes; free < g.o.MinFree {
		return errNoRoom{free, g.o.MinFree}
	}
	return nil
}

// watch ends the drill when the server has ended by itself, or when the disk is
// nearly full; proved tells that there is nothing more to watch.
func (g *Ground) watch(ctx context.Context, s *server, proved <-chan struct{}) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-proved:
			return nil
		case <-ctx.Done():
			return nil
		case <-s.process.done:
			return s.ended()
		case <-tick.C:
			if err := g.room(); err != nil {
				return err
			}
		}
	}
}

// prove restores and looks at one database after the other.
func (g *Ground) prove(ctx context.Context, s *server, j job.Job, d logical.Downloader, content *repo.Content, rec *record) error {
	source := logical.NewSource(d)
	told := newRelay(rec.reporter, rec.Databases, d.Fetched)
	var first error
	for i := range rec.Databases {
		out := &rec.Databases[i]
		b := find(content, out.Name)
		if b.State == repo.DatabaseFailed {
			told.phase(i, job.PhaseFailed)
			continue // there is nothing of it; the verdict says so
		}
		told.phase(i, job.PhaseSchema)
		p := &proof{Ground: g, s: s, j: j, source: source, content: content, d: b, out: out, rec: rec, told: told, at: i}
		err := p.run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		end := job.PhaseDone
		if v, _ := out.Judge(); v != report.Passed {
			end = job.PhaseFailed
		}
		told.phase(i, end)
		if err != nil && first == nil {
			first = fmt.Errorf("database %s: %w", out.Name, err)
		}
		if end == job.PhaseFailed && !j.Drill.KeepGoing {
			return first
		}
	}
	return first
}

func find(content *repo.Content, display string) *repo.Database {
	for i := range content.Logical.Databases {
		if d := &content.Logical.Databases[i]; d.Name.Display() == display {
			return d
		}
	}
	return nil
}
