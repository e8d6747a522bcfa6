package api

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// findAgent resolves a name, an id or a unique prefix of one.
func findAgent(tx *catalog.Tx, name, ref string) (catalog.Agent, error) {
	if err := checkReference(name, ref); err != nil {
		return catalog.Agent{}, err
	}
	a, err := tx.FindAgent(ref)
	if errors.Is(err, errs.NotFound) {
		names, err := agentNames(tx)
		if err != nil {
			return a, err
		}
		return a, notFound("agent", ref, names)
	}
	return a, err
}

// findInstance resolves "AGENT/INSTANCE", the last part alone where unique, an
// id or a unique prefix of one.
func findInstance(tx *catalog.Tx, name, ref string) (catalog.Instance, error) {
	if err := checkReference(name, ref); err != nil {
		return catalog.Instance{}, err
	}
	i, err := tx.FindInstance(ref)
	if errors.Is(err, errs.NotFound) {
		names, err := instanceNames(tx)
		if err != nil {
			return i, err
		}
		return i, notFound("instance", ref, names)
	}
	return i, err
}

// findJob resolves an id or a unique prefix of one.
func findJob(tx *catalog.Tx, ref string) (catalog.Job, error) {
	if err := checkReference("job", ref); err != nil {
		return catalog.Job{}, err
	}
	j, err := tx.FindJob(ref)
	if errors.Is(err, errs.NotFound) {
		return j, fmt.Errorf("job %q: %w", ref, errs.NotFound)
	}
	return j, err
}

func agentNames(tx *catalog.Tx) (names []string, err error) {
	rows, _, err := tx.Agents(catalog.Page{Size: catalog.MaxPage}, nil)
	for _, a := range rows {
		names = append(names, a.Name)
	}
	return names, err
}

func instanceNames(tx *catalog.Tx) (names []string, err error) {
	rows, _, err := tx.Instances(catalog.Page{Size: catalog.MaxPage}, nil)
	for _, i := range rows {
		names = append(names, i.FullName())
	}
	return names, err
}

// latest begins references to the newest complete snapshot.
const latest = "latest"

// findSnapshot resolves an id, a unique prefix of one, "latest",
// "latest:INSTANCE", or either with "@TIME": the newest complete snapshot that
// had been committed by then and is not forgotten. One that is being purged is
// errs.Conflict.
func findSnapshot(tx *catalog.Tx, ref string) (catalog.Snapshot, error) {
	if err := checkReference("snapshot", ref); err != nil {
		return catalog.Snapshot{}, err
	}
	if !isLatest(ref) {
		s, err := snapshotByID(tx, ref)
		if err == nil && !s.Purged.IsZero() {
			return s, fmt.Errorf("snapshot %s was forgotten by %s and is being purged since %s: %w", s.ID.Short(), s.Forgotten.By, s.Purged.UTC().Format(time.RFC3339), errs.Conflict)
		}
		return s, err
	}
	rest := strings.TrimPrefix(ref, latest)
	before := time.Time{}
	if name, at, ok := strings.Cut(rest, "@"); ok {
		t, err := parseMoment(at)
		if err != nil {
			return catalog.Snapshot{}, err
		}
		rest, before = name, t
	}
	if rest == "" {
		return latestOf(ref, before, func(p catalog.Page) ([]catalog.Snapshot, string, error) { return tx.Snapshots(p, nil) })
	}
	instance, err := findInstance(tx, "snapshot", strings.TrimPrefix(rest, ":"))
	if err != nil {
		return catalog.Snapshot{}, fmt.Errorf("snapshot %q: %w", ref, err)
	}
	return latestOf(ref, before, func(p catalog.Page) ([]catalog.Snapshot, string, error) { return tx.SnapshotsOf(instance.ID, p) })
}

// isLatest tells a reference to the newest snapshot from one by id.
func isLatest(ref string) bool {
	rest, ok := strings.CutPrefix(ref, latest)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == '@')
}

// snapshotByID resolves an id or a unique prefix of one, of a purged snapshot too.
func snapshotByID(tx *catalog.Tx, ref string) (catalog.Snapshot, error) {
	if err := checkReference("snapshot", ref); err != nil {
		return catalog.Snapshot{}, err
	}
	s, err := tx.FindSnapshot(ref)
	if errors.Is(err, errs.NotFound) {
		return s, fmt.Errorf("snapshot %q: %w", ref, errs.NotFound)
	}
	return s, err
}

// errFound ends a walk that has found what it looked for.
var errFound = errors.New("found")

// latestOf gives the newest complete snapshot of a list that is newest first.
func latestOf(ref string, before time.Time, list func(catalog.Page) ([]catalog.Snapshot, string, error)) (catalog.Snapshot, error) {
	var found catalog.Snapshot
	incomplete := 0
	err := each(list, func(s catalog.Snapshot) error {
		switch {
		case !before.IsZero() && s.Committed.After(before):
			return nil
		case !s.Live():
			return nil
		case !s.Complete:
			incomplete++
			return nil
		}
		found = s
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return found, nil
	case err != nil:
		return found, err
	case incomplete > 0:
		return found, fmt.Errorf("snapshot %q: no complete one, and %d that lack something (name one by its id to use it): %w", ref, incomplete, errs.NotFound)
	}
	return found, fmt.Errorf("snapshot %q: none is that old or there is none at all: %w", ref, errs.NotFound)
}

// newestComplete gives the newest complete snapshot of an instance, or the zero
// value when there is none.
func newestComplete(tx *catalog.Tx, instance repo.InstanceID) (catalog.Snapshot, error) {
	s, err := latestOf("", time.Time{}, func(p catalog.Page) ([]catalog.Snapshot, string, error) { return tx.SnapshotsOf(instance, p) })
	if errors.Is(err, errs.NotFound) {
		return catalog.Snapshot{}, nil
	}
	return s, err
}

// moments are the forms in which a person may name a point in time; those
// without a zone are in UTC.
var moments = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

func parseMoment(text string) (time.Time, error) {
	for _, layout := range moments {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, field("snapshot", "time %q: want RFC 3339, for example 2026-01-31T23:00:00Z", clip(text, 40))
}
