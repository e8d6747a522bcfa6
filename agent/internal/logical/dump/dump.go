package dump

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Uploader takes the chunks. Its methods may be called concurrently.
type Uploader interface {
	// Buffer gives an empty buffer with the capacity of the largest chunk and
	// waits while too many are in use.
	Buffer(ctx context.Context) ([]byte, error)
	// Release gives a buffer back that was not put.
	Release(b []byte)
	// Stream opens a stream of chunks, for one goroutine at a time.
	Stream(ctx context.Context) (Stream, error)
	// Sent counts the bytes that went over the wire so far.
	Sent() int64
}

// Stream takes chunks in order.
type Stream interface {
	// Put takes ownership of plain, which came from Buffer, whatever it returns.
	Put(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error
	// PutCopy is Put for bytes that the caller keeps.
	PutCopy(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error
}

// Defaults of Options.
const (
	// DefaultLockWait bounds the wait for the locks of one database.
	DefaultLockWait = time.Minute
	// DefaultPatience is how long DDL may wait behind our locks before a
	// database is given up, where the policy says so.
	DefaultPatience = time.Minute
	// DefaultHeartbeat is how often an idle coordinator is asked whether it lives.
	DefaultHeartbeat = 10 * time.Second
	// DefaultWatch is how often the lock queue is looked at.
	DefaultWatch = 5 * time.Second
	// MaxWorkers bounds the connections a backup takes from the application.
	MaxWorkers = 64
)

// Options say what to read, how, and where to.
type Options struct {
	// Config reaches the instance.
	Config postgres.Config
	// Job is the short id of the job; sessions carry it in their application name.
	Job string
	// Request says what to back up.
	Request job.Backup
	// Grant has the keys for naming and cutting.
	Grant job.Grant
	// Uploader takes the chunks.
	Uploader Uploader
	// Reporter is told about progress, at most once a second.
	Reporter job.Reporter
	// Agent is the version of the program, for the manifest.
	Agent string
	// Heartbeat and Watch are for tests; 0 means the defaults.
	Heartbeat, Watch time.Duration
	// WideRow is the length in bytes of a row's text from which it is read in
	// the binary format when the server cannot make the text; 0 means what
	// servers can make. For tests.
	WideRow int64

	split splitRule
}

func (o Options) withDefaults() Options {
	if o.Request.Workers <= 0 {
		// COPY costs as much processor time on the server as naming, compressing
		// and sealing do here, so half of the processors is where both are busy.
		o.Request.Workers = max(2, runtime.GOMAXPROCS(0)/2)
	}
	o.Request.Workers = min(o.Request.Workers, MaxWorkers)
	o.Request.LockWait = cmp.Or(o.Request.LockWait, DefaultLockWait)
	o.Request.Patience = cmp.Or(o.Request.Patience, DefaultPatience)
	o.Heartbeat = cmp.Or(o.Heartbeat, DefaultHeartbeat)
	o.Watch = cmp.Or(o.Watch, DefaultWatch)
	o.split = cmp.Or(o.split, standardSplit)
	o.WideRow = cmp.Or(o.WideRow, 1_000_000_000) // one allocation of a server holds 1 GiB - 1
	return o
}

// Snapshot is what was read.
type Snapshot struct {
	// Content is nil when there is nothing to make a snapshot of.
	Content    *repo.Content
	References *repo.References
	// Complete tells that all that was asked for is in it.
	Complete bool
	// Databases tells what happened to each, in the order of Content.
	Databases []job.DatabaseResult
	// Problems are all that a person should know, of the instance and of each database.
	Problems []repo.Problem
	// Err is the first reason when Complete is false.
	Err error
	// Rows and Bytes read.
	Rows, Bytes int64
}

// Run reads the databases of an instance. The chunks named by the result were
// put to the uploader; the caller must flush before it commits. An error means
// that nothing could be read that a snapshot could be made of; the Snapshot,
// without content then, may still say what happened to each database, and is
// nil when it did not come to that. A database that could not be read while
// others could is told in the Snapshot alone.
func Run(ctx context.Context, o Options) (*Snapshot, error) {
	r, err := newRun(ctx, o.withDefaults())
	if err != nil {
		return nil, err
	}
	defer r.maintenance.Close(ctx)
	if err := r.readAll(ctx); err != nil {
		return nil, err
	}
	return r.snapshot(ctx)
}

// run is one backup under way.
type run struct {
	o           Options
	started     time.Time
	maintenance *postgres.Conn
	inv         *postgres.Inventory
	tool        postgres.Tool
	globals     repo.Globals
	problems    []repo.Problem
	databases   []*database
	queue       *queue
	shared      *sharedStream
	watcher     *watcher
	lists       *repo.ListBuilder
}

// newRun looks at the instance and decides which databases are read.
func newRun(ctx context.Context, o Options) (*run, error) {
	r := &run{o: o, started: time.Now(), queue: newQueue(), lists: repo.NewListBuilder()}
	var err error
	if r.maintenance, err = postgres.ConnectMaintenance(ctx, o.Config, r.application("control")); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		r.maintenance.Close(ctx)
		return nil, err
	}
	return r, nil
}

func (r *run) prepare(ctx context.Context) error {
	var err error
	if r.inv, err = r.maintenance.Inventory(ctx); err != nil {
		return fmt.Errorf("read facts of %s: %w", r.o.Config, err)
	}
	if v := r.inv.Version.Major(); v < 13 {
		return fmt.Errorf("%s: server version %s: 13 is the oldest that is read: %w", r.o.Config, r.inv.Version, errs.Unsupported)
	}
	if r.tool, err = postgres.FindTools(ctx, "pg_dump", r.o.Config.ToolDirs).For("pg_dump", r.inv.Version); err != nil {
		return err
	}
	if r.databases, err = selectDatabases(r.inv.Databases, r.o.Request.Databases, r.o.Request.Exclude); err != nil {
		return fmt.Errorf("%s: %w", r.o.Config, err)
	}
	if err := r.checkDamage(); err != nil {
		return err
	}
	if r.globals, err = readGlobals(ctx, r.maintenance); err != nil {
		return fmt.Errorf("read roles and tablespaces of %s: %w", r.o.Config, err)
	}
	stream, err := r.o.Uploader.Stream(ctx)
	if err != nil {
		return err
	}
	r.shared = &sharedStream{stream: stream}
	r.watcher = &watcher{run: r}
	return nil
}

// checkDamage refuses servers that are told to hide damage from readers, and
// warns of what may make a long read fail.
func (r *run) checkDamage() error {
	for _, name := range []string{"zero_damaged_pages", "ignore_checksum_failure"} {
		if r.inv.Settings[name] == "on" {
			return postgres.WithHint(fmt.Errorf("%s: %s is on: damaged rows would be missing without a word: %w", r.o.Config, name, errs.Conflict),
				"ALTER SYSTEM RESET "+name+"; SELECT pg_reload_conf();")
		}
	}
	if v, ok := r.inv.Settings["old_snapshot_threshold"]; ok && v != "-1" {
		r.problems = append(r.problems, repo.Problem{Severity: "warning", Object: "old_snapshot_threshold",
			Reason: "a read that takes longer than this fails with \"snapshot too old\"", Hint: "set old_snapshot_threshold = -1"})
	}
	return nil
}

func (r *run) application(what string) string { return "tuskvault " + r.o.Job + " " + what }

// readAll reads every database. It returns an error only when ctx has ended.
func (r *run) readAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	background, stop := context.WithCancel(ctx)
	var helpers, workers sync.WaitGroup
	helpers.Go(func() { r.reportLoop(background) })
	helpers.Go(func() { r.watcher.loop(background) })
	for range r.o.Request.Workers {
		workers.Go(func() {
			if err := r.work(ctx); err != nil {
				cancel(err) // the uploader: without it nothing can go on
			}
		})
	}
	var coordinators sync.WaitGroup
	r.feed(ctx, &coordinators)
	workers.Wait()
	coordinators.Wait()
	stop()
	helpers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.report()
	return nil
}

// feed opens one database after the other, each when the workers are about to
// run out of work, so that few snapshots are held at a time.
func (r *run) feed(ctx context.Context, coordinators *sync.WaitGroup) {
	defer r.queue.close()
	for _, d := range r.databases {
		if d.failed() {
			continue
		}
		if err := r.queue.wait(ctx, r.o.Request.Workers); err != nil {
			return
		}
		d.start(ctx)
		c, err := r.open(d)
		if err != nil {
			d.fail(err)
			continue
		}
		r.queue.add(d)
		coordinators.Go(func() { r.coordinate(c) })
	}
}

// snapshot puts the manifest together.
func (r *run) snapshot(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{Complete: true, References: r.lists.References(), Problems: append([]repo.Problem{}, r.problems...)}
	logical := &repo.Logical{Globals: r.globals, Databases: []repo.Database{}}
	got := false
	var first error
	for _, d := range byName(r.databases) {
		entry, err := d.entry()
		if err != nil {
			s.Complete = false
			if first == nil {
				first = err
			}
		}
		if entry.State != repo.DatabaseFailed {
			got = true
		}
		logical.Databases = append(logical.Databases, entry)
		s.Problems = append(s.Problems, entry.Problems...)
		s.Databases = append(s.Databases, d.result(err))
		s.Rows += d.rows.Load()
		s.Bytes += d.bytes.Load()
	}
	s.Err = first
	if !got {
		return s, fmt.Errorf("no database could be read: %w", first)
	}
	s.Content = &repo.Content{
		Version: 1, Kind: repo.KindLogical, Agent: r.o.Agent, Started: r.started.UTC(), Finished: time.Now().UTC(),
		Problems: append([]repo.Problem{}, r.problems...), Logical: logical,
		Instance: repo.InstanceFacts{
			Name: cmp.Or(r.o.Config.Name, "main"), SystemIdentifier: r.inv.SystemIdentifier, Timeline: r.inv.Timeline,
			Version: r.inv.Version, InRecovery: r.inv.InRecovery, BlockSize: r.inv.BlockSize, Settings: r.inv.Settings,
		},
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s, nil
}

// sharedStream is the upload stream of everything that is not a worker's:
// archives, lists and what coordinators copy.
type sharedStream struct {
	mu     sync.Mutex
	stream Stream
}

// Put puts a chunk.
func (s *sharedStream) Put(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Put(ctx, kind, name, plain)
}

// PutCopy puts a copy of a chunk.
func (s *sharedStream) PutCopy(ctx context.Context, kind seal.Kind, name seal.Name, plain []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.PutCopy(ctx, kind, name, plain)
}

// uploadError marks a failure of the uploader: it concerns the attempt, not one database.
type uploadError struct{ error }

// Unwrap gives the uploader's own error.
func (e *uploadError) Unwrap() error { return e.error }

func isUpload(err error) bool { _, ok := errors.AsType[*uploadError](err); return ok }

func upload(err error) error {
	if err == nil {
		return nil
	}
	return &uploadError{err}
}

// problem words an error for the manifest.
func problem(severity string, database pg.Name, object string, err error) repo.Problem {
	return repo.Problem{Severity: severity, Database: database, Object: object, Reason: err.Error(), Hint: postgres.Hint(err)}
}
