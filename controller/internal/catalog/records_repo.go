package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Meta is what the catalog knows of itself.
type Meta struct {
	// Repository it belongs to.
	Repository repo.RepositoryID
	// Epoch of this catalog's reign over the store.
	Epoch uint64
	// Counter is the fencing counter given out last within the epoch.
	Counter uint64
	// Head is the newest record of the catalog log that this catalog has written.
	Head Witness
	// Name of the controller, for people.
	Name string
	// Created is when the catalog was made.
	Created time.Time
	// IssuingCA is the sealed bundle of the issuing certificate authority of this epoch.
	IssuingCA []byte
	// Base is the newest record of the log when this catalog's reign began: what
	// earlier epochs wrote beyond it is not in this catalog. Zero for the first one.
	Base Witness
	// FullNumber is the number of the newest full record that this catalog wrote,
	// FullTime when.
	FullNumber uint64
	FullTime   time.Time
}

// Key is what is known of a way to open the repository. That it exists, and of
// which kind it is, the store says.
type Key struct {
	// ID of the key object, Name for people.
	ID   repo.ID
	Name string
	// Created is when it was added, CreatedBy by whom.
	Created   time.Time
	CreatedBy string
	// Sheet tells that it is on a recovery sheet, Confirmation is the SHA-256 of the
	// word that confirms that the sheet exists.
	Sheet        bool
	Confirmation [32]byte
	// Confirmed is when somebody gave that word, zero when nobody has; ConfirmedBy is who.
	Confirmed   time.Time
	ConfirmedBy string
	// Recipient is the age recipient it was made for, which is public; empty for other kinds.
	Recipient string
}

// Erasure says that a domain is erased, or about to be. It stays for ever, so that
// nothing of the domain is taken in again.
type Erasure struct {
	Domain seal.DomainID
	// Instances that had snapshots in it or wrote to it.
	Instances []repo.InstanceID
	// Began is when it was asked for, By by whom.
	Began time.Time
	By    string
	// Destroyed is when the last of its keys was gone from the store, Done when the
	// rest of it was gone too; zero before.
	Destroyed, Done time.Time
	// Snapshots that the catalog had in it.
	Snapshots int64
}

// Distrust says that what an agent uploaded in a time is not relied on.
type Distrust struct {
	Agent repo.AgentID
	// Since and Until bound the creation of its packs.
	Since, Until time.Time
	// By is who said so.
	By string
	// Done is when all packs had been found, zero before; Packs is how many.
	Done  time.Time
	Packs int64
}

// DistrustedPack is a pack that is not relied on.
type DistrustedPack struct {
	Domain seal.DomainID
	Pack   PackID
	// Agent that uploaded it.
	Agent repo.AgentID
}

// PauseKind names a reason for which nothing may be deleted from the store. It
// is stored, and with the subject the record's key.
type PauseKind string

// The kinds of pauses.
const (
	// PauseRebuild: the catalog was made again from the store.
	PauseRebuild PauseKind = "rebuild"
	// PauseLogDamaged: the catalog log had holes or damage when it was read.
	PauseLogDamaged PauseKind = "log-damaged"
	// PauseRolledBack: somebody has seen a newer state of the store than it has.
	PauseRolledBack PauseKind = "rolled-back"
	// PauseClock: the clock has leapt further than anybody but a person can explain.
	PauseClock PauseKind = "clock"
)

// Pause is a reason for which nothing may be deleted from the store, until a
// person has decided.
type Pause struct {
	// Kind of the reason, Reason for people, Since when.
	Kind   PauseKind
	Reason string
	Since  time.Time
	// Subject is who found it, where several can: what one agent made up, and a person
	// has decided about, must not hide what another one sees.
	Subject string
	// Witness is what was seen and is not in the store's log; zero for other kinds.
	Witness Witness
	// Resumed is when a person decided that deletion may go on, zero when nobody
	// has; ResumedBy is who.
	Resumed   time.Time
	ResumedBy string
}

// Snapshot is the record of a snapshot that exists in the store.
type Snapshot struct {
	// ID is the id of the job that made it.
	ID repo.JobID
	// Instance it was made of, by id and by the name it had.
	Instance     repo.InstanceID
	InstanceName string
	// Agent that read it.
	Agent repo.AgentID
	// Domain of its chunks.
	Domain seal.DomainID
	// Kind of snapshot.
	Kind repo.SnapshotKind
	// Fence of the attempt that made it.
	Fence repo.Fence
	// Started is when the backup began, Committed when the snapshot came into being.
	Started, Committed time.Time
	// Complete tells whether everything asked for is in it.
	Complete bool
	// SealEpoch is the newest seal epoch that any chunk or part of it may need: the domain's
	// newest when it was committed.
	SealEpoch uint32
	// ObjectHash is the SHA-256 of the snapshot object, ObjectBytes its size.
	ObjectHash  [32]byte
	ObjectBytes int64
	// Databases in it, Rows and PlainBytes it stands for, Chunks it names.
	Databases        int32
	Rows, PlainBytes int64
	Chunks           int64
	// StoredBytes had to be stored for it.
	StoredBytes int64
	// ServerVersion, SystemIdentifier and Incarnation of the source.
	ServerVersion    int32
	SystemIdentifier uint64
	Incarnation      uint32
	// Contents are its databases, in order. Nil when there are more than MaxContents,
	// and in records of before they were kept: then its manifest alone says it.
	Contents []SnapshotDatabase
	// Forgotten says that it is to go, Hold that it is to stay for a time; the zero
	// values say neither. Its object does not say them: the catalog and its log alone do.
	Forgotten Forgotten
	Hold      Hold
	// Purged is when it was decided, for good, that its object goes; zero before. The
	// record stays until the object is gone, so that nobody takes the object for news.
	Purged time.Time
}

// MaxContents bounds the databases that a snapshot's record names.
const MaxContents = 1000

// SnapshotDatabase is one database of a snapshot, by its name in display form.
type SnapshotDatabase struct {
	Name     string
	Complete bool
}

// Forgotten says that a snapshot is to go.
type Forgotten struct {
	// Time, By and Reason: when, by which identity and why.
	Time       time.Time
	By, Reason string
	// PurgeAfter is the time before which it is not purged.
	PurgeAfter time.Time
	// Doubtful tells that the clock was in doubt then: the times say little, and the
	// delay begins anew once the clock is believed.
	Doubtful bool
}

// Hold keeps a snapshot until a time.
type Hold struct {
	// Until when, By which identity, Reason why, and Time when that was asked for.
	Until      time.Time
	By, Reason string
	Time       time.Time
}

// Active tells whether a hold keeps its snapshot at a time.
func (h Hold) Active(at time.Time) bool { return at.Before(h.Until) }

// Live tells a snapshot that nobody has forgotten.
func (s Snapshot) Live() bool { return s.Forgotten.Time.IsZero() && s.Purged.IsZero() }

// PruneNeed says that something of a domain was purged since its last prune.
type PruneNeed struct {
	// Domain it is about.
	Domain seal.DomainID
	// Since is when the first of it was purged.
	Since time.Time
	// Snapshots were purged since then, for which Bytes had to be stored.
	Snapshots int64
	Bytes     int64
}

// Clock is what is known of the controller's clock.
type Clock struct {
	// Believed is the newest time at which the clock was believed.
	Believed time.Time
	// Looked is when it was looked at last, by itself.
	Looked time.Time
}

// PackState is how far a pack is.
type PackState int

// The states of a pack. The numbers are stored.
const (
	// PackIntent: about to be put; it may or may not be in the store.
	PackIntent PackState = 1
	// PackStored: durable in the store.
	PackStored PackState = 2
	// PackIndexed: durable, and its chunks are in an index file.
	PackIndexed PackState = 3
)

// PackID is the content-addressed id of a pack.
type PackID = [32]byte

// Pack is the journal record of a pack that a job put. The records of a job
// are what start-up and a retry need to know; they are not exported, since the
// store's own listing says the same. They go when the job has ended and the
// pack is indexed: see Tx.SweepPacks.
type Pack struct {
	// ID of the pack.
	ID PackID
	// Job and Fence of the attempt that filled it.
	Job   repo.JobID
	Fence repo.Fence
	// Instance that uploaded it.
	Instance repo.InstanceID
	// Domain it belongs to.
	Domain seal.DomainID
	// State is how far it is.
	State PackState
	// Size in bytes and number of Frames.
	Size   int64
	Frames int32
	// Created is when the intent was written.
	Created time.Time
}

// AuditRecord is one link of the audit chain.
type AuditRecord struct {
	// Number counts from 1 without gaps; given by the catalog.
	Number uint64
	// Time by the controller's clock; given by the catalog when zero.
	Time time.Time
	// Actor is an identity, for example "operator/admin", or "" for nobody known.
	Actor string
	// Address the call came from.
	Address string
	// Action, for example "agent.revoke".
	Action string
	// Object it concerned, for example "agent db1".
	Object string
	// Outcome is "ok" or the kind of the refusal.
	Outcome string
	// Detail is more for people: a reason, a changed value. Never a secret.
	Detail string
	// Previous and Hash chain the records: Hash covers every field above and Previous.
	Previous, Hash [32]byte
}

// Totals are sums over all records.
type Totals struct {
	// Snapshots counts them, PlainBytes is what they stand for, StoredBytes what
	// had to be stored for them.
	Snapshots, PlainBytes, StoredBytes int64
}
