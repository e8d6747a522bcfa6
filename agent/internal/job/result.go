package job

import (
	"context"
	"errors"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
)

// Progress says how far an attempt is.
type Progress struct {
	// Phase is what the attempt is doing as a whole, for example "copying rows".
	Phase string
	// Databases has one row a database.
	Databases []DatabaseProgress
	// Transferred counts sealed bytes sent or fetched.
	Transferred int64
	// Blocked names sessions that wait behind our locks, for people.
	Blocked []string
}

// The phases of a database.
const (
	PhaseWaiting    = "waiting"
	PhaseLocking    = "locking"
	PhaseSchema     = "schema"
	PhaseData       = "data"
	PhaseIndexes    = "indexes"
	PhaseChecking   = "checking"
	PhaseStatistics = "statistics"
	PhaseAmcheck    = "amcheck"
	PhaseAssertions = "assertions"
	PhaseReplacing  = "replacing" // of rows in use
	PhaseDone       = "done"
	PhaseFailed     = "failed"
)

// DatabaseProgress says how far one database is.
type DatabaseProgress struct {
	// Database in display form; of a restore the name at the target.
	Database string
	// Phase is one of the Phase constants.
	Phase string
	// Rows and Bytes (plain) so far.
	Rows, Bytes int64
	// BytesTotal is the expected number of plain bytes, 0 when unknown.
	BytesTotal int64
	// TablesDone and TablesTotal count tables.
	TablesDone, TablesTotal int
	// Tables that are worked on, and the largest that wait; see Busiest.
	Tables []TableProgress
	// IndexesDone of IndexesTotal indexes are built, those of keys among them; 0 in a backup.
	IndexesDone, IndexesTotal int
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes.
const (
	// Succeeded: everything asked for was done.
	Succeeded Outcome = "succeeded"
	// Failed: something asked for was not done.
	Failed Outcome = "failed"
	// Canceled: the attempt was told to stop, and did.
	Canceled Outcome = "canceled"
)

// Result is the end of an attempt.
type Result struct {
	// Outcome must be set.
	Outcome Outcome `json:"outcome"`
	// Err is the one-line reason when it did not succeed.
	Err string `json:"error,omitempty"`
	// Retryable tells whether another attempt later can succeed.
	Retryable bool `json:"retryable,omitempty"`
	// Problems are everything a person should know.
	Problems []repo.Problem `json:"problems,omitempty"`
	// Stats are figures.
	Stats Stats `json:"stats"`
	// Databases tells what happened to each database.
	Databases []DatabaseResult `json:"databases,omitempty"`
	// Plan has the lines of a dry run.
	Plan []string `json:"plan,omitempty"`
	// Drill is the signed report of a drill.
	Drill *report.Signed `json:"drill,omitempty"`
	// Started and Ended bound the work. The session fills them in when they are zero.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
}

// Stats count what an attempt moved.
type Stats struct {
	// Rows read or loaded.
	Rows int64 `json:"rows"`
	// PlainBytes read or loaded.
	PlainBytes int64 `json:"plain_bytes"`
	// Chunks in all, and those that had to be sent.
	Chunks    int64 `json:"chunks"`
	NewChunks int64 `json:"new_chunks"`
	// NewPlainBytes are plain bytes of the chunks that had to be sent.
	NewPlainBytes int64 `json:"new_plain_bytes"`
	// TransferredBytes are sealed bytes sent or fetched.
	TransferredBytes int64 `json:"transferred_bytes"`
	// PeakMemoryBytes is the agent's peak resident memory while the attempt ran.
	// The session fills it in when it is zero.
	PeakMemoryBytes int64 `json:"peak_memory_bytes"`
}

// DatabaseResult is what happened to one database.
type DatabaseResult struct {
	// Database is the name in the snapshot, display form.
	Database string `json:"database"`
	// Target is the name at the target, for a restore.
	Target string `json:"target,omitempty"`
	// Complete tells whether all of it is there and, for a restore, equal.
	Complete bool `json:"complete"`
	// Err is the reason when not.
	Err string `json:"error,omitempty"`
	// Tables, Rows and PlainBytes moved.
	Tables     int64 `json:"tables"`
	Rows       int64 `json:"rows"`
	PlainBytes int64 `json:"plain_bytes"`
	// TablesVerified counts tables that were read back from the server and are
	// equal, TablesCompared those that were compared on the way in alone.
	TablesVerified int64 `json:"tables_verified,omitempty"`
	TablesCompared int64 `json:"tables_compared,omitempty"`
	// Duration is the wall time spent on it.
	Duration time.Duration `json:"duration_ns"`
}

// FailedResult makes the result of an attempt that stopped because of err: an
// ended context gives Canceled with its cause, anything else Failed, retryable
// when the kind is one that may pass.
func FailedResult(ctx context.Context, err error) Result {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, errs.Canceled) {
			return Result{Outcome: Canceled, Err: cause.Error()}
		}
		return Result{Outcome: Failed, Err: cause.Error(), Retryable: true}
	}
	return Result{Outcome: Failed, Err: err.Error(), Retryable: Retryable(err)}
}

// Retryable tells whether the failure may pass by itself: a peer that was away,
// a thing that was busy, a time that ran out, a disk that was full. A wrong
// password, a missing privilege or a damaged object does not.
func Retryable(err error) bool {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.Busy, errs.Timeout, errs.Exhausted:
		return true
	}
	return false
}
