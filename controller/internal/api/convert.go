package api

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// toTime gives a wire time, absent for the zero time.
func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// fromTime reads a wire time; an absent or impossible one is the zero time.
func fromTime(t *timestamppb.Timestamp) time.Time {
	if t == nil || t.CheckValid() != nil {
		return time.Time{}
	}
	return t.AsTime()
}

// fromDuration reads a wire duration; an absent or impossible one is 0.
func fromDuration(d *durationpb.Duration) time.Duration {
	if d == nil || d.CheckValid() != nil {
		return 0
	}
	return d.AsDuration()
}

// toDuration gives a wire duration, absent for 0.
func toDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// toID gives an id's text, empty for the zero id.
func toID(id repo.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func toRef(r job.Ref) *tuskvaultv1.AttemptRef {
	return &tuskvaultv1.AttemptRef{JobId: r.Job.String(), Epoch: r.Fence.Epoch, Counter: r.Fence.Counter}
}

func fromRef(r *tuskvaultv1.AttemptRef) (job.Ref, error) {
	id, err := repo.ParseID(r.GetJobId())
	if err != nil {
		return job.Ref{}, fmt.Errorf("attempt: job %w", err)
	}
	if r.GetEpoch() == 0 || r.GetCounter() == 0 {
		return job.Ref{}, fmt.Errorf("attempt of job %s: no fencing number: %w", id.Short(), errs.Invalid)
	}
	return job.Ref{Job: id, Fence: repo.Fence{Epoch: r.GetEpoch(), Counter: r.GetCounter()}}, nil
}

func toRefs(refs []job.Ref) []*tuskvaultv1.AttemptRef {
	out := make([]*tuskvaultv1.AttemptRef, len(refs))
	for i, r := range refs {
		out[i] = toRef(r)
	}
	return out
}

func fromRefs(refs []*tuskvaultv1.AttemptRef) ([]job.Ref, error) {
	out := make([]job.Ref, len(refs))
	for i, r := range refs {
		ref, err := fromRef(r)
		if err != nil {
			return nil, err
		}
		out[i] = ref
	}
	return out, nil
}

func toBuild(b catalog.Build) *tuskvaultv1.BuildInfo {
	return &tuskvaultv1.BuildInfo{Version: b.Version, Revision: b.Revision, Capability: b.Capability, Platform: b.Platform}
}

func fromBuild(b *tuskvaultv1.BuildInfo) catalog.Build {
	return catalog.Build{Version: b.GetVersion(), Revision: b.GetRevision(), Capability: b.GetCapability(), Platform: b.GetPlatform()}
}

func toLabels(l catalog.Labels) *tuskvaultv1.Labels {
	return &tuskvaultv1.Labels{Values: l}
}

func toWitness(w catalog.Witness) *tuskvaultv1.Witness {
	if w.Repository.IsZero() {
		return nil
	}
	return &tuskvaultv1.Witness{RepositoryId: w.Repository.String(), Epoch: w.Epoch, LogNumber: w.Number, LogHash: w.Hash[:], SeenTime: toTime(w.Seen)}
}

// fromWitness reads a witness; one that makes no sense is as good as none.
func fromWitness(w *tuskvaultv1.Witness) catalog.Witness {
	id, err := repo.ParseID(w.GetRepositoryId())
	if err != nil || len(w.GetLogHash()) != 32 {
		return catalog.Witness{}
	}
	return catalog.Witness{Repository: id, Epoch: w.GetEpoch(), Number: w.GetLogNumber(), Hash: [32]byte(w.GetLogHash()), Seen: fromTime(w.GetSeenTime())}
}

func toProblems(list []catalog.Problem) []*tuskvaultv1.Problem {
	out := make([]*tuskvaultv1.Problem, len(list))
	for i, p := range list {
		severity := tuskvaultv1.Severity_SEVERITY_WARNING
		if p.Error {
			severity = tuskvaultv1.Severity_SEVERITY_ERROR
		}
		out[i] = &tuskvaultv1.Problem{Severity: severity, Database: p.Database, Object: p.Object, Reason: p.Reason, Hint: p.Hint}
	}
	return out
}

func fromProblems(list []*tuskvaultv1.Problem) ([]catalog.Problem, error) {
	var out []catalog.Problem
	for _, p := range list {
		switch p.GetSeverity() {
		case tuskvaultv1.Severity_SEVERITY_WARNING, tuskvaultv1.Severity_SEVERITY_ERROR:
		default:
			return nil, fmt.Errorf("problem: severity %d: %w", p.GetSeverity(), errs.Invalid)
		}
		out = append(out, catalog.Problem{Error: p.GetSeverity() == tuskvaultv1.Severity_SEVERITY_ERROR,
			Database: p.GetDatabase(), Object: p.GetObject(), Reason: p.GetReason(), Hint: p.GetHint()})
	}
	return out, nil
}
