package job

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Dispatcher reaches agents that have a session. Its methods never block and
// may drop what they are told: everything is found again from the catalog when
// the agent calls Reconcile or its session asks Lease.
type Dispatcher interface {
	// Wake tells that the agent may have work: its session calls Lease until there is none.
	Wake(agent repo.AgentID)
	// Cancel tells the agent to stop an attempt within seconds.
	Cancel(agent repo.AgentID, ref Ref, reason string)
}

// Publisher is told what became of jobs. Publish never blocks.
type Publisher interface {
	Publish(e event.Event)
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

// Store is what jobs need of the repository. Errors of kind Unavailable are
// tried again later.
type Store interface {
	// Find looks under the key of the job that the attempt is of. With Present, the snapshot
	// record is filled as far as the object says.
	Find(ctx context.Context, instance repo.InstanceID, a catalog.Attempt) (Presence, catalog.Snapshot, error)
	// Abort puts an abort marker, so that no put still on its way can make a snapshot, and
	// answers what is there then: Aborted, or Present when a snapshot was faster.
	Abort(ctx context.Context, instance repo.InstanceID, a catalog.Attempt) (Presence, catalog.Snapshot, error)
	// SealEpoch gives the epoch of the seal key that a backup into the domain would be
	// given now.
	SealEpoch(ctx context.Context, domain seal.DomainID) (uint32, error)
}

// Ref names one attempt.
type Ref struct {
	// Job it is of.
	Job repo.JobID
	// Fence is its fencing number.
	Fence repo.Fence
}

// String gives the attempt for errors.
func (r Ref) String() string { return fmt.Sprintf("attempt %s of job %s", r.Fence, r.Job) }

// Spec is a job to be made.
type Spec struct {
	// ID is client-chosen.
	ID repo.JobID
	// Instance that works.
	Instance repo.InstanceID
	// Exactly one of Backup, Restore and Drill is set.
	Backup  *catalog.BackupSpec
	Restore *catalog.RestoreSpec
	Drill   *catalog.DrillSpec
	// Agent that holds a drill; the others are done by that of the instance.
	Agent repo.AgentID
	// By is the identity that asks.
	By string
}

// Offer is an attempt that was leased to an agent.
type Offer struct {
	// Ref is the attempt.
	Ref Ref
	// Job with what to do.
	Job catalog.Job
	// Instance that works; of a drill that of the snapshot.
	Instance catalog.Instance
	// AgentName is that of the agent that works.
	AgentName string
	// Domain whose chunks the attempt may write or read.
	Domain seal.DomainID
	// Snapshot to restore from, for a restore or a drill; zero for a backup.
	Snapshot catalog.Snapshot
	// Past is what earlier restores took; zero for a backup.
	Past Past
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
	// Domain whose chunks may be written (backup) or read (restore, drill).
	Domain seal.DomainID
	// Shared tells that other instances have chunks in the domain.
	Shared bool
	// SealEpoch of the seal key that a backup was given; 0 when not known.
	SealEpoch uint32
	// Snapshot that may be read, for a restore or a drill.
	Snapshot catalog.Snapshot
	// DryRun: the attempt changes nothing.
	DryRun bool
}

// Progress is how far an attempt is.
type Progress struct {
	// Phase of the whole.
	Phase string
	// Databases, one row each.
	Databases []DatabaseProgress
	// TransferredBytes so far, sealed.
	TransferredBytes int64
	// Blocked are sessions that wait behind our locks, for people.
	Blocked []string
	// Time by the agent's clock.
	Time time.Time
	// BytesPerSecond and SecondsLeft are the controller's own reckoning, by when the
	// agent's word came; 0 when unknown. See pace.
	BytesPerSecond, SecondsLeft int64
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
	// Tables at work, and the largest that wait.
	Tables []TableProgress
	// IndexesDone of IndexesTotal.
	IndexesDone, IndexesTotal int32
}

// TableProgress is how far one table is.
type TableProgress struct {
	// Table is schema and name in display form, Phase for example "copying".
	Table, Phase string
	// RowsDone of RowsTotal and BytesDone of BytesTotal, totals 0 when unknown.
	RowsDone, RowsTotal, BytesDone, BytesTotal int64
	// Estimated tells that the totals are estimates.
	Estimated bool
}

// Running is a job that an agent executes, with its newest progress.
type Running struct {
	// Ref is the attempt.
	Ref Ref
	// Kind of the job, and whether it is a dry run.
	Kind   catalog.JobKind
	DryRun bool
	// Agent that works, and the instance by its full name.
	Agent    repo.AgentID
	Instance string
	// Progress is what the agent said last.
	Progress Progress
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
