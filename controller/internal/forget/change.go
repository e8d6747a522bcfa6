package forget

import (
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Wish is what somebody wants of a snapshot. Each change below is one record in
// the transaction it is made in, which must be catalog.Sync.
type Wish struct {
	// By which identity, Reason why, Now when.
	By, Reason string
	Now        time.Time
	// Delay after which a forgotten snapshot may be purged, and whether the clock is
	// in doubt as it begins.
	Delay    time.Duration
	Doubtful bool
	// AllowLast is the full name of an instance of which even the last snapshot may be
	// forgotten.
	AllowLast string
}

// Forget notes that a snapshot is to go. One that is forgotten stays as it was.
// errs.Conflict: it is held, or being purged, or the last of something.
func Forget(tx *catalog.Tx, id repo.JobID, w Wish) (s catalog.Snapshot, news bool, err error) {
	if s, err = tx.Snapshot(id); err != nil {
		return s, false, err
	}
	if err := mayForget(s, w.Now); err != nil {
		return s, false, err
	}
	if !s.Live() {
		return s, false, nil
	}
	if w.AllowLast == "" || w.AllowLast != s.InstanceName {
		others, err := siblings(tx, s)
		if err == nil {
			err = lastOf(tx, s, others)
		}
		if err != nil {
			return s, false, err
		}
	}
	s.Forgotten = catalog.Forgotten{Time: w.Now, By: w.By, Reason: w.Reason, PurgeAfter: w.Now.Add(w.Delay), Doubtful: w.Doubtful}
	return s, true, tx.PutSnapshot(s)
}

func lastOf(tx *catalog.Tx, s catalog.Snapshot, others []Candidate) error {
	own, err := candidate(tx, s)
	if err != nil {
		return err
	}
	return checkLast(own, others)
}

// siblings gives the other live snapshots of the same instance and incarnation.
func siblings(tx *catalog.Tx, s catalog.Snapshot) (out []Candidate, err error) {
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := tx.SnapshotsOf(s.Instance, page)
		if err != nil {
			return nil, err
		}
		for _, o := range rows {
			if o.ID == s.ID || o.Incarnation != s.Incarnation || !o.Live() {
				continue
			}
			c, err := candidate(tx, o)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
		if page.Token = next; next == "" {
			return out, nil
		}
	}
}

func candidate(tx *catalog.Tx, s catalog.Snapshot) (Candidate, error) {
	drills, err := tx.Drills(s.ID)
	c := Candidate{Snapshot: s}
	for _, d := range drills {
		c.Verified = c.Verified || d.Whole && d.Verdict == catalog.DrillPassed
	}
	return c, err
}

// Unforget undoes Forget. One that is not forgotten stays as it is. errs.Conflict:
// its object is going already.
func Unforget(tx *catalog.Tx, id repo.JobID) (s catalog.Snapshot, news bool, err error) {
	s, err = tx.Snapshot(id)
	switch {
	case err != nil:
		return s, false, err
	case !s.Purged.IsZero():
		return s, false, fmt.Errorf("snapshot %s is being purged since %s, nothing brings it back: %w", s.ID.Short(), at(s.Purged), errs.Conflict)
	case s.Forgotten.Time.IsZero():
		return s, false, nil
	}
	s.Forgotten = catalog.Forgotten{}
	return s, true, tx.PutSnapshot(s)
}

// Hold keeps a snapshot until a time, a forgotten one too: it is not purged
// before. A hold is never shortened by another one: errs.Conflict.
func Hold(tx *catalog.Tx, id repo.JobID, until time.Time, w Wish) (s catalog.Snapshot, news bool, err error) {
	s, err = tx.Snapshot(id)
	switch {
	case err != nil:
		return s, false, err
	case !until.After(w.Now):
		return s, false, fmt.Errorf("hold snapshot %s until %s, which is past: %w", s.ID.Short(), at(until), errs.Invalid)
	case !s.Purged.IsZero():
		return s, false, fmt.Errorf("snapshot %s is being purged since %s, nothing brings it back: %w", s.ID.Short(), at(s.Purged), errs.Conflict)
	case s.Hold.Active(w.Now) && until.Before(s.Hold.Until):
		return s, false, fmt.Errorf("snapshot %s is held until %s by %s (%s), which is longer: release it first: %w",
			s.ID.Short(), at(s.Hold.Until), s.Hold.By, s.Hold.Reason, errs.Conflict)
	case until.Equal(s.Hold.Until) && w.Reason == s.Hold.Reason:
		return s, false, nil
	}
	s.Hold = catalog.Hold{Until: until, By: w.By, Reason: w.Reason, Time: w.Now}
	return s, true, tx.PutSnapshot(s)
}

// Release ends a hold. A snapshot that nothing holds stays as it is.
func Release(tx *catalog.Tx, id repo.JobID) (s catalog.Snapshot, news bool, err error) {
	s, err = tx.Snapshot(id)
	if err != nil || s.Hold.Until.IsZero() {
		return s, false, err
	}
	s.Hold = catalog.Hold{}
	return s, true, tx.PutSnapshot(s)
}

// unfinished are the states of jobs that still need what they use.
var unfinished = []catalog.JobState{catalog.JobQueued, catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted}

// usedByJobs gives the snapshots that unfinished restores and drills read.
func usedByJobs(tx *catalog.Tx) (map[repo.JobID]bool, error) {
	used := map[repo.JobID]bool{}
	for j, err := range tx.JobsIn(unfinished...) {
		if err != nil {
			return nil, err
		}
		if !j.SnapshotID.IsZero() {
			used[j.SnapshotID] = true
		}
	}
	return used, nil
}

// dropped removes the record of a snapshot whose object is gone, and notes that
// its domain has something to prune. One that is dropped already is no error.
func dropped(tx *catalog.Tx, s catalog.Snapshot, now time.Time) error {
	err := tx.DeleteSnapshot(s.ID)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.PutPruneNeed(s.Domain, catalog.PruneNeed{Domain: s.Domain, Since: now, Snapshots: 1, Bytes: s.StoredBytes})
}
