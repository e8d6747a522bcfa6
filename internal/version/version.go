// Package version tells which build this is and what it understands. The
// version comes from the linker, the revision from Go's own build information.
package version

import (
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X github.com/tuskvault/tuskvault/internal/version.version=0.1.0".
var version = ""

// Capability is what this build understands of the protocol between agent and
// controller. It grows by one with each change; History says what each brought.
const Capability uint32 = 2

// Step is one row of the capability history.
type Step struct {
	// Number is the capability.
	Number uint32
	// Meaning says what a program with this number understands that one with the number before did not.
	Meaning string
}

// History lists every capability number, oldest first. docs/PROTOCOL.md has the
// same table; a test compares them.
func History() []Step {
	return []Step{
		{1, "sessions with leases and fencing numbers, backup and restore work, chunk upload and download"},
		{2, "drill work, what drills need in inventories and results, and how long past restores took in restore work"},
	}
}

// Build describes a program.
type Build struct {
	// Version, for example "0.1.0"; "dev" when the linker was not told.
	Version string
	// Revision of the source, with "-dirty" when the tree was changed; empty when unknown.
	Revision string
	// Capability number.
	Capability uint32
	// Platform, for example "go1.26.8 linux/amd64".
	Platform string
}

// Get describes this program.
func Get() Build {
	b := Build{Version: version, Capability: Capability,
		Platform: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	if b.Version == "" {
		b.Version = "dev"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && b.Revision != "" {
		b.Revision += "-dirty"
	}
	return b
}

// String gives one line for people.
func (b Build) String() string {
	s := b.Version
	if b.Revision != "" {
		s += " (" + b.Revision + ")"
	}
	return s + " " + b.Platform
}
