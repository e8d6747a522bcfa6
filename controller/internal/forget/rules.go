package forget

import (
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Candidate is a snapshot with what a decision about it needs to know.
type Candidate struct {
	catalog.Snapshot
	// Verified tells that a drill of all its databases has passed.
	Verified bool
}

// mayForget tells whether a snapshot may be forgotten: errs.Conflict when it is
// held, or when its object is going already.
func mayForget(s catalog.Snapshot, now time.Time) error {
	switch {
	case !s.Purged.IsZero():
		return fmt.Errorf("snapshot %s is being purged since %s: %w", s.ID.Short(), at(s.Purged), errs.Conflict)
	case s.Hold.Active(now):
		return fmt.Errorf("snapshot %s is held until %s by %s (%s): %w", s.ID.Short(), at(s.Hold.Until), s.Hold.By, s.Hold.Reason, errs.Conflict)
	}
	return nil
}

// Last tells what would be lost for good with a snapshot: the databases of which
// it is the last complete one, and those of which it is the last one that was
// verified, among the live snapshots of the same instance and incarnation. others
// may hold the snapshot itself; one whose databases are not known vouches for none.
func Last(s Candidate, others []Candidate) (complete, verified []string) {
	elsewhere, proved := map[string]bool{}, map[string]bool{}
	for _, o := range others {
		if o.ID == s.ID || o.Instance != s.Instance || o.Incarnation != s.Incarnation || !o.Live() {
			continue
		}
		for _, d := range o.Contents {
			if d.Complete {
				elsewhere[d.Name] = true
				proved[d.Name] = proved[d.Name] || o.Verified
			}
		}
	}
	for _, d := range s.Contents {
		if !d.Complete {
			continue
		}
		if !elsewhere[d.Name] {
			complete = append(complete, d.Name)
		}
		if s.Verified && !proved[d.Name] {
			verified = append(verified, d.Name)
		}
	}
	return complete, verified
}

// checkLast refuses to forget the last of something.
func checkLast(s Candidate, others []Candidate) error {
	if s.Contents == nil && s.Databases > 0 {
		return &LastError{Snapshot: s.Snapshot, what: "of databases that its record does not name, and may be the last"}
	}
	complete, verified := Last(s, others)
	switch {
	case len(complete) > 0:
		return &LastError{Snapshot: s.Snapshot, what: fmt.Sprintf("the last complete snapshot of database %s", named(complete))}
	case len(verified) > 0:
		return &LastError{Snapshot: s.Snapshot, what: fmt.Sprintf("the last verified snapshot of database %s", named(verified))}
	}
	return nil
}

// LastError says that a snapshot is the last of something.
type LastError struct {
	Snapshot catalog.Snapshot
	what     string
}

// Error says what of.
func (e *LastError) Error() string {
	return fmt.Sprintf("snapshot %s is %s of %s: conflict", e.Snapshot.ID.Short(), e.what, e.Snapshot.InstanceName)
}

// Unwrap gives the kind.
func (e *LastError) Unwrap() error { return errs.Conflict }

// named gives the first few names.
func named(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}

// mayPurge tells whether a forgotten snapshot's object may go now: the delay is
// over by the time it was given and by the delay of today, nothing holds it, and
// its delay began at a time that was believed.
func mayPurge(s catalog.Snapshot, now time.Time, delay time.Duration) bool {
	f := s.Forgotten
	return !s.Live() && s.Purged.IsZero() && !f.Doubtful && !s.Hold.Active(now) && !now.Before(f.PurgeAfter) && now.Sub(f.Time) >= delay
}

func at(t time.Time) string { return t.UTC().Format(time.RFC3339) }
