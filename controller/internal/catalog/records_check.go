package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// CheckState is how a check of the repository stands.
type CheckState int

// The states of a check. The numbers are stored.
const (
	// CheckRunning: it runs, or is gone on with after a restart.
	CheckRunning CheckState = 1
	// CheckClean: ended without damage.
	CheckClean CheckState = 2
	// CheckDamaged: ended with damage.
	CheckDamaged CheckState = 3
	// CheckFailed: ended without a verdict.
	CheckFailed CheckState = 4
	// CheckCanceled: somebody asked it to stop.
	CheckCanceled CheckState = 5
)

// String names the state as people know it.
func (s CheckState) String() string {
	switch s {
	case CheckRunning:
		return "running"
	case CheckClean:
		return "clean"
	case CheckDamaged:
		return "damaged"
	case CheckFailed:
		return "failed"
	case CheckCanceled:
		return "canceled"
	}
	return "unknown"
}

// Bounds of what a check's record holds: what a person reads, not all that a
// broken disk can cause. With them it has a few megabytes at most.
const (
	MaxCheckFindings = 1000
	MaxCheckEffects  = 20
	MaxCheckHurt     = 1000
)

// Check is the last check of the repository: there is one record. It is not
// exported: a rebuilt catalog has its repository checked anew.
type Check struct {
	ID    repo.ID
	State CheckState
	// By is who asked for it.
	By string
	// Copy is the copy that was checked, empty for the repository's own store.
	Copy string
	// ReadData, Sample (in millionths) and Seed are what was asked for.
	ReadData bool
	Sample   int
	Seed     uint64
	// Started and Ended; Resumed when a part was done before an interruption.
	Started, Ended time.Time
	Resumed        bool
	// Message is the outcome in a sentence.
	Message string
	// How much was looked at: snapshots, pack directories and the chunks in them,
	// then packs whose frames were read, those frames and their bytes.
	Snapshots, Packs, Chunks         int64
	PacksRead, FramesRead, BytesRead int64
	// Harm counts findings that mean damage, FindingsTotal all of them; Findings are
	// the first MaxCheckFindings.
	Harm, FindingsTotal int64
	Findings            []CheckFinding
	// HurtTotal counts snapshots hurt; Hurt are the first MaxCheckHurt.
	HurtTotal int64
	Hurt      []HurtSnapshot
	// Untraced counts places of chunks whose tables were not looked up.
	Untraced int64
}

// CheckFinding is one object with which something is wrong; see check.Finding.
type CheckFinding struct {
	Object, Problem, Detail string
	Harmless                bool
	Chunks                  int64
	Effects                 []CheckEffect
	EffectsMore             int64
}

// CheckEffect is one thing that cannot be restored whole; see check.Effect.
type CheckEffect struct {
	Snapshot         repo.JobID
	Instance         repo.InstanceID
	Database, Object string
}

// HurtSnapshot is a snapshot of which something cannot be restored.
type HurtSnapshot struct {
	Snapshot repo.JobID
	Instance repo.InstanceID
	Whole    bool
	Objects  int64
}

// Scrub is how far reading all packs in the background is.
type Scrub struct {
	// Domain and Pack are the last pack read in this round; zero before the first.
	Domain seal.DomainID
	Pack   PackID
	// Started is when this round began, zero between two; Completed when the last one
	// that read everything ended.
	Started, Completed time.Time
	// Due is when the budget allows the next read.
	Due time.Time
	// Packs and Bytes were read in this round, CompletedPacks and CompletedBytes in
	// the last whole one.
	Packs, Bytes                   int64
	CompletedPacks, CompletedBytes int64
}

// DamagedPack is a pack of which something must not be relied on.
type DamagedPack struct {
	Domain seal.DomainID
	Pack   PackID
	// Whole tells that nothing in it counts; else Frames are what does not.
	Whole  bool
	Frames []DamagedFrame
	// Found is when it was found.
	Found time.Time
}

// DamagedFrame is a place in a pack.
type DamagedFrame struct {
	Name   seal.Name
	Offset int64
}
