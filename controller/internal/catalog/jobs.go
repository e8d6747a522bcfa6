package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// JobFilter selects jobs; its zero value selects all.
type JobFilter struct {
	// Instance, when not zero.
	Instance repo.InstanceID
	// States, when not empty.
	States []JobState
}

// Job gives the job with this id.
func (tx *Tx) Job(id repo.JobID) (Job, error) {
	return get(tx, bucketJobs, id[:], "job "+id.String(), fromJob)
}

// FindJob gives the job with this id or unique prefix of one.
func (tx *Tx) FindJob(prefix string) (Job, error) {
	key, err := findPrefix(tx, bucketJobs, "job", prefix, len(repo.ID{}))
	if err != nil {
		return Job{}, err
	}
	return get(tx, bucketJobs, key, "job "+prefix, fromJob)
}

// PutJob writes a job. What it is about never changes.
func (tx *Tx) PutJob(j Job) error {
	if j.ID.IsZero() || j.Instance.IsZero() || j.State < JobQueued || j.State > JobLost || j.works() != 1 {
		return fmt.Errorf("job %s: without id, instance, state or work: %w", j.ID, errs.Invalid)
	}
	var wasTime, wasInstance, wasState []byte
	old, err := tx.Job(j.ID)
	switch {
	case err == nil && (old.Instance != j.Instance || old.Kind != j.Kind):
		return fmt.Errorf("job %s: its instance or kind cannot change: %w", j.ID, errs.Invalid)
	case err == nil:
		wasTime, wasInstance, wasState = jobTimeKey(old), jobInstanceKey(old), jobStateKey(old)
	case !errors.Is(err, errs.NotFound):
		return err
	}
	err = errors.Join(tx.move(indexJobTimes, wasTime, jobTimeKey(j)), tx.move(indexJobInstances, wasInstance, jobInstanceKey(j)),
		tx.move(indexJobStates, wasState, jobStateKey(j)))
	if err != nil {
		return err
	}
	return tx.put(bucketJobs, j.ID[:], toJob(j))
}

// works counts what the job is asked to do.
func (j *Job) works() int {
	n := 0
	for _, set := range []bool{j.Backup != nil, j.Restore != nil, j.Drill != nil} {
		if set {
			n++
		}
	}
	return n
}

func jobTimeKey(j Job) []byte     { return join(newest(j.Created), j.ID[:]) }
func jobInstanceKey(j Job) []byte { return join(j.Instance[:], newest(j.Created), j.ID[:]) }
func jobStateKey(j Job) []byte    { return join([]byte{byte(j.State)}, oldest(j.Created), j.ID[:]) }

// tail gives the id at the end of an index key.
func tail(k []byte) []byte { return k[len(k)-len(repo.ID{}):] }

// Jobs lists jobs, newest first.
func (tx *Tx) Jobs(page Page, filter JobFilter) ([]Job, string, error) {
	var keep func(Job) bool
	if len(filter.States) > 0 {
		keep = func(j Job) bool { return slices.Contains(filter.States, j.State) }
	}
	row := func(k, _ []byte) (Job, error) { return get(tx, bucketJobs, tail(k), "job", fromJob) }
	if filter.Instance.IsZero() {
		return list(tx, indexJobTimes, nil, page, row, keep)
	}
	return list(tx, indexJobInstances, filter.Instance[:], page, row, keep)
}

// JobsIn gives all jobs in these states, by state and then oldest first. It is
// meant for states that few jobs are in at a time. Jobs may be written while it
// goes on; it gives those that were in the states at its start, as they are then.
func (tx *Tx) JobsIn(states ...JobState) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		var ids [][]byte
		for _, s := range states {
			c := tx.cursor(indexJobStates)
			prefix := []byte{byte(s)}
			for k, _ := c.Seek(prefix); k != nil && k[0] == prefix[0]; k, _ = c.Next() {
				ids = append(ids, bytes.Clone(tail(k)))
			}
		}
		for _, id := range ids {
			j, err := get(tx, bucketJobs, id, "job", fromJob)
			if !yield(j, err) || err != nil {
				return
			}
		}
	}
}

func attemptKey(job repo.JobID, f repo.Fence) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(job[:], f.Epoch), f.Counter)
}

// Attempt gives one attempt of a job.
func (tx *Tx) Attempt(job repo.JobID, fence repo.Fence) (Attempt, error) {
	return get(tx, bucketAttempts, attemptKey(job, fence), fmt.Sprintf("attempt %s of job %s", fence, job), fromAttempt)
}

// PutAttempt writes an attempt.
func (tx *Tx) PutAttempt(a Attempt) error {
	if a.Job.IsZero() || a.Fence == (repo.Fence{}) {
		return fmt.Errorf("attempt %s of job %s: without job or fencing number: %w", a.Fence, a.Job, errs.Invalid)
	}
	return tx.put(bucketAttempts, attemptKey(a.Job, a.Fence), toAttempt(a))
}

// Attempts gives the newest attempts of a job, at most last of them, oldest first.
func (tx *Tx) Attempts(job repo.JobID, last int) ([]Attempt, error) {
	var out []Attempt
	c := tx.cursor(bucketAttempts)
	for k, v := lastWith(c, job[:]); k != nil && bytes.HasPrefix(k, job[:]) && len(out) < last; k, v = c.Prev() {
		a, err := decode(bucketAttempts, k, v, fromAttempt)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	slices.Reverse(out)
	return out, nil
}

// TrimAttempts deletes all but the newest attempts of a job, keep of them.
func (tx *Tx) TrimAttempts(job repo.JobID, keep int) error {
	var old [][]byte
	c := tx.cursor(bucketAttempts)
	for k, _ := lastWith(c, job[:]); k != nil && bytes.HasPrefix(k, job[:]); k, _ = c.Prev() {
		if keep--; keep < 0 {
			old = append(old, bytes.Clone(k))
		}
	}
	for _, k := range old {
		if err := tx.delete(bucketAttempts, k); err != nil {
			return err
		}
	}
	return nil
}

// MaxLogLines bounds the log of a job: a day of a line each 10 seconds. The
// oldest lines go first.
const MaxLogLines = 10_000

// AppendLog adds lines to a job's log and numbers them.
func (tx *Tx) AppendLog(job repo.JobID, lines ...LogLine) error {
	c := tx.cursor(bucketLogs)
	var last uint64
	if k, _ := lastWith(c, job[:]); k != nil && bytes.HasPrefix(k, job[:]) {
		last = number(k[len(job):])
	}
	for _, l := range lines {
		last++
		l.Number = last
		if err := tx.put(bucketLogs, join(job[:], numberKey(last)), toLogLine(l)); err != nil {
			return err
		}
		if last > MaxLogLines {
			if err := tx.delete(bucketLogs, join(job[:], numberKey(last-MaxLogLines))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Logs lists the lines of a job's log, oldest first.
func (tx *Tx) Logs(job repo.JobID, page Page) ([]LogLine, string, error) {
	return list(tx, bucketLogs, job[:], page, func(k, v []byte) (LogLine, error) { return decode(bucketLogs, k, v, fromLogLine) }, nil)
}
