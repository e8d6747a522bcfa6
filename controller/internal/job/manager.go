package job

import (
	"context"
	"errors"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"go.uber.org/zap"
)

var errTODO = errors.New("job: not written yet")

// Dispatcher reaches agents that have a session. Its methods never block and
// may drop what they are told: everything is found again from the catalog when
// the agent calls Reconcile or its session asks Lease.
type Dispatcher interface {
	// Wake tells that the agent may have work: its session calls Lease until there is none.
	Wake(agent repo.AgentID)
	// Cancel tells the agent to stop an attempt within seconds.
	Cancel(agent repo.AgentID, ref Ref, reason string)
}

// Presence is what the store holds under a job's key.
type Presence int

// What may be there.
const (
	// Absent: nothing.
	Absent Presence = iota
	// Present: a snapshot.
	Present
	// Aborted: an abort marker; no snapshot can ever be there.
	Aborted
)

// Store tells what the repository holds under the key of a job.
type Store interface {
	// Find looks. With Present, the snapshot record is filled as far as the object says.
	Find(ctx context.Context, instance repo.InstanceID, job repo.JobID) (Presence, catalog.Snapshot, error)
	// Abort puts an abort marker, so that no put still on its way can make a snapshot, and
	// answers what is there then: Aborted, or Present when a snapshot was faster.
	Abort(ctx context.Context, instance repo.InstanceID, job repo.JobID, fence repo.Fence) (Presence, catalog.Snapshot, error)
}

// Ref names one attempt.
type Ref struct {
	// Job it is of.
	Job repo.JobID
	// Fence is its fencing number.
	Fence repo.Fence
}

// Options are the rules of time and number.
type Options struct {
	// Epoch of the controller.
	Epoch uint64
	// Lease is how long an attempt lives without a heartbeat.
	Lease time.Duration
	// Attempts is the largest number of attempts of a job.
	Attempts int
	// Backoff is the pause before the second attempt; it doubles with each.
	Backoff time.Duration
	// PerAgent is the largest number of live attempts of one agent.
	PerAgent int
}

// Manager runs jobs.
type Manager struct{}

// New makes a Manager; Run gives it life.
func New(cat *catalog.Catalog, store Store, opts Options, log *zap.Logger) (*Manager, error) {
	return nil, errTODO
}

// Attach names the dispatcher. It must be called before Run.
func (m *Manager) Attach(d Dispatcher) {}

// Run resolves what a former process left, then keeps time until ctx ends.
func (m *Manager) Run(ctx context.Context) error { return errTODO }

// Spec is a job to be made.
type Spec struct {
	// ID is client-chosen.
	ID repo.JobID
	// Instance that works.
	Instance repo.InstanceID
	// Exactly one of Backup and Restore is set.
	Backup  *catalog.BackupSpec
	Restore *catalog.RestoreSpec
	// By is the identity that asks.
	By string
}

// Offer is an attempt that was leased to an agent.
type Offer struct {
	// Ref is the attempt.
	Ref Ref
	// Job with what to do.
	Job catalog.Job
	// Instance that works.
	Instance catalog.Instance
	// Domain whose chunks the attempt may write or read.
	Domain seal.DomainID
	// Snapshot to restore from; zero for a backup.
	Snapshot catalog.Snapshot
}

// Grant is what an attempt may do on the data path.
type Grant struct {
	// Ref is the attempt.
	Ref Ref
	// Kind of its job.
	Kind catalog.JobKind
	// Agent and Instance that work.
	Agent    repo.AgentID
	Instance repo.InstanceID
	// Domain whose chunks may be written (backup) or read (restore).
	Domain seal.DomainID
	// Snapshot that may be read, for a restore.
	Snapshot catalog.Snapshot
	// DryRun: the attempt changes nothing.
	DryRun bool
}

// Progress is how far an attempt is.
type Progress struct {
	// Phase of the whole.
	Phase string
	// Databases, one row each, at most MaxProgressDatabases.
	Databases []DatabaseProgress
	// TransferredBytes so far, sealed.
	TransferredBytes int64
	// Blocked are sessions that wait behind our locks, for people.
	Blocked []string
	// Time by the agent's clock.
	Time time.Time
}

// DatabaseProgress is how far one database is.
type DatabaseProgress struct {
	// Database in display form; for a restore the target's name.
	Database string
	// Phase, for example "data".
	Phase string
	// RowsDone, BytesDone and BytesTotal (0 when unknown).
	RowsDone, BytesDone, BytesTotal int64
	// TablesDone of TablesTotal.
	TablesDone, TablesTotal int32
}

// View is a job with what is only known live.
type View struct {
	// Job as journaled.
	Job catalog.Job
	// Attempts, oldest first, at most the last 20.
	Attempts []catalog.Attempt
	// Progress of the live attempt, nil when there is none.
	Progress *Progress
}

// Create journals a job and queues it. The same spec again gives the same job; another spec
// under the same id is Conflict.
func (m *Manager) Create(ctx context.Context, spec Spec) (catalog.Job, error) {
	return catalog.Job{}, errTODO
}

// Lease gives the agent its next attempt, or false when there is none now.
func (m *Manager) Lease(ctx context.Context, agent repo.AgentID) (Offer, bool, error) {
	return Offer{}, false, errTODO
}

// Accept notes that the agent takes the attempt.
func (m *Manager) Accept(ctx context.Context, agent repo.AgentID, ref Ref) error { return errTODO }

// Reject notes that it does not.
func (m *Manager) Reject(ctx context.Context, agent repo.AgentID, ref Ref, reason string, retryable bool) error {
	return errTODO
}

// Progress keeps the newest progress, in memory.
func (m *Manager) Progress(agent repo.AgentID, ref Ref, p Progress) error { return errTODO }

// Log keeps lines, bounded.
func (m *Manager) Log(ctx context.Context, agent repo.AgentID, ref Ref, lines ...catalog.LogLine) error {
	return errTODO
}

// Result journals the end of an attempt. It is idempotent; a nil answer means that the agent
// may forget the attempt, also when the report came too late to count.
func (m *Manager) Result(ctx context.Context, agent repo.AgentID, ref Ref, r catalog.Result) error {
	return errTODO
}

// ExtendLease renews the leases of what the agent is running and returns those attempts that
// it must stop.
func (m *Manager) ExtendLease(ctx context.Context, agent repo.AgentID, running []Ref) (abandon []Ref, err error) {
	return nil, errTODO
}

// Reconcile takes what a new session says it is running: known attempts go on, attempts that
// the agent does not know any more are lost at once, and those it must stop are returned.
func (m *Manager) Reconcile(ctx context.Context, agent repo.AgentID, running []Ref) (abandon []Ref, err error) {
	return nil, errTODO
}

// Revoke ends the agent's live attempts and fails what is queued for it.
func (m *Manager) Revoke(ctx context.Context, agent repo.AgentID, reason string) error {
	return errTODO
}

// Cancel asks a job to stop.
func (m *Manager) Cancel(ctx context.Context, id repo.JobID, by, reason string) (catalog.Job, error) {
	return catalog.Job{}, errTODO
}

// Get shows one job.
func (m *Manager) Get(ctx context.Context, id repo.JobID) (View, error) { return View{}, errTODO }

// Live gives the newest progress of a job's live attempt.
func (m *Manager) Live(id repo.JobID) (Progress, bool) { return Progress{}, false }

// Watch calls fn with the job now and after changes, several of which may become one call,
// and returns nil after fn has seen a terminal state.
func (m *Manager) Watch(ctx context.Context, id repo.JobID, fn func(View) error) error {
	return errTODO
}

// Authorize tells what an attempt may do now: Denied for a foreign agent, Conflict for an
// attempt that is not current or has ended, NotFound for an unknown job.
func (m *Manager) Authorize(ctx context.Context, agent repo.AgentID, ref Ref) (Grant, error) {
	return Grant{}, errTODO
}

// PackIntent journals packs about to be put; Conflict when the attempt is not current any more.
func (m *Manager) PackIntent(ctx context.Context, ref Ref, packs ...catalog.Pack) error {
	return errTODO
}

// PackStored notes that packs are durable in the store.
func (m *Manager) PackStored(ctx context.Context, ref Ref, packs ...catalog.PackID) error {
	return errTODO
}

// PacksOf gives all packs of a job, of all its attempts.
func (m *Manager) PacksOf(ctx context.Context, job repo.JobID) ([]catalog.Pack, error) {
	return nil, errTODO
}

// MarkIndexed notes that the packs' chunks are in an index file.
func (m *Manager) MarkIndexed(ctx context.Context, job repo.JobID, packs ...catalog.PackID) error {
	return errTODO
}

// Committing journals that the attempt is about to put the snapshot object of this hash.
// Canceled when an operator asked it to stop, Conflict when it is not current.
func (m *Manager) Committing(ctx context.Context, ref Ref, object [32]byte) error { return errTODO }

// Committed journals the snapshot that the attempt made. Idempotent.
func (m *Manager) Committed(ctx context.Context, ref Ref, s catalog.Snapshot) error { return errTODO }

// Superseded journals that the store holds the snapshot of another attempt of the job.
func (m *Manager) Superseded(ctx context.Context, ref Ref, winner catalog.Snapshot) error {
	return errTODO
}

// Unknown tells that the caller has given up asking the store whether the snapshot exists;
// the Manager goes on asking.
func (m *Manager) Unknown(ctx context.Context, ref Ref) error { return errTODO }
