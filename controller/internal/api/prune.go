package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Prunes runs prunes of the repository. *prune.Runner implements it.
type Prunes interface {
	Start(ctx context.Context, spec prune.Spec) (prune.State, error)
	Cancel() (prune.State, error)
	Last(ctx context.Context) (prune.State, error)
	Watch(ctx context.Context, fn func(prune.State) error) error
	Health(ctx context.Context) (prune.Health, error)
}

// PruneRepository begins a prune.
func (s *repositoryService) PruneRepository(ctx context.Context, r *tuskvaultv1.PruneRepositoryRequest) (*tuskvaultv1.PruneRepositoryResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id, err := parseRequestID(r.GetRequestId())
	switch {
	case err != nil:
		return nil, err
	case r.GetBudgetBytes() < 0:
		return nil, field("budget_bytes", "%d: is negative", r.GetBudgetBytes())
	case len(r.GetDomains()) > catalog.MaxPruneOutcomes:
		return nil, field("domains", "%d: want at most %d", len(r.GetDomains()), catalog.MaxPruneOutcomes)
	}
	domains, err := s.findDomains(ctx, r.GetDomains())
	if err != nil {
		return nil, fmt.Errorf("prune repository: %w", err)
	}
	state, err := s.deps.Prunes.Start(ctx, prune.Spec{ID: id, By: c.String(), DryRun: r.GetDryRun(), Domains: domains, Budget: r.GetBudgetBytes()})
	if err != nil {
		return nil, fmt.Errorf("prune repository: %w", err)
	}
	detail := fmt.Sprintf("dry run %v, %d domains named, budget %d bytes", r.GetDryRun(), len(domains), r.GetBudgetBytes())
	if err := s.deps.Trail.Record(ctx, record(c, "repository.prune", "prune "+id.String(), detail)); err != nil {
		return nil, err
	}
	return &tuskvaultv1.PruneRepositoryResponse{Prune: toPrune(state)}, nil
}

// findDomains finds the domains that somebody names, each once.
func (s *repositoryService) findDomains(ctx context.Context, words []string) ([]seal.DomainID, error) {
	if len(words) == 0 {
		return nil, nil
	}
	uses, err := s.domainUses(ctx)
	if err != nil {
		return nil, err
	}
	var out []seal.DomainID
	for _, word := range words {
		var found []seal.DomainID
		for id, use := range uses {
			if word != "" && strings.HasPrefix(id.String(), word) || slices.Contains(use.instances, word) {
				found = append(found, id)
			}
		}
		switch len(found) {
		case 0:
			return nil, fmt.Errorf("domain %q: %w", word, errs.NotFound)
		case 1:
			out = append(out, found[0])
		default:
			return nil, field("domains", "%q: %d domains begin so", word, len(found))
		}
	}
	slices.SortFunc(out, func(a, b seal.DomainID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out), nil
}

// WatchPrune sends the last prune now and after changes, and ends after its end.
func (s *repositoryService) WatchPrune(_ *tuskvaultv1.WatchPruneRequest, stream grpc.ServerStreamingServer[tuskvaultv1.WatchPruneResponse]) error {
	return s.deps.Prunes.Watch(stream.Context(), func(state prune.State) error {
		return stream.Send(&tuskvaultv1.WatchPruneResponse{Prune: toPrune(state)})
	})
}

// GetPrune shows the last prune with what became of each domain.
func (s *repositoryService) GetPrune(ctx context.Context, r *tuskvaultv1.GetPruneRequest) (*tuskvaultv1.GetPruneResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	state, err := s.deps.Prunes.Last(ctx)
	if err != nil {
		return nil, fmt.Errorf("show prune: %w", err)
	}
	outcomes := slices.Clone(state.Outcomes)
	slices.SortFunc(outcomes, func(a, b catalog.PruneOutcome) int { return slices.Compare(a.Domain[:], b.Domain[:]) })
	rows, next, err := take(outcomes, page, func(o catalog.PruneOutcome) string { return o.Domain.String() })
	if err != nil {
		return nil, err
	}
	uses, err := s.domainUses(ctx)
	if err != nil {
		return nil, fmt.Errorf("show prune: %w", err)
	}
	out := &tuskvaultv1.GetPruneResponse{Prune: toPrune(state), Page: toPage(next)}
	for _, o := range rows {
		out.Outcomes = append(out.Outcomes, toPruneOutcome(o, uses[o.Domain]))
	}
	return out, nil
}

// CancelPrune asks the prune that runs to stop.
func (s *repositoryService) CancelPrune(ctx context.Context, _ *tuskvaultv1.CancelPruneRequest) (*tuskvaultv1.CancelPruneResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	state, err := s.deps.Prunes.Cancel()
	if err != nil {
		return nil, err
	}
	if err := s.deps.Trail.Record(ctx, record(c, "repository.prune-cancel", "prune "+state.ID.String(), "")); err != nil {
		return nil, err
	}
	return &tuskvaultv1.CancelPruneResponse{Prune: toPrune(state)}, nil
}
