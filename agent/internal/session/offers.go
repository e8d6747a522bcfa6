package session

import (
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The words of an agent's allow list.
const (
	// AllowBackup: make snapshots.
	AllowBackup = "backup"
	// AllowDrill: restore into a throw-away PostgreSQL.
	AllowDrill = "drill"
	// AllowRestoreNew: restore into databases that do not exist yet.
	AllowRestoreNew = "restore-new"
	// AllowRestoreReplace: replace databases that exist.
	AllowRestoreReplace = "restore-replace"
	// AllowRestoreGlobals: create roles and tablespaces.
	AllowRestoreGlobals = "restore-globals"
)

// AllowWords lists every word of the allow list.
func AllowWords() []string {
	return []string{AllowBackup, AllowDrill, AllowRestoreNew, AllowRestoreReplace, AllowRestoreGlobals}
}

// DefaultAllow is the allow list of an agent whose configuration has none.
func DefaultAllow() []string { return []string{AllowBackup, AllowDrill, AllowRestoreNew} }

// rules are what offers are judged by.
type rules struct {
	allow     []string
	kinds     []job.Kind
	instances []string
	// epoch of the session's controller.
	epoch uint64
}

// judge says why an offer is refused, or nil. It decides by the agent's own
// configuration alone. A dry run needs what the real run would: a plan that says
// "ready" where the real run is refused would mislead.
func (r rules) judge(j job.Job) error {
	if j.Fence.Epoch != r.epoch {
		return fmt.Errorf("attempt of epoch %d offered by the controller of epoch %d: %w", j.Fence.Epoch, r.epoch, errs.Conflict)
	}
	kind := j.Kind()
	if kind == "" || !slices.Contains(r.kinds, kind) {
		return fmt.Errorf("this agent does not know this kind of work: %w", errs.Unsupported)
	}
	for _, word := range needs(j) {
		if !slices.Contains(r.allow, word) {
			return fmt.Errorf("this agent's own configuration does not allow %q: %w", word, errs.Denied)
		}
	}
	if name := instanceOf(j); j.Drill == nil && !slices.Contains(r.instances, name) {
		return fmt.Errorf("this agent has no instance %q: %w", name, errs.NotFound)
	}
	return nil
}

// needs gives the words that the allow list must have for a job.
func needs(j job.Job) []string {
	switch {
	case j.Backup != nil:
		return []string{AllowBackup}
	case j.Restore != nil:
		words := []string{AllowRestoreNew}
		if j.Restore.Replace {
			words = []string{AllowRestoreReplace}
		}
		if j.Restore.Globals {
			words = append(words, AllowRestoreGlobals)
		}
		if j.Restore.OverwritePasswords { // of roles that exist
			words = append(words, AllowRestoreReplace)
		}
		return words
	case j.Drill != nil:
		return []string{AllowDrill}
	}
	return nil
}

// instanceOf gives the instance that a job concerns, "" for a drill: it concerns none of this agent's.
func instanceOf(j job.Job) string {
	switch {
	case j.Backup != nil:
		return j.Backup.Instance
	case j.Restore != nil:
		return j.Restore.Instance
	}
	return ""
}
