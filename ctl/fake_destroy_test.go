package ctl_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// EraseInstance erases db1/main, shares the domain of db2/main with db3/main, and
// is refused what somebody holds.
func (f *fake) EraseInstance(_ context.Context, r *tuskvaultv1.EraseInstanceRequest) (*tuskvaultv1.EraseInstanceResponse, error) {
	out := &tuskvaultv1.EraseInstanceResponse{DomainIds: []string{"e1000000000000000000000000000000"}, Instances: []string{r.GetInstance()}, Snapshots: 12}
	switch r.GetInstance() {
	case "db1/main", "held/main":
	case "db2/main":
		out.Instances = append(out.Instances, "db3/main")
	default:
		return nil, fmt.Errorf("erase instance: instance %q: %w", r.GetInstance(), errs.NotFound)
	}
	if r.GetPlan() {
		return out, nil
	}
	switch {
	case r.GetConfirm() != r.GetInstance():
		return nil, fmt.Errorf("erase instance: %q was not confirmed by its full name: %w", r.GetInstance(), errs.Invalid)
	case r.GetInstance() == "held/main":
		return nil, fmt.Errorf("erase instance: snapshot c1000000 of held/main is held until 2027-01-01T00:00:00Z by operator/bob (audit); release it first: %w", errs.Conflict)
	case len(out.GetInstances()) > 1 && !r.GetWholeDomain():
		return nil, fmt.Errorf("erase instance: instance db2/main shares its domain with others, whose snapshots would go too (db2/main, db3/main): %w", errs.Conflict)
	}
	out.KeysDestroyed = len(out.GetInstances()) == 1
	return out, nil
}

// DistrustAgent knows db1 and wants to be asked for 48 hours.
func (f *fake) DistrustAgent(_ context.Context, r *tuskvaultv1.DistrustAgentRequest) (*tuskvaultv1.DistrustAgentResponse, error) {
	if r.GetAgent() != "db1" {
		return nil, fmt.Errorf("distrust agent %s: %w", r.GetAgent(), errs.NotFound)
	}
	if ago := time.Since(r.GetSinceTime().AsTime()); ago < 48*time.Hour {
		return nil, fmt.Errorf("distrust agent db1: since %s ago: %w", ago, errs.Invalid)
	}
	return &tuskvaultv1.DistrustAgentResponse{Packs: 7, Domains: 2}, nil
}

const lostKey = "f2000000000000000000000000000000"

// RotateMasterKey loses one key, which must be agreed to. After the first time the
// store keeps something.
func (f *fake) RotateMasterKey(_ context.Context, r *tuskvaultv1.RotateMasterKeyRequest) (*tuskvaultv1.RotateMasterKeyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &tuskvaultv1.RotateMasterKeyResponse{Master: f.master + 1, Kept: []*tuskvaultv1.RepositoryKey{{Id: "f1000000000000000000000000000000", Name: "first", Kind: "key file", InUse: true}},
		Lost: []*tuskvaultv1.RepositoryKey{{Id: lostKey, Name: "desk", Kind: "passphrase (argon2id)"}}}
	if r.GetPlan() {
		return out, nil
	}
	if !slices.Equal(r.GetLoseIds(), []string{lostKey}) {
		return nil, fmt.Errorf("rotate master key: key desk would stop working: %w", errs.Conflict)
	}
	f.master++
	out.Master, out.Removed = f.master+1, 6
	if f.master > 1 {
		out.Remaining = 3
	}
	return out, nil
}

func (f *fake) RotateSealKeys(context.Context, *tuskvaultv1.RotateSealKeysRequest) (*tuskvaultv1.RotateSealKeysResponse, error) {
	return &tuskvaultv1.RotateSealKeysResponse{Domains: 4}, nil
}
