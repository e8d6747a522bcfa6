package dump

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// database is one database of a run: what was found, what was read, and how it
// stands.
type database struct {
	info postgres.DatabaseInfo

	// Set by the coordinator before the database is given to workers, and only
	// read afterwards.
	ctx        context.Context // ends when the database has failed
	cancel     context.CancelCauseFunc
	started    time.Time
	exported   string // name of the exported snapshot
	out        repo.Database
	tables     []*table
	items      []*item
	objects    *item // large objects, nil when there are none
	objectMeta *item
	lists      *repo.DatabaseLists
	archive    *repo.RunLists
	own        chan *item    // what the coordinator must copy itself; holds every item
	done       chan struct{} // closed when no item is left

	total         atomic.Int64 // bytes expected, an estimate
	rows, bytes   atomic.Int64
	tablesDone    atomic.Int64
	tablesTotal   atomic.Int64
	counted       atomic.Pointer[[]*counting] // of its tables and large objects, for progress
	relationNames map[uint32]string           // of locked relations; for the watcher, guarded by mu

	mu      sync.Mutex
	left    int // items not finished
	phase   string
	err     error
	warned  []repo.Problem
	refused []repo.Problem // what made it fail, object by object
	ended   time.Time
	pid     uint32 // the coordinator's
}

func newDatabase(info postgres.DatabaseInfo) *database {
	return &database{info: info, phase: job.PhaseWaiting, done: make(chan struct{})}
}

// start begins the database's own context.
func (d *database) start(ctx context.Context) {
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = time.Now()
	d.phase = job.PhaseLocking
}

// fail marks the database failed; the first reason stays, and everything that
// works on it stops.
func (d *database) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || err == nil {
		return
	}
	d.err = err
	d.phase = job.PhaseFailed
	d.ended = time.Now()
	if d.cancel != nil {
		d.cancel(err)
	}
}

func (d *database) failed() bool { return d.failure() != nil }

func (d *database) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// warn keeps something a person should know.
func (d *database) warn(p repo.Problem) {
	p.Database = d.info.Name
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warned = append(d.warned, p)
}

func (d *database) setPhase(phase string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.phase = phase
	}
}

// finished tells that one item is done; the last one closes done.
func (d *database) finished() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.left == 0 {
		close(d.done)
	}
}

func (d *database) setPID(pid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pid = pid
}

// succeeded ends the database well.
func (d *database) succeeded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.phase = job.PhaseDone
		d.ended = time.Now()
		d.cancel(nil)
	}
}

// entry is the database's part of the manifest. All or nothing: of a failed
// database only the name and the reasons are kept. The error tells why the
// database is not complete.
func (d *database) entry() (repo.Database, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		reasons := d.refused
		if len(reasons) == 0 {
			reasons = []repo.Problem{problem("error", d.info.Name, "", d.err)}
		}
		return repo.Database{
			Name: d.info.Name, OID: d.info.OID, Encoding: d.info.Encoding, State: repo.DatabaseFailed,
			Problems: append(reasons, d.warned...), Properties: []byte("null"),
		}, d.err
	}
	out := d.out
	out.Problems = append([]repo.Problem{}, d.warned...)
	out.State = repo.DatabaseComplete
	for _, p := range out.Problems {
		if p.Severity == "error" {
			out.State = repo.DatabasePartial
			return out, &partialError{d.info.Name.Display(), p}
		}
	}
	return out, nil
}

// result is what the job tells of the database.
func (d *database) result(err error) job.DatabaseResult {
	r := job.DatabaseResult{
		Database: d.info.Name.Display(), Complete: err == nil, Tables: int64(len(d.out.Tables)), Rows: d.rows.Load(), PlainBytes: d.bytes.Load(),
	}
	if err != nil {
		r.Err = err.Error()
	}
	if !d.started.IsZero() {
		r.Duration = d.ended.Sub(d.started)
	}
	return r
}

// partialError tells what a database lacks.
type partialError struct {
	database string
	missing  repo.Problem
}

// Error names the first thing missing.
func (e *partialError) Error() string {
	return "database " + e.database + ": not everything could be read: " + e.missing.Object + ": " + e.missing.Reason
}
