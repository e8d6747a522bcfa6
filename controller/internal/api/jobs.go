package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// jobService is JobService; how restores are checked is in restore.go.
type jobService struct {
	tuskvaultv1.UnimplementedJobServiceServer
	deps Deps
}

// Words that an agent's own file allows.
const (
	allowBackup         = "backup"
	allowRestoreNew     = "restore-new"
	allowRestoreReplace = "restore-replace"
	allowRestoreGlobals = "restore-globals"
)

// StartBackup journals a backup and queues it.
func (s *jobService) StartBackup(ctx context.Context, r *tuskvaultv1.StartBackupRequest) (*tuskvaultv1.StartBackupResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id, err := parseRequestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkGlobs("databases", r.GetDatabases()), checkGlobs("exclude_databases", r.GetExcludeDatabases()),
		checkWorkers("workers", r.GetWorkers())); err != nil {
		return nil, err
	}
	var instance catalog.Instance
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if instance, err = findInstance(tx, "instance", r.GetInstance()); err != nil {
			return err
		}
		return checkAllowed(tx, instance, allowBackup)
	})
	if err != nil {
		return nil, fmt.Errorf("start backup: %w", err)
	}
	j, err := s.create(ctx, c, job.Spec{ID: id, Instance: instance.ID, By: c.String(),
		Backup: &catalog.BackupSpec{Databases: r.GetDatabases(), Exclude: r.GetExcludeDatabases(), Workers: r.GetWorkers()}},
		fmt.Sprintf("backup of %s, databases %v without %v", instance.FullName(), r.GetDatabases(), r.GetExcludeDatabases()))
	if err != nil {
		return nil, fmt.Errorf("start backup of %s: %w", instance.FullName(), err)
	}
	return &tuskvaultv1.StartBackupResponse{Job: s.job(j)}, nil
}

// create makes the job, then its audit record. If the record fails the caller
// is told so, and asking again with the same id repeats both.
func (s *jobService) create(ctx context.Context, c Caller, spec job.Spec, detail string) (catalog.Job, error) {
	j, err := s.deps.Jobs.Create(ctx, spec)
	if err != nil {
		return j, err
	}
	action := "job.backup"
	if spec.Restore != nil {
		action = "job.restore"
	}
	return j, s.deps.Trail.Record(ctx, record(c, action, "job "+j.ID.String(), detail))
}

// checkAllowed refuses what the instance's agent is known not to do, so that a
// person hears it now. The agent itself has the last word in any case.
func checkAllowed(tx *catalog.Tx, i catalog.Instance, words ...string) error {
	a, err := tx.Agent(i.Agent)
	if err != nil {
		return fmt.Errorf("agent of instance %s: %w", i.FullName(), err)
	}
	if a.State == catalog.AgentRevoked {
		return fmt.Errorf("instance %s: its agent %s was revoked: %w", i.FullName(), a.Name, errs.Conflict)
	}
	for _, w := range words {
		if len(a.Allow) > 0 && !slices.Contains(a.Allow, w) {
			return fmt.Errorf("instance %s: the configuration of its agent %s does not allow %s: %w", i.FullName(), a.Name, w, errs.Denied)
		}
	}
	return nil
}

// job gives a job, and says why it waits when nothing else does.
func (s *jobService) job(j catalog.Job) *tuskvaultv1.Job { return s.why(toJob(j), j) }

func (s *jobService) why(out *tuskvaultv1.Job, j catalog.Job) *tuskvaultv1.Job {
	if j.State == catalog.JobQueued && out.GetMessage() == "" && !s.deps.Hub.Online(j.Agent) {
		agent, _, _ := strings.Cut(j.InstanceName, "/")
		if j.Drill != nil {
			agent = j.Drill.AgentName
		}
		out.Message = "waits for agent " + agent + ", which is offline"
	}
	return out
}

// ListJobs lists jobs, newest first.
func (s *jobService) ListJobs(ctx context.Context, r *tuskvaultv1.ListJobsRequest) (*tuskvaultv1.ListJobsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	states, err := fromJobStates(r.GetStates())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListJobsResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		filter := catalog.JobFilter{States: states}
		if r.GetInstance() != "" {
			i, err := findInstance(tx, "instance", r.GetInstance())
			if err != nil {
				return err
			}
			filter.Instance = i.ID
		}
		next, err := gather(page, func(p catalog.Page) ([]catalog.Job, string, error) { return tx.Jobs(p, filter) },
			func(j catalog.Job) (int, error) {
				wire := s.listed(j)
				out.Jobs = append(out.Jobs, wire)
				return proto.Size(wire), nil
			})
		out.Page = toPage(next)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return out, nil
}

// listed gives a job for a list: with its progress and figures, without the
// long parts of its result.
func (s *jobService) listed(j catalog.Job) *tuskvaultv1.Job {
	out := s.job(j)
	if p, ok := s.deps.Jobs.Live(j.ID); ok {
		out.Progress = toProgress(job.Ref{Job: j.ID, Fence: j.Current}, p)
	}
	if out.Result != nil {
		out.Result.Problems, out.Result.Plan, out.Result.Databases = nil, nil, nil
	}
	return out
}

// resolve finds the id of a job.
func (s *jobService) resolve(ctx context.Context, ref string) (id repo.JobID, err error) {
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := findJob(tx, ref)
		id = j.ID
		return err
	})
	return id, err
}

// GetJob shows one job with its attempts.
func (s *jobService) GetJob(ctx context.Context, r *tuskvaultv1.GetJobRequest) (*tuskvaultv1.GetJobResponse, error) {
	id, err := s.resolve(ctx, r.GetJob())
	if err != nil {
		return nil, fmt.Errorf("show job: %w", err)
	}
	v, err := s.deps.Jobs.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("show job: %w", err)
	}
	out := s.why(toView(v), v.Job)
	if err := s.withReport(ctx, out, v.Job); err != nil {
		return nil, fmt.Errorf("show job: %w", err)
	}
	return &tuskvaultv1.GetJobResponse{Job: out}, nil
}

// WatchJob sends the job now and after changes, and ends after its terminal
// state. While the caller does not read, changes become one: the manager calls
// only when the message before has been sent.
func (s *jobService) WatchJob(r *tuskvaultv1.WatchJobRequest, stream grpc.ServerStreamingServer[tuskvaultv1.WatchJobResponse]) error {
	id, err := s.resolve(stream.Context(), r.GetJob())
	if err != nil {
		return fmt.Errorf("watch job: %w", err)
	}
	return s.deps.Jobs.Watch(stream.Context(), id, func(v job.View) error {
		out := s.why(toView(v), v.Job)
		if err := s.withReport(stream.Context(), out, v.Job); err != nil {
			return err
		}
		return stream.Send(&tuskvaultv1.WatchJobResponse{Job: out})
	})
}

// CancelJob asks a job to stop.
func (s *jobService) CancelJob(ctx context.Context, r *tuskvaultv1.CancelJobRequest) (*tuskvaultv1.CancelJobResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkReason(r.GetReason()); err != nil {
		return nil, err
	}
	id, err := s.resolve(ctx, r.GetJob())
	if err != nil {
		return nil, fmt.Errorf("cancel job: %w", err)
	}
	j, err := s.deps.Jobs.Cancel(ctx, id, c.String(), r.GetReason())
	if err != nil {
		return nil, fmt.Errorf("cancel job %s: %w", id.Short(), err)
	}
	if err := s.deps.Trail.Record(ctx, record(c, "job.cancel", "job "+id.String(), r.GetReason())); err != nil {
		return nil, err
	}
	return &tuskvaultv1.CancelJobResponse{Job: s.job(j)}, nil
}

// ListJobLogs gives the log lines of a job, oldest first.
func (s *jobService) ListJobLogs(ctx context.Context, r *tuskvaultv1.ListJobLogsRequest) (*tuskvaultv1.ListJobLogsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListJobLogsResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := findJob(tx, r.GetJob())
		if err != nil {
			return err
		}
		next, err := gather(page, func(p catalog.Page) ([]catalog.LogLine, string, error) { return tx.Logs(j.ID, p) },
			func(l catalog.LogLine) (int, error) {
				wire := toLogLine(job.Ref{Job: j.ID, Fence: l.Fence}, l)
				out.Lines = append(out.Lines, wire)
				return proto.Size(wire), nil
			})
		out.Page = toPage(next)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list log of job: %w", err)
	}
	return out, nil
}
