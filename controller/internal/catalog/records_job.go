package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// JobKind is what a job does.
type JobKind int

// The kinds of jobs. The numbers are stored.
const (
	// JobBackup makes a snapshot.
	JobBackup JobKind = 1
	// JobRestore restores from one.
	JobRestore JobKind = 2
	// JobDrill proves one by restoring it into a throw-away PostgreSQL.
	JobDrill JobKind = 3
)

// String gives the kind in words.
func (k JobKind) String() string {
	switch k {
	case JobBackup:
		return "backup"
	case JobRestore:
		return "restore"
	case JobDrill:
		return "drill"
	}
	return "unknown"
}

// JobState is how a job stands.
type JobState int

// The states of a job. The numbers are stored and part of index keys.
const (
	// JobQueued waits for an agent or for its next attempt.
	JobQueued JobState = 1
	// JobLeased is offered to an agent that has not answered.
	JobLeased JobState = 2
	// JobRunning is being executed.
	JobRunning JobState = 3
	// JobCommitting: a snapshot is being written and the store has not answered yet.
	JobCommitting JobState = 4
	// JobCommitted: the snapshot exists; only the agent's closing report is awaited, for a
	// bounded time. People see it as committing.
	JobCommitted JobState = 5
	// JobSucceeded did everything asked for. Terminal, as all that follow.
	JobSucceeded JobState = 6
	// JobFailed did not.
	JobFailed JobState = 7
	// JobCanceled was stopped by an operator.
	JobCanceled JobState = 8
	// JobLost: the agent vanished and no attempt is left.
	JobLost JobState = 9
)

// JobStates lists every state, for tables that must be complete.
func JobStates() []JobState {
	return []JobState{JobQueued, JobLeased, JobRunning, JobCommitting, JobCommitted, JobSucceeded, JobFailed, JobCanceled, JobLost}
}

// Terminal tells whether a job in this state has ended for good.
func (s JobState) Terminal() bool { return s >= JobSucceeded }

// String gives the state in words.
func (s JobState) String() string {
	if s >= JobQueued && s <= JobLost {
		return [...]string{"queued", "leased", "running", "committing", "committed", "succeeded", "failed", "canceled", "lost"}[s-1]
	}
	return "unknown"
}

// AttemptState is how an attempt stands.
type AttemptState int

// The states of an attempt. The numbers are stored.
const (
	// AttemptOffered was leased and is not answered.
	AttemptOffered AttemptState = 1
	// AttemptRunning is being executed.
	AttemptRunning AttemptState = 2
	// AttemptCommitting is writing its snapshot.
	AttemptCommitting AttemptState = 3
	// AttemptCommitted has written it and owes the closing report.
	AttemptCommitted AttemptState = 4
	// AttemptSucceeded did everything asked for.
	AttemptSucceeded AttemptState = 5
	// AttemptFailed did not.
	AttemptFailed AttemptState = 6
	// AttemptCanceled was told to stop.
	AttemptCanceled AttemptState = 7
	// AttemptLost: its lease ran out.
	AttemptLost AttemptState = 8
	// AttemptRejected: the agent did not take it.
	AttemptRejected AttemptState = 9
	// AttemptSuperseded: another attempt's snapshot was there first.
	AttemptSuperseded AttemptState = 10
)

// Ended tells whether the attempt is over.
func (s AttemptState) Ended() bool { return s >= AttemptSucceeded }

// String gives the state in words.
func (s AttemptState) String() string {
	if s >= AttemptOffered && s <= AttemptSuperseded {
		return [...]string{"offered", "running", "committing", "committing", "succeeded", "failed", "canceled", "lost", "rejected", "superseded"}[s-1]
	}
	return "unknown"
}

// Job is one unit of work.
type Job struct {
	// ID is client-chosen, and also the id of the snapshot that a backup makes.
	ID repo.JobID
	// Kind says which of Backup, Restore and Drill is set.
	Kind JobKind
	// State is how it stands.
	State JobState
	// Instance that works, and its agent. Of a drill: the instance of the snapshot, and
	// the agent where the drill is held.
	Instance     repo.InstanceID
	InstanceName string
	Agent        repo.AgentID
	// Backup is what was asked for.
	Backup *BackupSpec
	// Restore is what was asked for.
	Restore *RestoreSpec
	// Drill is what was asked for.
	Drill *DrillSpec
	// SnapshotID is the snapshot it restores from or has made; zero while there is none.
	SnapshotID repo.JobID
	// Created, Started (first attempt) and Ended.
	Created, Started, Ended time.Time
	// CreatedBy is an identity, for example "operator/admin".
	CreatedBy string
	// Message is the one-line reason when it failed, or why it waits.
	Message string
	// Attempts counts those that used up a try (rejections for being busy do not).
	Attempts int32
	// Current is the fencing number of the newest attempt; zero before the first.
	Current repo.Fence
	// NextAttempt is the earliest time of the next attempt while it is queued.
	NextAttempt time.Time
	// CancelRequested tells that an operator asked it to stop, CancelReason why, CancelBy who.
	CancelRequested        bool
	CancelReason, CancelBy string
	// Incomplete tells that the snapshot exists and lacks something asked for.
	Incomplete bool
	// Doubt tells that an attempt has tried to make the snapshot exist: the job cannot end
	// without one before the store holds an abort marker in its place.
	Doubt bool
	// Ending is the state the job gets once that marker is there, 0 when it is not ending.
	Ending JobState
	// Result is the report of the last attempt that sent one.
	Result *Result
}

// DryRun tells whether the job only plans.
func (j *Job) DryRun() bool { return j.Restore != nil && j.Restore.DryRun }

// BackupSpec says what to back up.
type BackupSpec struct {
	// Databases and Exclude are globs of database names in display form.
	Databases, Exclude []string
	// Workers is the number of parallel COPY streams; 0 lets the agent choose.
	Workers int32
	// LockWait is the longest wait for a database's locks; 0 lets the agent choose.
	LockWait time.Duration
	// AbortOnBlockedDDL gives a database up after BlockedPatience when our locks queue DDL.
	AbortOnBlockedDDL bool
	BlockedPatience   time.Duration
}

// RestoreSpec says what to restore, and how.
type RestoreSpec struct {
	// Snapshot to restore from.
	Snapshot repo.JobID
	// Databases; empty means all.
	Databases []DatabaseMapping
	// Jobs is the number of parallel streams; 0 lets the agent choose.
	Jobs int32
	// Replace lets databases that exist be replaced; DryRun only plans; NoOwner leaves owners
	// and privileges out; Globals creates missing roles and tablespaces; ReadBack compares
	// every table once more after it was loaded; NoAnalyze gathers no statistics.
	Replace, DryRun, NoOwner, Globals, ReadBack, NoAnalyze bool
	// Schemas and Tables are patterns; both empty means whole databases.
	Schemas, Tables []string
	// Sections are those wanted; empty means all.
	Sections []Section
	// Roles and Tablespaces stand for others at the target.
	Roles, Tablespaces []NameMapping
	// Live brings tables into a database in use: beside its own, into LiveSchema (empty: one
	// that the agent names), or with Replace in place of its rows.
	Live       bool
	LiveSchema string
	// SkipDamaged leaves tables empty whose chunks are missing or damaged.
	SkipDamaged bool
	// OverwritePasswords sets passwords of roles that exist; GlobalsOnly restores no database.
	OverwritePasswords, GlobalsOnly bool
}

// Section is a part of a database that can be restored by itself.
type Section int32

// The sections, as stored.
const (
	SectionPreData  Section = 1
	SectionData     Section = 2
	SectionPostData Section = 3
)

// NameMapping gives a name of the snapshot another one at the target.
type NameMapping struct{ Source, Target string }

// DatabaseMapping is one database to restore, and under which name (empty: its own).
type DatabaseMapping struct{ Source, Target string }

// Attempt is one try of a job by one agent under a lease. How long the lease
// still is lives in memory: after a restart each live attempt has a whole one.
type Attempt struct {
	// Job it belongs to, and its fencing number.
	Job   repo.JobID
	Fence repo.Fence
	// Agent that has or had it, by id and name.
	Agent     repo.AgentID
	AgentName string
	// State is how it stands.
	State AttemptState
	// Domain whose chunks it may write or read.
	Domain seal.DomainID
	// SealEpoch of the seal key it was given, for a backup; 0 when not known.
	SealEpoch uint32
	// Started and Ended.
	Started, Ended time.Time
	// Error is the one-line reason when it did not succeed.
	Error string
	// ObjectHash is the SHA-256 of the snapshot object it is writing.
	ObjectHash [32]byte
}

// Outcome is how an attempt ended, in the agent's words.
type Outcome int

// The outcomes. The numbers are stored.
const (
	// OutcomeSucceeded: everything asked for was done.
	OutcomeSucceeded Outcome = 1
	// OutcomeFailed: something was not.
	OutcomeFailed Outcome = 2
	// OutcomeCanceled: it was told to stop, and did.
	OutcomeCanceled Outcome = 3
)

// Result is the closing report of an attempt.
type Result struct {
	// Fence of the attempt.
	Fence repo.Fence
	// Outcome says how it ended, Error why, when it did not succeed.
	Outcome Outcome
	Error   string
	// Retryable: another attempt later can succeed.
	Retryable bool
	// Problems, at most MaxProblems.
	Problems []Problem
	// Stats are its figures.
	Stats Stats
	// Databases says what happened to each.
	Databases []DatabaseResult
	// Plan is that of a dry run, lines for people.
	Plan []string
	// Started and Ended by the agent's clock.
	Started, Ended time.Time
	// DrillVerdict is that of a drill's report, empty when there was none. The report is a
	// record of its own: see Tx.PutDrill.
	DrillVerdict string
}

// MaxProblems bounds Result.Problems, MaxPlanLines Result.Plan and
// MaxDatabaseResults Result.Databases: what a hostile or broken agent can make
// the catalog keep per job.
const (
	MaxProblems        = 1000
	MaxPlanLines       = 10000
	MaxDatabaseResults = 10000
)

// Problem is one thing that went wrong.
type Problem struct {
	// Error tells that something is missing; else it is a warning.
	Error bool
	// Database and Object it concerns, Reason what happened, Hint what mends it.
	Database, Object, Reason, Hint string
}

// Stats counts what an attempt moved.
type Stats struct {
	// Rows and PlainBytes read or loaded.
	Rows, PlainBytes int64
	// Chunks in all, NewChunks those that had to be sent, NewPlainBytes their plain size.
	Chunks, NewChunks, NewPlainBytes int64
	// TransferredBytes sent or fetched, sealed.
	TransferredBytes int64
	// PeakMemoryBytes of the agent.
	PeakMemoryBytes int64
}

// DatabaseResult is what happened to one database.
type DatabaseResult struct {
	// Database in the snapshot, Target at the instance restored to.
	Database, Target string
	// Complete: all of it is there and, for a restore, equal; else Error says why.
	Complete bool
	Error    string
	// Tables, Rows and PlainBytes of it. TablesVerified were read back and are equal,
	// TablesCompared were compared on the way in alone.
	Tables, Rows, PlainBytes, TablesVerified, TablesCompared int64
	// Duration is wall time.
	Duration time.Duration
}

// LogLine is one line of a job's log.
type LogLine struct {
	// Number of the line within the job, from 1; given by the catalog.
	Number uint64
	// Fence of the attempt.
	Fence repo.Fence
	// Time by the agent's clock.
	Time time.Time
	// Level is "debug", "info", "warn" or "error".
	Level string
	// Message is the line.
	Message string
}
