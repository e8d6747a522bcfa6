package api

import (
	"context"

	"github.com/tuskvault/tuskvault/controller/internal/erase"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// EraseInstance destroys all snapshots of an instance, beyond recovery.
func (s *fleetService) EraseInstance(ctx context.Context, r *tuskvaultv1.EraseInstanceRequest) (*tuskvaultv1.EraseInstanceResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	var done erase.Result
	if r.GetPlan() {
		done, err = s.deps.Eraser.Plan(ctx, r.GetInstance())
	} else {
		done, err = s.deps.Eraser.Erase(ctx, erase.Request{Instance: r.GetInstance(), Confirm: r.GetConfirm(), WholeDomain: r.GetWholeDomain()},
			erase.By{Actor: c.String(), Address: c.Address})
	}
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.EraseInstanceResponse{Instances: done.Instances, Snapshots: done.Snapshots, KeysDestroyed: done.Destroyed}
	for _, id := range done.Domains {
		out.DomainIds = append(out.DomainIds, id.String())
	}
	return out, nil
}
