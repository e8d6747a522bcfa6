package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// PrunePhase is how far the prune of a domain is.
type PrunePhase int

// The phases. The numbers are stored.
const (
	// PruneCondemned: its packs count as not stored, for ever.
	PruneCondemned PrunePhase = 1
	// PruneCopied: what of them is needed was copied elsewhere, durably.
	PruneCopied PrunePhase = 2
	// PruneDeletable: they may be deleted.
	PruneDeletable PrunePhase = 3
)

// String gives the phase in one word.
func (p PrunePhase) String() string {
	switch p {
	case PruneCondemned:
		return "condemned"
	case PruneCopied:
		return "copied"
	case PruneDeletable:
		return "deletable"
	}
	return "unknown"
}

// Prune is one prune of one domain that has not ended.
type Prune struct {
	// ID of the prune, Domain it is in.
	ID     repo.ID
	Domain seal.DomainID
	// Phase it is in.
	Phase PrunePhase
	// By is who asked for it.
	By string
	// Condemned is when its packs were.
	Condemned time.Time
	// Jobs are those that it waits for: not ended then, they may have been told that
	// something in the packs is stored, or be reading it.
	Jobs []repo.JobID
	// Packs and Bytes were condemned; Copied is what of them was copied elsewhere.
	Packs, Bytes, Copied int64
	// Need is what was noted of the domain when it began; nil when nothing was.
	Need *PruneNeed
	// Complete tells that everything that is to go was condemned.
	Complete bool
	// Deferred counts the packs that the store did not let go yet.
	Deferred int64
}

// PruneRunState is how a run over the domains stands.
type PruneRunState int

// The states of a run. The numbers are stored.
const (
	// PruneRunning: it runs.
	PruneRunning PruneRunState = 1
	// PruneDone: what could be done now was.
	PruneDone PruneRunState = 2
	// PruneFailed: something kept it from that.
	PruneFailed PruneRunState = 3
	// PruneCanceled: an operator stopped it.
	PruneCanceled PruneRunState = 4
)

// String gives the state in one word.
func (s PruneRunState) String() string {
	switch s {
	case PruneRunning:
		return "running"
	case PruneDone:
		return "done"
	case PruneFailed:
		return "failed"
	case PruneCanceled:
		return "canceled"
	}
	return "unknown"
}

// PruneRun is the last run over the domains.
type PruneRun struct {
	// ID of the run, State it is in, By who asked for it.
	ID    repo.ID
	State PruneRunState
	By    string
	// DryRun tells that nothing is changed.
	DryRun bool
	// Started and Ended are its times, Message its outcome in a sentence.
	Started, Ended time.Time
	Message        string
	// Domains were named; none means those in which something was forgotten. Budget
	// bounds the bytes of live chunks that are copied in each.
	Domains []seal.DomainID
	Budget  int64
	// Outcomes by domain, at most MaxPruneOutcomes.
	Outcomes []PruneOutcome
}

// MaxPruneOutcomes bounds the domains of which a run's record tells.
const MaxPruneOutcomes = 1000

// PruneOutcome is what a run did in one domain, or would do.
type PruneOutcome struct {
	Domain seal.DomainID
	// Packs with Frames and Bytes were looked at.
	Packs, Bytes, Frames int64
	// DeadPacks and DeadBytes are those of which nothing is needed, that were
	// condemned.
	DeadPacks, DeadBytes int64
	// RepackPacks and RepackBytes are those of which RepackLive bytes of chunks are
	// needed, that were condemned too.
	RepackPacks, RepackBytes, RepackLive int64
	// LeftBytes of garbage stay: copying what lies beside them is beyond the budget.
	LeftBytes int64
	// FreedPacks and FreedBytes were deleted, CopiedBytes copied.
	FreedPacks, FreedBytes, CopiedBytes int64
	// WaitingPacks and WaitingBytes are condemned and not deleted; WaitsFor says why.
	WaitingPacks, WaitingBytes int64
	WaitsFor                   string
	// Problem says why the domain could not be pruned; empty when it could.
	Problem string
	// DeferredPacks were not let go by the store.
	DeferredPacks int64
}
