package check

import (
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Problem says what sort of thing is wrong with an object.
type Problem string

// The problems.
const (
	// Damaged: the object is there and its bytes are not what was written, or
	// cannot be read.
	Damaged Problem = "damaged"
	// Missing: something needs the object and it is not there.
	Missing Problem = "missing"
	// Unknown: the object is no part of a repository.
	Unknown Problem = "unknown"
	// Contradictory: the object is whole and says something that others deny.
	Contradictory Problem = "contradictory"
)

// Finding is one object with which something is wrong.
type Finding struct {
	// Object is its key in the store; a prefix that ends in "/" where it is not
	// known which object is missing.
	Object string
	// Kind is the first part of the key: "packs", "snapshots", "index" and so on.
	Kind    string
	Problem Problem
	// Detail says what is wrong, for people.
	Detail string
	// Harmless findings should be looked at but lose nothing: no snapshot needs what
	// is wrong, and a reader finds its way.
	Harmless bool
	// Chunks is the number of chunks concerned: damaged frames of a pack, chunks that
	// were in a missing one. 0 for other objects.
	Chunks int64
	// Effects are what it hurts, at most maxEffects; EffectsMore counts the rest.
	Effects     []Effect
	EffectsMore int64
}

// Effect is one thing that cannot be restored whole because of a finding.
type Effect struct {
	Snapshot repo.JobID
	Instance repo.InstanceID
	// Database is the display form of its name; empty when the whole snapshot is hurt.
	Database string
	// Object within the database: the display form SCHEMA.TABLE of a table, "schema
	// archive" or "large objects"; empty when all of the database is.
	Object string
}

// HurtSnapshot is a snapshot of which something cannot be restored.
type HurtSnapshot struct {
	Snapshot repo.JobID
	Instance repo.InstanceID
	// Whole tells that nothing of it can be restored.
	Whole bool
	// Objects is the number of tables, archives and sets of large objects hurt.
	Objects int64
}

// BadFrame is a place in a pack whose bytes are not those that the pack's
// directory names.
type BadFrame struct {
	Name   seal.Name
	Offset int64
}

// BadPack is a pack of which something cannot be read.
type BadPack struct {
	Domain seal.DomainID
	Pack   pack.ID
	// Whole tells that nothing in it can be relied on: it is missing, its directory
	// is damaged, or it has more than MaxBadFrames bad frames.
	Whole bool
	// Frames are the bad ones when not Whole, by offset.
	Frames []BadFrame
}

// ObjectCount is what is stored under one prefix.
type ObjectCount struct {
	Objects, Bytes int64
}

// DomainCount is what a domain holds.
type DomainCount struct {
	Domain seal.DomainID
	// Packs and their Bytes, whole objects; Frames in them and the bytes of these.
	Packs, Bytes       int64
	Frames, FrameBytes int64
	// IndexFiles and their bytes.
	IndexFiles, IndexBytes int64
	// The next three are zero without keys. Snapshots counts snapshots; PlainBytes is
	// what they stand for, ChunkRefs the chunks that they name.
	Snapshots, PlainBytes, ChunkRefs int64
	// ReferencedBytes is the size of frames that some snapshot names (each name
	// once); it is zero unless chunks were looked for.
	ReferencedBytes int64
}

// Report is what a check found.
type Report struct {
	// Repository that was checked.
	Repository repo.RepositoryID
	// Keys tells whether parts sealed for the controller could be opened, ReadData
	// whether chunks were.
	Keys, ReadData bool
	// Sample is the part of packs whose frames were read, in millionths, and Seed
	// what chose them.
	Sample int
	Seed   uint64
	// Started and Ended; a resumed check started when its first part did.
	Started, Ended time.Time
	// Resumed tells that frames read before an interruption were not read again.
	Resumed bool

	// Findings by the key of their object, at most MaxFindings; FindingsMore counts
	// the rest.
	Findings     []Finding
	FindingsMore int64
	// Harm counts all findings that are not harmless.
	Harm int64
	// Snapshots hurt, at most MaxHurtSnapshots; SnapshotsMore counts the rest.
	Snapshots     []HurtSnapshot
	SnapshotsMore int64
	// Untraced counts places of chunks whose tables were not looked up because there
	// is too much damage for it. 0 means that every hurt table is among the effects.
	Untraced int64
	// BadPacks are what must not be relied on, at most MaxBadPacks.
	BadPacks []BadPack

	// Objects counts what is stored, by kind; Domains by domain.
	Objects map[string]ObjectCount
	Domains []DomainCount
	// SnapshotsChecked, PacksChecked (directories), ChunksChecked (entries of
	// directories), FramesRead and BytesRead (of frames) tell how much was done.
	SnapshotsChecked, PacksChecked, ChunksChecked int64
	PacksRead, FramesRead, BytesRead              int64
}

// Damaged tells whether anything was found that is not harmless: exit code 7.
func (r *Report) Damaged() bool { return r.Harm > 0 }

// Summary gives the outcome in a sentence.
func (r *Report) Summary() string {
	all := int64(len(r.Findings)) + r.FindingsMore
	switch {
	case all == 0:
		return "nothing is wrong"
	case r.Harm == 0:
		return fmt.Sprintf("no damage; %d harmless findings", all)
	}
	return fmt.Sprintf("%d objects with damage, %d snapshots hurt", r.Harm, int64(len(r.Snapshots))+r.SnapshotsMore)
}

// Phase says what a check is doing.
type Phase string

// The phases, in order. From PhaseIndex to PhaseTrace they are repeated for
// each domain.
const (
	PhaseObjects   Phase = "objects"
	PhaseLog       Phase = "log"
	PhaseSnapshots Phase = "snapshots"
	PhaseIndex     Phase = "index"
	PhasePacks     Phase = "packs"
	PhaseChunks    Phase = "chunks"
	PhaseFrames    Phase = "frames"
	PhaseTrace     Phase = "trace"
)

// Progress is how far a check is.
type Progress struct {
	Phase Phase
	// Domain that is being checked, and how many of all are done.
	Domain         seal.DomainID
	DomainsDone    int
	Domains        int
	Packs          int64 // packs listed so far whose directories are checked or to be
	PacksChecked   int64
	PacksRead      int64
	BytesRead      int64
	Findings, Harm int64
}
