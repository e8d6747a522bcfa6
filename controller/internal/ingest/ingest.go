// Package ingest is the controller's side of ChunkService: it takes sealed
// chunks from agents, makes packs of them in a store, keeps each domain's chunk
// index, makes snapshots exist, and gives chunks back to restores.
//
// What it promises:
//
//   - An acknowledged chunk is durable and findable, whatever instruction the
//     controller dies at.
//   - A snapshot exists only when everything it names is in the store.
//   - Nothing that an agent says widens what its attempt may write, ask for or
//     read.
//
// A pack becomes durable in this order: the journal records the intent and
// syncs; the store takes the pack; the journal replaces the intent by the pack;
// the job's index in memory takes its chunks; the agent is told. A crash after
// the intent leaves an orphan that the journal names: Recover finds it in the
// store and takes it in, or finds it absent and drops the intent. A crash after
// the pack is journalled leaves a pack that no index file covers: Recover reads
// its directory and indexes it. What was never acknowledged may be lost; the
// next attempt sends it again.
//
// Memory is bounded: see limits.go for each bound and its reason.
//
// The package does not know the catalog: Attempts and Journal are what it needs
// of it.
package ingest

import (
	"context"
	"time"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Kind says what an attempt may do with chunks.
type Kind byte

// The kinds of attempts.
const (
	// KindBackup may upload and commit.
	KindBackup Kind = 1
	// KindRestore may download one snapshot.
	KindRestore Kind = 2
)

// Grant is what a current attempt may do. It comes from the catalog, never from
// the agent.
type Grant struct {
	// Job and Fence name the attempt.
	Job   repo.JobID
	Fence repo.Fence
	// Kind says which calls are open to it.
	Kind Kind
	// Instance is backed up or restored into; Domain is whose chunks are moved.
	// For a restore Domain is the snapshot's domain.
	Instance repo.InstanceID
	Domain   seal.DomainID
	// Shared tells that the domain has, or ever had, other instances than Instance.
	// In a shared domain an instance is only ever told of its own uploads.
	Shared bool
	// SealEpoch is the epoch of the seal key that the attempt was given; data sealed
	// under another is refused. 0 means the domain's newest.
	SealEpoch uint32
	// Snapshot and SnapshotInstance name the one snapshot that a restore may read.
	Snapshot         repo.JobID
	SnapshotInstance repo.InstanceID
}

// Attempts tells what an attempt may do. The catalog implements it.
type Attempts interface {
	// Authorize gives the grant of the attempt. It refuses with Denied an agent to
	// which the attempt was not leased, with Conflict a fence that is not the job's
	// newest or an attempt that has ended, and with NotFound an unknown job. It is
	// called at the start of each call and every half minute while one lasts, so
	// it should answer from memory or one read.
	Authorize(ctx context.Context, agent repo.AgentID, job repo.JobID, fence repo.Fence) (Grant, error)
}

// PackIntent says that a pack is about to be put.
type PackIntent struct {
	// ID and Domain give the pack's key in the store.
	ID     pack.ID
	Domain seal.DomainID
	// Job and Fence are the attempt that filled it, Instance is its uploader.
	Job      repo.JobID
	Fence    repo.Fence
	Instance repo.InstanceID
	// Size is that of the whole object, in bytes; Chunks counts its frames.
	Size   int64
	Chunks int
	// Created is the time in the pack's trailer.
	Created time.Time
}

// PackRecord is a pack that is durable in the store.
type PackRecord struct {
	PackIntent
	// Indexed tells that an index file in the store covers the pack.
	Indexed bool
}

// Committing is the state of a commit between its journal record and its end.
type Committing struct {
	Job      repo.JobID
	Fence    repo.Fence
	Instance repo.InstanceID
	Domain   seal.DomainID
	// Object is the SHA-256 of the whole snapshot object about to be put.
	Object [32]byte
}

// Snapshot is what the catalog keeps of a snapshot; everything in it can be read
// again from the snapshot object.
type Snapshot struct {
	// ID is the job's id; with Instance it gives the object's key.
	ID       repo.JobID
	Fence    repo.Fence
	Instance repo.InstanceID
	Domain   seal.DomainID
	Agent    repo.AgentID
	Kind     repo.SnapshotKind
	// Complete tells that every database asked for is completely in it.
	Complete bool
	// Object is the SHA-256 of the object, Size its length in bytes.
	Object [32]byte
	Size   int64
	// Committed is the time in the commit record, by the controller's clock.
	Committed time.Time
	// Started and Finished bound the reading, by the agent's clock.
	Started  time.Time
	Finished time.Time
	// SystemIdentifier and ServerVersion are the instance's when read.
	SystemIdentifier uint64
	ServerVersion    int
	// SealEpoch is the newest seal epoch that anything in it may need; a reader
	// needs the keys of this and every earlier epoch of the domain.
	SealEpoch uint32
	// Chunks counts references, PlainBytes their plaintext, Rows the rows of all tables.
	Chunks     int64
	PlainBytes int64
	Rows       int64
	// StoredBytes and NewChunks are what this job added to the store.
	StoredBytes int64
	NewChunks   int64
	// Databases in the order of the content part.
	Databases []SnapshotDatabase
	// Problems concern the whole instance.
	Problems []repo.Problem
}

// SnapshotDatabase is one database of a snapshot.
type SnapshotDatabase struct {
	// Name is in display form.
	Name       string
	State      repo.DatabaseState
	Tables     int64
	Rows       int64
	PlainBytes int64
	LSN        string
	Time       time.Time
	Problems   []repo.Problem
}

// Journal records what ingest does, before and after it does it. Every call is
// durable when it returns nil. The catalog implements it. Calls may come
// concurrently.
type Journal interface {
	// PackIntent records that a pack is about to be put. It refuses with Conflict
	// when the attempt is not the job's current one. The same intent twice is one.
	PackIntent(ctx context.Context, i PackIntent) error
	// PackStored replaces the intent by the pack's record, not yet indexed. A
	// record that exists already is left alone. It is accepted from an attempt that
	// is no longer current: the pack is in the store, and the next attempt uses it.
	PackStored(ctx context.Context, job repo.JobID, id pack.ID) error
	// PackDropped removes the intent of a pack that is known not to be in the store.
	PackDropped(ctx context.Context, job repo.JobID, id pack.ID) error
	// PackIndexed marks packs as covered by an index file in the store.
	PackIndexed(ctx context.Context, job repo.JobID, ids []pack.ID) error
	// PacksOf gives the records of all packs that the job's attempts stored. They
	// are kept at least until the job has ended and the pack is indexed.
	PacksOf(ctx context.Context, job repo.JobID) ([]PackRecord, error)
	// Intents gives every intent, and Unindexed every record that is not indexed,
	// of ended jobs too; start-up reads both.
	Intents(ctx context.Context) ([]PackIntent, error)
	Unindexed(ctx context.Context) ([]PackRecord, error)

	// Committing records the state in the same transaction that checks that the
	// attempt is the job's current one, else Conflict. The same attempt may repeat
	// it with another object hash as long as the commit has not ended.
	Committing(ctx context.Context, c Committing) error
	// Committed records the snapshot and ends the committing state. Repeating it
	// changes nothing. It is accepted from any attempt of the job: the store has decided.
	Committed(ctx context.Context, s Snapshot) error
	// Uncommitted takes the committing state back: the object is known not to exist.
	Uncommitted(ctx context.Context, job repo.JobID, fence repo.Fence) error
	// Unfinished gives every commit in the committing state; start-up reads it.
	Unfinished(ctx context.Context) ([]Committing, error)
	// LogNumber gives the number of the catalog log's newest record, for the commit record.
	LogNumber(ctx context.Context) (uint64, error)
}
