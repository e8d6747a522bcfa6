// Package job is the agent's own vocabulary of work: what an attempt is asked
// to do, with what keys, how it tells how far it is, and how it ended. It knows
// no transport: the session package converts between these types and the wire,
// and executors (backup, restore) know only these.
package job

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Kind names a kind of work.
type Kind string

// The kinds this agent has words for. Whether it can do them is decided by the
// executors that were registered.
const (
	// KindBackup makes a snapshot of an instance.
	KindBackup Kind = "backup"
	// KindRestore brings databases of a snapshot into an instance.
	KindRestore Kind = "restore"
	// KindDrill brings databases of a snapshot into a throw-away PostgreSQL, and
	// proves them there.
	KindDrill Kind = "drill"
)

// Job is one attempt of a job, as offered to this agent.
type Job struct {
	// ID of the job; of a backup also the id of the snapshot it makes.
	ID repo.JobID
	// Fence tells attempts of one job apart; reports carry it.
	Fence repo.Fence
	// Grant holds the keys of this attempt. It lives in memory only.
	Grant Grant
	// Backup is set when the kind is KindBackup.
	Backup *Backup
	// Restore is set when the kind is KindRestore.
	Restore *Restore
	// Drill is set when the kind is KindDrill.
	Drill *Drill
}

// Kind tells which kind of work the job is, or "" when no kind is set.
func (j Job) Kind() Kind {
	switch {
	case j.Backup != nil:
		return KindBackup
	case j.Restore != nil:
		return KindRestore
	case j.Drill != nil:
		return KindDrill
	}
	return ""
}

// Ref names the attempt.
func (j Job) Ref() Ref { return Ref{ID: j.ID, Fence: j.Fence} }

// Ref names one attempt of one job.
type Ref struct {
	// ID of the job.
	ID repo.JobID
	// Fence of the attempt.
	Fence repo.Fence
}

// String gives "<short id>/<epoch>.<counter>", for logs.
func (r Ref) String() string { return r.ID.Short() + "/" + r.Fence.String() }

// Text gives "<job id>-<epoch>.<counter>", which ParseRef reads.
func (r Ref) Text() string { return r.ID.String() + "-" + r.Fence.String() }

// ParseRef reads what Text gives.
func ParseRef(s string) (Ref, error) {
	id, fence, ok := strings.Cut(s, "-")
	epoch, counter, ok2 := strings.Cut(fence, ".")
	var r Ref
	var err, err1, err2 error
	r.ID, err = repo.ParseID(id)
	r.Fence.Epoch, err1 = strconv.ParseUint(epoch, 10, 64)
	r.Fence.Counter, err2 = strconv.ParseUint(counter, 10, 64)
	if !ok || !ok2 || err != nil || err1 != nil || err2 != nil || r.Text() != s {
		return Ref{}, fmt.Errorf("attempt %q: not of the form ID-EPOCH.COUNTER: %w", s, errs.Invalid)
	}
	return r, nil
}

// Grant is what an attempt may use: derived keys of one domain and how its rows
// are cut. It must not outlive the attempt and must never be written down.
type Grant struct {
	// Domain whose chunks the attempt may write or read.
	Domain seal.DomainID
	// NameKey names chunks.
	NameKey seal.Key
	// CutKey decides where rows are cut. Zero in grants for restores.
	CutKey seal.Key
	// RefsKey seals chunk lists and the references part.
	RefsKey seal.Key
	// SealKeys seal data, by epoch: one for a backup, those of the snapshot for a restore.
	SealKeys map[uint32]seal.Key
	// NewestEpoch is the largest epoch in SealKeys; a backup seals with it.
	NewestEpoch uint32
	// Cut says how large chunks become.
	Cut chunk.Params
}

// Backup says what to back up.
type Backup struct {
	// Instance, by its name within the agent.
	Instance string
	// Databases are globs of names to take, in display form; empty means all.
	Databases []string
	// Exclude are globs of names to leave out, in display form.
	Exclude []string
	// Workers is the number of parallel COPY streams; 0 lets the agent choose.
	Workers int
	// LockWait bounds the wait for the locks of a database; 0 means the agent's default.
	LockWait time.Duration
	// AbortOnBlockedDDL gives a database up when our locks queue somebody's DDL for longer than Patience.
	AbortOnBlockedDDL bool
	// Patience of AbortOnBlockedDDL; 0 means the agent's default.
	Patience time.Duration
}

// Restore says what to restore, and where.
type Restore struct {
	// Snapshot to read.
	Snapshot repo.JobID
	// Instance to restore into, by its name within the agent.
	Instance string
	// Databases to restore; empty means every database of the snapshot.
	Databases []Mapping
	// Jobs is the number of parallel streams; 0 lets the agent choose.
	Jobs int
	// Replace allows a database that exists to be replaced.
	Replace bool
	// DryRun plans and changes nothing.
	DryRun bool
	// NoOwner leaves out owners and privileges.
	NoOwner bool
	// Globals creates missing roles and tablespaces first.
	Globals bool
	// ReadBack compares every table once more after it was loaded.
	ReadBack bool
	// NoAnalyze gathers no statistics.
	NoAnalyze bool
	// PastBytesPerSecond is the plain bytes per second of PastRestores earlier
	// restores; both 0 when there were none. For the plan's estimate only.
	PastBytesPerSecond int64
	PastRestores       int
	// Schemas and Tables are patterns, as psql reads them; both empty means whole databases.
	Schemas, Tables []string
	// Sections wanted; none means all.
	Sections []Section
	// Roles and Tablespaces stand for others at the target.
	Roles, Tablespaces []Mapping
	// Live brings tables into a database that exists and is in use: into a side
	// schema or, with Replace, in place of the rows there.
	Live bool
	// LiveSchema is the side schema of a live restore; empty chooses a name.
	LiveSchema string
	// SkipDamaged leaves tables empty whose chunks are missing or damaged.
	SkipDamaged bool
	// OverwritePasswords sets the passwords of roles that exist; needs Globals.
	OverwritePasswords bool
	// GlobalsOnly restores roles and no database; needs Globals.
	GlobalsOnly bool
}

// Drill says which snapshot to prove, and what must hold.
type Drill struct {
	// Snapshot to read.
	Snapshot repo.JobID
	// Databases to restore, in display form; empty means every database of the snapshot.
	Databases []string
	// Jobs is the number of parallel streams; 0 lets the agent choose.
	Jobs int
	// Assertions that must hold in the restored databases.
	Assertions []Assertion
	// Timeout bounds the whole; 0 means the agent's default.
	Timeout time.Duration
	// KeepGoing goes on with the other databases after one that did not pass.
	KeepGoing bool
}

// Assertion is a query and what it must give: Expect as text, or, when that is
// empty, a boolean that is true.
type Assertion struct {
	// Database in display form.
	Database string
	// Name for the report.
	Name string
	// SQL is one query that gives one value.
	SQL string
	// Expect is the value.
	Expect string
}

// Selective tells whether less than whole databases is asked for.
func (r Restore) Selective() bool { return len(r.Schemas)+len(r.Tables) > 0 }

// Wants tells whether a section is asked for.
func (r Restore) Wants(s Section) bool {
	return len(r.Sections) == 0 || slices.Contains(r.Sections, s)
}

// Section is a part of a database that can be restored by itself.
type Section int

// The sections.
const (
	// PreData is schemas, types, functions, tables without rows, views.
	PreData Section = iota + 1
	// Data is rows, values of sequences, large objects.
	Data
	// PostData is indexes, constraints, triggers, rules, policies, publications.
	PostData
)

// Mapping gives a name of the snapshot another one at the target, in display form.
type Mapping struct {
	// Source is the name in the snapshot.
	Source string
	// Target is the name at the target. Of a database empty means the same, of a
	// tablespace the database's own.
	Target string
}

// Executor does one kind of work. It returns when nothing of the attempt runs
// any more: no goroutine, no connection, no tool. When ctx ends it must stop
// within seconds; context.Cause(ctx) says why. It never returns an Outcome of
// Succeeded for something that was not done.
type Executor func(ctx context.Context, j Job, r Reporter) Result

// Reporter takes what an executor tells while it works. Both methods return at
// once and may be called concurrently: what cannot be sent in time is dropped,
// the oldest first.
type Reporter interface {
	// Progress replaces what was said before. The reporter owns p's slices afterwards.
	Progress(p Progress)
	// Log adds one line to the attempt's log. The level is "debug", "info",
	// "warn" or "error".
	Log(level, msg string)
}
