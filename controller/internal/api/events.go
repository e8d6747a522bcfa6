package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// eventService is EventService. Watching is not audited: events have nothing in
// them that the same caller cannot list, which is not audited either.
type eventService struct {
	tuskvaultv1.UnimplementedEventServiceServer
	deps Deps
}

// progressEvery is how often a follower gets the progress of one job.
const progressEvery = 3 * time.Second

// Watch sends events. Nothing is kept for a follower but its place in the log:
// while it does not read, Send blocks here, and if the log goes over its place
// meanwhile it is cut off.
func (s *eventService) Watch(r *tuskvaultv1.WatchRequest, stream grpc.ServerStreamingServer[tuskvaultv1.WatchResponse]) error {
	w, err := s.watch(r, stream)
	if err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	after := int64(0)
	switch {
	case r.After != nil && r.GetAfter() < 0:
		return field("after", "%d is no number of an event", r.GetAfter())
	case r.After != nil:
		after = r.GetAfter()
	case r.GetFollow():
		after = event.Newest
	}
	follower, gap, err := s.deps.Events.Follow(after)
	if err != nil {
		return err
	}
	defer follower.Close()
	if r.GetFollow() {
		start := &tuskvaultv1.EventStart{After: follower.Last()}
		if err := stream.Send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Start{Start: start}}); err != nil {
			return err
		}
	}
	if gap != nil {
		err := stream.Send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Gap{
			Gap: &tuskvaultv1.EventGap{After: after, First: gap.First, Reason: gap.Reason}}})
		if err != nil {
			return err
		}
	}
	return w.run(follower, r.GetFollow(), r.GetIncludeProgress())
}

// watching is one call of Watch.
type watching struct {
	deps   Deps
	kinds  []event.Kind
	labels Selector
	stream grpc.ServerStreamingServer[tuskvaultv1.WatchResponse]
	told   map[repo.JobID]time.Time // progress of which time was sent
}

func (s *eventService) watch(r *tuskvaultv1.WatchRequest, stream grpc.ServerStreamingServer[tuskvaultv1.WatchResponse]) (*watching, error) {
	w := &watching{deps: s.deps, stream: stream, told: map[repo.JobID]time.Time{}}
	if n := len(r.GetKinds()); n > 64 {
		return nil, field("kinds", "%d entries, there are %d kinds", n, len(event.Kinds())+1)
	}
	for _, k := range r.GetKinds() {
		if k == tuskvaultv1.EventKind_EVENT_KIND_JOB_PROGRESS {
			w.kinds = append(w.kinds, 0) // no kind of the log's: sent by itself
			continue
		}
		kind, err := fromEventKind(k)
		if err != nil {
			return nil, err
		}
		w.kinds = append(w.kinds, kind)
	}
	var err error
	w.labels, err = ParseSelector(r.GetSelector())
	return w, err
}

// run sends what there is and, when following, what comes.
func (w *watching) run(f *event.Follower, follow, progress bool) error {
	ctx := w.stream.Context()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		for {
			events, err := f.Take()
			if err != nil {
				return err
			}
			if len(events) == 0 {
				break
			}
			for _, e := range events {
				if err := w.send(ctx, e); err != nil {
					return err
				}
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-f.News():
		case <-tick.C:
			if progress {
				if err := w.progress(ctx, f.Last()); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *watching) send(ctx context.Context, e event.Event) error {
	if len(w.kinds) > 0 && !slices.Contains(w.kinds, e.Kind) {
		return nil
	}
	if ok, err := w.labeled(ctx, e.Agent); !ok || err != nil {
		return err
	}
	return w.stream.Send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Event{Event: toEvent(e)}})
}

// progress sends what is new of each running job, with the number of the last event.
func (w *watching) progress(ctx context.Context, last int64) error {
	if len(w.kinds) > 0 && !slices.Contains(w.kinds, 0) {
		return nil
	}
	running := w.deps.Jobs.Running()
	seen := make(map[repo.JobID]time.Time, len(running))
	for _, r := range running {
		seen[r.Ref.Job] = r.Progress.Time
		if r.Progress.Time.Equal(w.told[r.Ref.Job]) {
			continue
		}
		if ok, err := w.labeled(ctx, r.Agent); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := w.stream.Send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Event{Event: toProgressEvent(r, last)}}); err != nil {
			return err
		}
	}
	w.told = seen
	return nil
}

// labeled tells whether an agent is selected. One that is not in the catalog any
// more has no labels.
func (w *watching) labeled(ctx context.Context, id repo.AgentID) (bool, error) {
	if w.labels.Empty() {
		return true, nil
	}
	var labels map[string]string
	err := w.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		a, err := tx.Agent(id)
		labels = a.Labels
		return err
	})
	if err != nil && !errors.Is(err, errs.NotFound) {
		return false, err
	}
	return w.labels.Matches(labels), nil
}

func fromEventKind(k tuskvaultv1.EventKind) (event.Kind, error) {
	for _, kind := range event.Kinds() {
		if toEventKind(kind) == k && k != tuskvaultv1.EventKind_EVENT_KIND_UNSPECIFIED {
			return kind, nil
		}
	}
	return 0, field("kinds", "%d is no kind of event", k)
}

func toEventKind(k event.Kind) tuskvaultv1.EventKind {
	switch k {
	case event.JobQueued:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_QUEUED
	case event.JobLeased:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_LEASED
	case event.JobRunning:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_RUNNING
	case event.JobCommitting:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_COMMITTING
	case event.JobSucceeded:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_SUCCEEDED
	case event.JobFailed:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_FAILED
	case event.JobCanceled:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_CANCELED
	case event.JobLost:
		return tuskvaultv1.EventKind_EVENT_KIND_JOB_LOST
	case event.SnapshotCommitted:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_COMMITTED
	case event.AgentEnrolled:
		return tuskvaultv1.EventKind_EVENT_KIND_AGENT_ENROLLED
	case event.AgentOnline:
		return tuskvaultv1.EventKind_EVENT_KIND_AGENT_ONLINE
	case event.AgentOffline:
		return tuskvaultv1.EventKind_EVENT_KIND_AGENT_OFFLINE
	case event.AgentRevoked:
		return tuskvaultv1.EventKind_EVENT_KIND_AGENT_REVOKED
	case event.CheckStarted:
		return tuskvaultv1.EventKind_EVENT_KIND_CHECK_STARTED
	case event.CheckEnded:
		return tuskvaultv1.EventKind_EVENT_KIND_CHECK_ENDED
	case event.DamageFound:
		return tuskvaultv1.EventKind_EVENT_KIND_DAMAGE_FOUND
	case event.DamageHealed:
		return tuskvaultv1.EventKind_EVENT_KIND_DAMAGE_HEALED
	case event.DeletionChanged:
		return tuskvaultv1.EventKind_EVENT_KIND_DELETION_CHANGED
	case event.SnapshotForgotten:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_FORGOTTEN
	case event.SnapshotUnforgotten:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_UNFORGOTTEN
	case event.SnapshotHeld:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_HELD
	case event.SnapshotReleased:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_RELEASED
	case event.SnapshotPurged:
		return tuskvaultv1.EventKind_EVENT_KIND_SNAPSHOT_PURGED
	case event.CopyLate:
		return tuskvaultv1.EventKind_EVENT_KIND_COPY_LATE
	case event.CopyCaughtUp:
		return tuskvaultv1.EventKind_EVENT_KIND_COPY_CAUGHT_UP
	case event.CopyAlarm:
		return tuskvaultv1.EventKind_EVENT_KIND_COPY_ALARM
	case event.ObjectHealed:
		return tuskvaultv1.EventKind_EVENT_KIND_OBJECT_HEALED
	}
	return tuskvaultv1.EventKind_EVENT_KIND_UNSPECIFIED
}

func toEvent(e event.Event) *tuskvaultv1.Event {
	return &tuskvaultv1.Event{Sequence: e.Sequence, Time: toTime(e.Time), Kind: toEventKind(e.Kind), Agent: e.AgentName, Instance: e.Instance,
		JobId: toID(e.Job), JobKind: toJobKind(e.JobKind), DryRun: e.DryRun, SnapshotId: toID(e.Snapshot), Message: e.Message}
}

func toProgressEvent(r job.Running, last int64) *tuskvaultv1.Event {
	agent, _, _ := strings.Cut(r.Instance, "/")
	return &tuskvaultv1.Event{Sequence: last, Time: toTime(time.Now()), Kind: tuskvaultv1.EventKind_EVENT_KIND_JOB_PROGRESS, Agent: agent,
		Instance: r.Instance, JobId: r.Ref.Job.String(), JobKind: toJobKind(r.Kind), DryRun: r.DryRun, Progress: toProgress(r.Ref, r.Progress)}
}
