package api

import (
	"context"

	"github.com/tuskvault/tuskvault/controller/internal/distrust"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// DistrustAgent stops relying on what an agent has uploaded since a time.
func (s *repositoryService) DistrustAgent(ctx context.Context, r *tuskvaultv1.DistrustAgentRequest) (*tuskvaultv1.DistrustAgentResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.GetSinceTime().CheckValid(); err != nil {
		return nil, field("since_time", "%v", err)
	}
	found, err := s.deps.Distrust.Agent(ctx, r.GetAgent(), r.GetSinceTime().AsTime(), distrust.By{Actor: c.String(), Address: c.Address})
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.DistrustAgentResponse{Packs: found.Packs, Domains: int32(found.Domains)}, nil
}
