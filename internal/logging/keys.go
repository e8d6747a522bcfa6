package logging

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// The keys that mean the same in every package. Units are in the name where
// they are not obvious.

// AgentID names an agent.
func AgentID(id fmt.Stringer) zap.Field { return zap.Stringer("agent_id", id) }

// Agent gives an agent's name.
func Agent(name string) zap.Field { return zap.String("agent", name) }

// Instance names an instance.
func Instance(name string) zap.Field { return zap.String("instance", name) }

// Database names a database, in display form.
func Database(name string) zap.Field { return zap.String("database", name) }

// Repository names a repository.
func Repository(id fmt.Stringer) zap.Field { return zap.Stringer("repository", id) }

// SnapshotID names a snapshot.
func SnapshotID(id fmt.Stringer) zap.Field { return zap.Stringer("snapshot_id", id) }

// JobID names a job.
func JobID(id fmt.Stringer) zap.Field { return zap.Stringer("job_id", id) }

// Attempt gives an attempt's fencing number.
func Attempt(fence fmt.Stringer) zap.Field { return zap.Stringer("attempt", fence) }

// Epoch gives a controller's epoch.
func Epoch(n uint64) zap.Field { return zap.Uint64("epoch", n) }

// LSN gives a log position.
func LSN(l fmt.Stringer) zap.Field { return zap.Stringer("lsn", l) }

// Timeline gives a timeline.
func Timeline(t uint32) zap.Field { return zap.Uint32("timeline", t) }

// Bytes counts bytes.
func Bytes(n int64) zap.Field { return zap.Int64("bytes", n) }

// Duration says how long something took.
func Duration(d time.Duration) zap.Field { return zap.Duration("duration", d) }

// Folder names a folder.
func Folder(path string) zap.Field { return zap.String("folder", path) }

// Address names where a peer is.
func Address(a string) zap.Field { return zap.String("address", a) }

// Detail is a sentence for people.
func Detail(s string) zap.Field { return zap.String("detail", s) }
