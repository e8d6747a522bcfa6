package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// MaxDrills bounds the drills of one snapshot that are kept with their reports.
// The newest that passed is kept beside them.
const MaxDrills = 20

// DrillPassed is the verdict of a drill that proved its snapshot.
const DrillPassed = "passed"

func drillKey(snapshot, job repo.JobID) []byte { return join(snapshot[:], job[:]) }

// PutDrill writes the result of a drill and its report, in place of an earlier
// one of the same job, and drops the oldest drills beyond MaxDrills.
func (tx *Tx) PutDrill(d Drill, r DrillReport) error {
	if d.Snapshot.IsZero() || d.Job.IsZero() || d.Verdict == "" || len(r.Statement) == 0 {
		return fmt.Errorf("drill %s of snapshot %s: without id, verdict or report: %w", d.Job, d.Snapshot, errs.Invalid)
	}
	key := drillKey(d.Snapshot, d.Job)
	if err := errors.Join(tx.put(bucketDrills, key, toDrill(d)), tx.put(bucketReports, key, toDrillReport(r))); err != nil {
		return err
	}
	all, err := tx.Drills(d.Snapshot)
	if err != nil {
		return err
	}
	passed := false
	for i, old := range all {
		first := old.Verdict == DrillPassed && !passed
		passed = passed || first
		if i < MaxDrills || first {
			continue
		}
		key := drillKey(old.Snapshot, old.Job)
		if err := errors.Join(tx.delete(bucketDrills, key), tx.delete(bucketReports, key)); err != nil {
			return err
		}
	}
	return nil
}

// Drills gives the drills of a snapshot, the one that arrived last first, at
// most MaxDrills and one.
func (tx *Tx) Drills(snapshot repo.JobID) ([]Drill, error) {
	var all []Drill
	c := tx.cursor(bucketDrills)
	for k, v := c.Seek(snapshot[:]); k != nil && bytes.HasPrefix(k, snapshot[:]); k, v = c.Next() {
		d, err := decode(bucketDrills, k, v, fromDrill)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	slices.SortStableFunc(all, func(a, b Drill) int { return b.Received.Compare(a.Received) })
	return all, nil
}

// FailedDrills calls fn for each snapshot that did not pass its newest drill, with
// that drill.
func (tx *Tx) FailedDrills(fn func(Drill) error) error {
	var newest Drill
	tell := func() error {
		if newest.Job.IsZero() || newest.Verdict == DrillPassed {
			return nil
		}
		return fn(newest)
	}
	c := tx.cursor(bucketDrills) // in the order of snapshots
	for k, v := c.First(); k != nil; k, v = c.Next() {
		d, err := decode(bucketDrills, k, v, fromDrill)
		if err != nil {
			return err
		}
		if d.Snapshot != newest.Snapshot {
			if err := tell(); err != nil {
				return err
			}
			newest = d
		} else if d.Received.After(newest.Received) {
			newest = d
		}
	}
	return tell()
}

// dropDrills removes the drills of a snapshot that is no more, with their reports.
func (tx *Tx) dropDrills(snapshot repo.JobID) error {
	all, err := tx.Drills(snapshot)
	if err != nil {
		return err
	}
	for _, d := range all {
		key := drillKey(d.Snapshot, d.Job)
		if err := errors.Join(tx.delete(bucketDrills, key), tx.delete(bucketReports, key)); err != nil {
			return err
		}
	}
	return nil
}

// DrillReport gives the signed report of a drill.
func (tx *Tx) DrillReport(snapshot, job repo.JobID) (DrillReport, error) {
	return get(tx, bucketReports, drillKey(snapshot, job), fmt.Sprintf("drill report of job %s", job), fromDrillReport)
}
