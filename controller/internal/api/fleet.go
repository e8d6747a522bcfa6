package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// fleetService is FleetService; its calls about instances are in instances.go.
type fleetService struct {
	tuskvaultv1.UnimplementedFleetServiceServer
	deps Deps
}

// ListAgents lists agents by name.
func (s *fleetService) ListAgents(ctx context.Context, r *tuskvaultv1.ListAgentsRequest) (*tuskvaultv1.ListAgentsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	selector, err := ParseSelector(r.GetSelector())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListAgentsResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, next, err := tx.Agents(page, func(a catalog.Agent) bool { return selector.Matches(a.Labels) })
		if err != nil {
			return err
		}
		for _, a := range rows {
			wire, err := s.agent(tx, a)
			if err != nil {
				return err
			}
			out.Agents = append(out.Agents, wire)
		}
		out.Page = toPage(next)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return out, nil
}

// agent gives one agent with what is only known live.
func (s *fleetService) agent(tx *catalog.Tx, a catalog.Agent) (*tuskvaultv1.Agent, error) {
	instances, err := tx.InstancesOf(a.Name)
	if err != nil {
		return nil, err
	}
	return toAgent(a, s.deps.Hub.Presence(a.ID), len(instances)), nil
}

// GetAgent shows one agent with its inventory.
func (s *fleetService) GetAgent(ctx context.Context, r *tuskvaultv1.GetAgentRequest) (*tuskvaultv1.GetAgentResponse, error) {
	out := &tuskvaultv1.GetAgentResponse{}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		a, err := findAgent(tx, "agent", r.GetAgent())
		if err != nil {
			return err
		}
		instances, err := tx.InstancesOf(a.Name)
		if err != nil {
			return err
		}
		inventory, err := tx.Inventory(a.ID)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		out.Agent = toAgent(a, s.deps.Hub.Presence(a.ID), len(instances))
		out.Inventory = toInventory(inventory, instances)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("show agent: %w", err)
	}
	return out, nil
}

// SetAgentLabels changes labels.
func (s *fleetService) SetAgentLabels(ctx context.Context, r *tuskvaultv1.SetAgentLabelsRequest) (*tuskvaultv1.SetAgentLabelsResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	set := r.GetSet().GetValues()
	if err := checkLabels("set", set); err != nil {
		return nil, err
	}
	if len(r.GetRemove()) > maxLabels {
		return nil, field("remove", "%d keys, at most %d are taken", len(r.GetRemove()), maxLabels)
	}
	for _, key := range r.GetRemove() {
		if !validLabelKey(key) {
			return nil, field("remove", "label key %q: %s", clip(key, 70), labelKeyRule)
		}
		if _, both := set[key]; both {
			return nil, field("remove", "label %s is also in set", key)
		}
	}
	if len(set)+len(r.GetRemove()) == 0 {
		return nil, field("set", "neither a label to set nor one to remove")
	}
	out := &tuskvaultv1.SetAgentLabelsResponse{}
	err = s.deps.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		a, err := findAgent(tx, "agent", r.GetAgent())
		if err != nil {
			return err
		}
		if err := relabel(&a, set, r.GetRemove()); err != nil {
			return err
		}
		if err := tx.PutAgent(a); err != nil {
			return err
		}
		detail := fmt.Sprintf("set %v, removed %v", set, r.GetRemove())
		if err := s.deps.Trail.Append(tx, record(c, "agent.label", "agent "+a.Name, detail)); err != nil {
			return err
		}
		out.Agent, err = s.agent(tx, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("label agent: %w", err)
	}
	return out, nil
}

// relabel changes an agent's labels, keeping them within their bound.
func relabel(a *catalog.Agent, set map[string]string, remove []string) error {
	labels := make(catalog.Labels, len(a.Labels)+len(set))
	for k, v := range a.Labels {
		if !slices.Contains(remove, k) {
			labels[k] = v
		}
	}
	for k, v := range set {
		labels[k] = v
	}
	if len(labels) > maxLabels {
		return field("set", "agent %s would have %d labels, at most %d are kept", a.Name, len(labels), maxLabels)
	}
	a.Labels = labels
	return nil
}

// RevokeAgent ends an agent's rights. In this order:
//
//  1. The catalog says so, synchronously: from here on every call is refused. A
//     crash after it leaves live sessions to the sweep of the next process.
//  2. What is open is cut, and its jobs end.
//  3. Its domains start a new seal epoch, so that keys it has seen open nothing
//     that is sealed from now on. Revoking again repeats 2 and 3.
func (s *fleetService) RevokeAgent(ctx context.Context, r *tuskvaultv1.RevokeAgentRequest) (*tuskvaultv1.RevokeAgentResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkReference("agent", r.GetAgent()); err != nil {
		return nil, err
	}
	if err := checkReason(r.GetReason()); err != nil {
		return nil, err
	}
	agent, err := s.deps.Enroll.Revoke(ctx, r.GetAgent(), r.GetReason(), c.by())
	if err != nil && agent.ID.IsZero() {
		return nil, s.nearAgents(ctx, r.GetAgent(), err)
	}
	s.deps.Events.Publish(event.Event{Kind: event.AgentRevoked, Agent: agent.ID, AgentName: agent.Name, Message: "by " + c.String() + reasonOf(r.GetReason())})
	if err := errors.Join(s.cut(ctx, agent, "revoked"), err); err != nil {
		return nil, fmt.Errorf("revoke agent %s: it is revoked, but not everything is done, revoke it again to finish: %w", agent.Name, err)
	}
	return &tuskvaultv1.RevokeAgentResponse{}, nil
}

// reasonOf words a reason, if there is one.
func reasonOf(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// ReplaceAgent lets a rebuilt host return under its old name.
func (s *fleetService) ReplaceAgent(ctx context.Context, r *tuskvaultv1.ReplaceAgentRequest) (*tuskvaultv1.ReplaceAgentResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkReference("agent", r.GetAgent()); err != nil {
		return nil, err
	}
	ttl, err := parseTTL(r.GetTtl())
	if err != nil {
		return nil, err
	}
	agent, token, secret, err := s.deps.Enroll.Replace(ctx, r.GetAgent(), ttl, c.by())
	if err != nil && agent.ID.IsZero() {
		return nil, s.nearAgents(ctx, r.GetAgent(), err)
	}
	if err := errors.Join(s.cut(ctx, agent, "replaced"), err); err != nil {
		return nil, fmt.Errorf("replace agent %s: its certificates are void, but not everything is done, replace it again to finish: %w", agent.Name, err)
	}
	return &tuskvaultv1.ReplaceAgentResponse{Token: toToken(token, "", time.Now()), Secret: secret}, nil
}

// cut ends everything an agent has open after its rights were taken away.
func (s *fleetService) cut(ctx context.Context, agent catalog.Agent, what string) error {
	s.deps.Hub.End(agent.ID, fmt.Errorf("agent %s: was %s: %w", agent.Name, what, errs.Denied))
	jobs := s.deps.Jobs.Revoke(ctx, agent.ID, "the agent was "+what)
	s.deps.Conns.Cut(pki.Agent, func(p pki.Peer) bool { return p.Agent == agent.ID })
	if jobs != nil {
		return fmt.Errorf("end its jobs: %w", jobs)
	}
	var instances []catalog.Instance
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		instances, err = tx.InstancesOf(agent.Name)
		return err
	})
	if err != nil {
		return err
	}
	for _, i := range instances {
		if err := s.deps.Keys.NewSealEpoch(ctx, i.Domain); err != nil {
			return fmt.Errorf("start a new seal epoch for %s: %w", i.FullName(), err)
		}
	}
	s.deps.Log.Info("agent cut off", zap.String("agent", agent.Name), zap.String("reason", what))
	return nil
}

// nearAgents adds near matches to a NotFound error.
func (s *fleetService) nearAgents(ctx context.Context, ref string, err error) error {
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	if e := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		_, e := findAgent(tx, "agent", ref)
		return e
	}); errors.Is(e, errs.NotFound) {
		return e
	}
	return err
}

// CreateToken makes a join token.
func (s *fleetService) CreateToken(ctx context.Context, r *tuskvaultv1.CreateTokenRequest) (*tuskvaultv1.CreateTokenResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	request, err := parseRequestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	ttl, err := parseTTL(r.GetTtl())
	if err != nil {
		return nil, err
	}
	if r.GetName() != "" {
		if err := checkName("name", r.GetName()); err != nil {
			return nil, err
		}
	}
	if err := checkLabels("labels", r.GetLabels().GetValues()); err != nil {
		return nil, err
	}
	spec := enroll.TokenSpec{Request: request, TTL: ttl, Name: r.GetName(), Labels: r.GetLabels().GetValues()}
	token, secret, err := s.deps.Enroll.CreateToken(ctx, spec, c.by())
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.CreateTokenResponse{Token: toToken(token, "", time.Now()), Secret: secret}, nil
}

// ListTokens lists tokens, newest first.
func (s *fleetService) ListTokens(ctx context.Context, r *tuskvaultv1.ListTokensRequest) (*tuskvaultv1.ListTokensResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListTokensResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, next, err := tx.Tokens(page, nil)
		if err != nil {
			return err
		}
		for _, t := range rows {
			used := ""
			if a, err := tx.Agent(t.UsedBy); err == nil {
				used = a.Name
			}
			out.Tokens = append(out.Tokens, toToken(t, used, time.Now()))
		}
		out.Page = toPage(next)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list join tokens: %w", err)
	}
	return out, nil
}

// RemoveToken makes a token useless.
func (s *fleetService) RemoveToken(ctx context.Context, r *tuskvaultv1.RemoveTokenRequest) (*tuskvaultv1.RemoveTokenResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkReference("id", r.GetId()); err != nil {
		return nil, err
	}
	if err := s.deps.Enroll.RemoveToken(ctx, r.GetId(), c.by()); err != nil {
		return nil, err
	}
	return &tuskvaultv1.RemoveTokenResponse{}, nil
}

// SetLogLevel changes the level of the controller's or an agent's log.
func (s *fleetService) SetLogLevel(ctx context.Context, r *tuskvaultv1.SetLogLevelRequest) (*tuskvaultv1.SetLogLevelResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	level, err := parseLevel(r.GetLevel())
	if err != nil {
		return nil, err
	}
	object := "controller"
	apply := func() error { return s.deps.Level.SetLevel(level) }
	if r.GetAgent() != "" {
		var agent catalog.Agent
		err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			agent, err = findAgent(tx, "agent", r.GetAgent())
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("set log level: %w", err)
		}
		object = "agent " + agent.Name
		apply = func() error { return s.deps.Hub.SetLogLevel(agent.ID, level) }
	}
	if err := apply(); err != nil {
		return nil, fmt.Errorf("set log level of %s: %w", object, err)
	}
	if err := s.deps.Trail.Record(ctx, record(c, "log.level", object, level)); err != nil {
		return nil, err
	}
	return &tuskvaultv1.SetLogLevelResponse{}, nil
}
