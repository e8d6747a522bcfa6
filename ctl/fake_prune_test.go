package ctl_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// The budgets of the fake's prunes say how they end.
const (
	budgetStuck = 7 << 20
	budgetBusy  = 9 << 20
)

func (f *fake) PruneRepository(_ context.Context, r *tuskvaultv1.PruneRepositoryRequest) (*tuskvaultv1.PruneRepositoryResponse, error) {
	switch {
	case r.GetBudgetBytes() == budgetBusy:
		return nil, fmt.Errorf("prune repository: prune 1f3a by controller runs: %w", errs.Busy)
	case len(r.GetDomains()) > 0 && r.GetDomains()[0] == "nobody":
		return nil, fmt.Errorf("prune repository: domain %q: %w", "nobody", errs.NotFound)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prune = &tuskvaultv1.Prune{Id: r.GetRequestId(), State: tuskvaultv1.PruneState_PRUNE_STATE_RUNNING, CreatedBy: "operator/admin", DryRun: r.GetDryRun(),
		StartTime: timestamppb.New(f.now), CopyBytes: r.GetBudgetBytes()}
	return &tuskvaultv1.PruneRepositoryResponse{Prune: proto.CloneOf(f.prune)}, nil
}

func (f *fake) WatchPrune(_ *tuskvaultv1.WatchPruneRequest, s grpc.ServerStreamingServer[tuskvaultv1.WatchPruneResponse]) error {
	f.mu.Lock()
	p := proto.CloneOf(f.prune)
	f.mu.Unlock()
	if p == nil {
		return fmt.Errorf("prune of the repository: there was none: %w", errs.NotFound)
	}
	p.Progress = &tuskvaultv1.PruneProgress{Domain: "e1000000000000000000000000000000", Domains: 2}
	if err := s.Send(&tuskvaultv1.WatchPruneResponse{Prune: p}); err != nil {
		return err
	}
	p.Progress, p.EndTime, p.State, p.Domains = nil, timestamppb.New(f.now.Add(time.Minute)), tuskvaultv1.PruneState_PRUNE_STATE_DONE, 2
	switch {
	case p.GetCopyBytes() == budgetStuck:
		p.State, p.Message = tuskvaultv1.PruneState_PRUNE_STATE_FAILED, "1 of 2 domains could not be pruned"
	case p.GetDryRun():
		p.Message = "would free 3221225472 bytes in 2 domains"
	default:
		p.Message, p.FreedBytes = "1073741824 bytes freed, 3221225472 bytes condemned that wait", 1<<30
	}
	f.mu.Lock()
	f.prune = p
	f.mu.Unlock()
	return s.Send(&tuskvaultv1.WatchPruneResponse{Prune: p})
}

// GetPrune gives one domain a page, so that paging is seen to work.
func (f *fake) GetPrune(_ context.Context, r *tuskvaultv1.GetPruneRequest) (*tuskvaultv1.GetPruneResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prune == nil {
		return nil, fmt.Errorf("prune of the repository: there was none: %w", errs.NotFound)
	}
	out := &tuskvaultv1.GetPruneResponse{Prune: f.prune, Page: &tuskvaultv1.PageResponse{}}
	if r.GetPage().GetToken() == "" {
		out.Page.NextToken = "2"
		out.Outcomes = []*tuskvaultv1.PruneOutcome{{Domain: "e1000000000000000000000000000000", Instances: []string{"db1/main"}, Packs: 40, Bytes: 8 << 30, Chunks: 9000,
			DeadPacks: 10, DeadBytes: 2 << 30, RepackPacks: 5, RepackBytes: 1 << 30, RepackLiveBytes: 200 << 20, LeftBytes: 90 << 20}}
		if o := out.GetOutcomes()[0]; !f.prune.GetDryRun() {
			o.FreedPacks, o.FreedBytes, o.CopiedBytes = 4, 1<<30, 5<<20
			o.WaitingPacks, o.WaitingBytes, o.WaitsFor = 15, 3<<30, "job c1000000, which has not ended"
		}
		return out, nil
	}
	out.Outcomes = []*tuskvaultv1.PruneOutcome{{Domain: "e2000000000000000000000000000000", Instances: []string{"db2/main"}, Packs: 3, Bytes: 1 << 20, Chunks: 30}}
	if f.prune.GetState() == tuskvaultv1.PruneState_PRUNE_STATE_FAILED {
		out.Outcomes[0].Problem = "snapshot c2000000 is recorded and not in the store: corrupt"
	}
	return out, nil
}

func (f *fake) CancelPrune(context.Context, *tuskvaultv1.CancelPruneRequest) (*tuskvaultv1.CancelPruneResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prune.GetState() != tuskvaultv1.PruneState_PRUNE_STATE_RUNNING {
		return nil, fmt.Errorf("cancel the prune: none runs: %w", errs.Conflict)
	}
	return &tuskvaultv1.CancelPruneResponse{Prune: f.prune}, nil
}
