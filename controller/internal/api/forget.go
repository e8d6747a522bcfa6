package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Bounds of forgetting and holding.
const (
	maxForget = 100
	maxHold   = 100 * 366 * 24 * time.Hour
	// maxLearned is how many older records without contents one call reads the
	// manifests of, beside those it names.
	maxLearned = 16
)

// Deletion is what decides when snapshots go.
type Deletion struct {
	// Delay between forgetting and purging, from the controller's own file alone.
	Delay time.Duration
	// ClockDoubt says why the clock was not believed when it was looked at last, empty
	// when it was.
	ClockDoubt func() string
	// CheckClock looks at it: an error means that it is not to be relied on.
	CheckClock func(ctx context.Context) error
	// Deferred tells how many purged snapshots the store does not let go yet, and why.
	Deferred func() (int, string)
	// Users counts exports, which read snapshots without a job.
	Users *forget.Users
}

// ForgetSnapshots forgets snapshots, in one synchronous transaction with its
// audit records.
func (s *snapshotService) ForgetSnapshots(ctx context.Context, r *tuskvaultv1.ForgetSnapshotsRequest) (*tuskvaultv1.ForgetSnapshotsResponse, error) {
	if err := s.learn(ctx, r.GetSnapshots()); err != nil {
		return nil, fmt.Errorf("forget snapshots: %w", err)
	}
	out, err := s.changeAll(ctx, r.GetSnapshots(), r.GetReason(), change{action: "snapshot.forget", kind: event.SnapshotForgotten,
		apply: func(tx *catalog.Tx, id repo.JobID, w forget.Wish) (catalog.Snapshot, bool, error) {
			w.AllowLast = r.GetAllowLast()
			return forget.Forget(tx, id, w)
		}})
	if err != nil {
		return nil, fmt.Errorf("forget snapshots: %w", err)
	}
	return &tuskvaultv1.ForgetSnapshotsResponse{Snapshots: out}, nil
}

// UnforgetSnapshots undoes that.
func (s *snapshotService) UnforgetSnapshots(ctx context.Context, r *tuskvaultv1.UnforgetSnapshotsRequest) (*tuskvaultv1.UnforgetSnapshotsResponse, error) {
	out, err := s.changeAll(ctx, r.GetSnapshots(), "", change{action: "snapshot.unforget", kind: event.SnapshotUnforgotten,
		apply: func(tx *catalog.Tx, id repo.JobID, _ forget.Wish) (catalog.Snapshot, bool, error) {
			return forget.Unforget(tx, id)
		}})
	if err != nil {
		return nil, fmt.Errorf("unforget snapshots: %w", err)
	}
	return &tuskvaultv1.UnforgetSnapshotsResponse{Snapshots: out}, nil
}

// HoldSnapshot keeps a snapshot.
func (s *snapshotService) HoldSnapshot(ctx context.Context, r *tuskvaultv1.HoldSnapshotRequest) (*tuskvaultv1.HoldSnapshotResponse, error) {
	until := r.GetUntilTime().AsTime()
	switch {
	case r.GetUntilTime() == nil || !r.GetUntilTime().IsValid():
		return nil, field("until_time", "until when is missing")
	case time.Until(until) > maxHold:
		return nil, field("until_time", "%s is more than a hundred years away", until.Format(time.RFC3339))
	case strings.TrimSpace(r.GetReason()) == "":
		return nil, field("reason", "why is missing")
	}
	out, err := s.changeAll(ctx, []string{r.GetSnapshot()}, r.GetReason(), change{action: "snapshot.hold", kind: event.SnapshotHeld, latest: true,
		detail: "until " + until.Format(time.RFC3339) + ": ",
		apply: func(tx *catalog.Tx, id repo.JobID, w forget.Wish) (catalog.Snapshot, bool, error) {
			return forget.Hold(tx, id, until, w)
		}})
	if err != nil {
		return nil, fmt.Errorf("hold snapshot: %w", err)
	}
	return &tuskvaultv1.HoldSnapshotResponse{Snapshot: out[0]}, nil
}

// ReleaseSnapshot ends a hold.
func (s *snapshotService) ReleaseSnapshot(ctx context.Context, r *tuskvaultv1.ReleaseSnapshotRequest) (*tuskvaultv1.ReleaseSnapshotResponse, error) {
	out, err := s.changeAll(ctx, []string{r.GetSnapshot()}, "", change{action: "snapshot.release", kind: event.SnapshotReleased,
		apply: func(tx *catalog.Tx, id repo.JobID, _ forget.Wish) (catalog.Snapshot, bool, error) {
			return forget.Release(tx, id)
		}})
	if err != nil {
		return nil, fmt.Errorf("release snapshot: %w", err)
	}
	return &tuskvaultv1.ReleaseSnapshotResponse{Snapshot: out[0]}, nil
}

// change is one kind of change of snapshots.
type change struct {
	action string
	kind   event.Kind
	// latest tells that references by "latest" are taken: what is to go must be named.
	latest bool
	// detail goes before the reason in the audit record.
	detail string
	apply  func(tx *catalog.Tx, id repo.JobID, w forget.Wish) (catalog.Snapshot, bool, error)
}

// changeAll changes all of the snapshots or none.
func (s *snapshotService) changeAll(ctx context.Context, refs []string, reason string, how change) ([]*tuskvaultv1.Snapshot, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case len(refs) == 0 || len(refs) > maxForget:
		return nil, field("snapshots", "%d entries, 1 to %d are taken", len(refs), maxForget)
	case len(reason) > maxReason || !utf8.ValidString(reason):
		return nil, field("reason", "want at most %d bytes of text", maxReason)
	}
	// A delay that begins by a wrong clock is no delay.
	doubtful := how.kind == event.SnapshotForgotten && s.deps.Deletion.CheckClock != nil && s.deps.Deletion.CheckClock(ctx) != nil
	var out []*tuskvaultv1.Snapshot
	var changed []catalog.Snapshot
	err = s.deps.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		out, changed = nil, nil
		w := forget.Wish{By: c.String(), Reason: reason, Now: time.Now(), Delay: s.deps.Deletion.Delay, Doubtful: doubtful}
		for _, ref := range refs {
			found, err := resolveNamed(tx, ref, how.latest)
			if err != nil {
				return err
			}
			now, news, err := how.apply(tx, found.ID, w)
			if err != nil {
				return err
			}
			drills, err := tx.Drills(now.ID)
			if err != nil {
				return err
			}
			out = append(out, verified(toSnapshot(now), drills))
			if !news {
				continue
			}
			changed = append(changed, now)
			if err := s.deps.Trail.Append(tx, record(c, how.action, "snapshot "+now.ID.String(), "of "+now.InstanceName+": "+how.detail+reason)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, now := range changed {
		s.deps.Events.Publish(event.Event{Kind: how.kind, Agent: now.Agent, Instance: now.InstanceName, Snapshot: now.ID, Message: strings.TrimSuffix("by "+c.String()+": "+reason, ": ")})
	}
	return out, nil
}

// resolveNamed resolves a reference for a change, to a purged snapshot too: what the
// change says of that is better than silence.
func resolveNamed(tx *catalog.Tx, ref string, latestToo bool) (catalog.Snapshot, error) {
	if isLatest(ref) {
		if latestToo {
			return findSnapshot(tx, ref)
		}
		return catalog.Snapshot{}, field("snapshots", "%q: name it by its id", clip(ref, maxReference))
	}
	return snapshotByID(tx, ref)
}

func (d Deletion) doubt() string {
	if d.ClockDoubt == nil {
		return ""
	}
	return d.ClockDoubt()
}

// learn reads the manifests of snapshots whose records are older than contents in
// them, of those named and of the newest few beside them, and keeps what they say:
// else nothing could be forgotten beside them.
func (s *snapshotService) learn(ctx context.Context, refs []string) error {
	var all []catalog.Snapshot
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		seen := map[repo.InstanceID]bool{}
		unknown := func(o catalog.Snapshot) bool {
			return o.Contents == nil && o.Live() && o.Databases <= catalog.MaxContents
		}
		for _, ref := range refs[:min(len(refs), maxForget)] {
			found, err := resolveNamed(tx, ref, false)
			if err != nil {
				return err
			}
			if unknown(found) {
				all = append(all, found)
			}
			if seen[found.Instance] {
				continue
			}
			seen[found.Instance] = true
			rows, _, err := tx.SnapshotsOf(found.Instance, catalog.Page{Size: maxLearned})
			if err != nil {
				return err
			}
			for _, o := range rows {
				if unknown(o) {
					all = append(all, o)
				}
			}
		}
		return nil
	})
	for _, o := range all {
		if err == nil {
			err = s.learnOne(ctx, o)
		}
	}
	return err
}

func (s *snapshotService) learnOne(ctx context.Context, o catalog.Snapshot) error {
	content, err := s.cache.content(ctx, o)
	switch kind := errs.KindOf(err); {
	case kind == errs.NotFound || kind == errs.Corrupt:
		return nil // it vouches for nothing
	case err != nil:
		return fmt.Errorf("snapshot %s: read manifest: %w", o.ID.Short(), err)
	}
	contents := []catalog.SnapshotDatabase{}
	if content.Logical != nil {
		for _, d := range content.Logical.Databases {
			contents = append(contents, catalog.SnapshotDatabase{Name: d.Name.Display(), Complete: d.State == repo.DatabaseComplete})
		}
	}
	return s.deps.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		now, err := tx.Snapshot(o.ID)
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		now.Contents = contents
		return tx.PutSnapshot(now)
	})
}

// forgottenWarning warns whoever uses a forgotten snapshot.
func forgottenWarning(s catalog.Snapshot) []string {
	if s.Live() {
		return nil
	}
	return []string{fmt.Sprintf("snapshot %s was forgotten by %s and is purged after %s; tuskctl snapshot unforget keeps it",
		s.ID.Short(), s.Forgotten.By, s.Forgotten.PurgeAfter.UTC().Format(time.RFC3339))}
}
