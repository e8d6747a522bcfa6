package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Bounds of what tokens may take.
const (
	// maxOpenTokens bounds tokens that still work: each is a door ajar.
	maxOpenTokens = 1000
	// keepTokens is how long a token that was used or has expired is still shown.
	keepTokens = 30 * 24 * time.Hour
)

// By is who asks for a change, and from where.
type By struct {
	// Actor is an identity, for example "operator/admin".
	Actor string
	// Address the call came from.
	Address string
}

// TokenSpec describes a token.
type TokenSpec struct {
	// Request is the client-chosen id of the request.
	Request repo.ID
	// TTL is how long it works.
	TTL time.Duration
	// Name the agent must have, or empty.
	Name string
	// Labels the agent gets.
	Labels catalog.Labels
}

// CreateToken makes a join token and gives its text, which is nowhere else and
// cannot be given again: a repeated request is refused with Conflict.
func (s *Service) CreateToken(ctx context.Context, spec TokenSpec, by By) (catalog.Token, string, error) {
	secret := pki.NewJoinToken(s.issuer.Root())
	var token catalog.Token
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		if err := tidyTokens(tx, spec.Request); err != nil {
			return err
		}
		if spec.Name != "" {
			if _, err := tx.AgentByName(spec.Name); err == nil {
				return fmt.Errorf("agent %q: %w; if its host was rebuilt, run \"tuskctl agent replace %s\"", spec.Name, errs.Exists, spec.Name)
			} else if !errors.Is(err, errs.NotFound) {
				return err
			}
		}
		at := time.Now()
		token = catalog.Token{ID: catalog.TokenID(secret.ID.String()), SecretHash: secret.Hash(), Request: spec.Request, Name: spec.Name,
			Labels: spec.Labels, Created: at, Expires: at.Add(spec.TTL), CreatedBy: by.Actor}
		if err := tx.PutToken(token); err != nil {
			return err
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "token.create", Object: "token " + string(token.ID),
			Outcome: "ok", Detail: fmt.Sprintf("name %q, labels %v, until %s", spec.Name, spec.Labels, token.Expires.UTC().Format(time.RFC3339))})
	})
	if err != nil {
		return catalog.Token{}, "", fmt.Errorf("create join token: %w", err)
	}
	return token, secret.Text(), nil
}

// tidyTokens refuses a request that was answered before, removes tokens that
// have been of no use for keepTokens, and bounds those that still work.
func tidyTokens(tx *catalog.Tx, request repo.ID) error {
	at := time.Now()
	open := 0
	var old []catalog.TokenID
	err := eachToken(tx, func(t catalog.Token) error {
		if t.Request == request {
			return fmt.Errorf("request %s was answered before by token %s, whose secret was shown then: %w", request, t.ID, errs.Conflict)
		}
		if t.Used.IsZero() && at.Before(t.Expires) {
			open++
		}
		if at.Sub(t.Expires) > keepTokens {
			old = append(old, t.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if open >= maxOpenTokens {
		return fmt.Errorf("%d join tokens are open, at most %d may be; remove some: %w", open, maxOpenTokens, errs.Exhausted)
	}
	for _, id := range old {
		if err := tx.DeleteToken(id); err != nil {
			return err
		}
	}
	return nil
}

// eachToken calls fn for every token.
func eachToken(tx *catalog.Tx, fn func(catalog.Token) error) error {
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := tx.Tokens(page, nil)
		if err != nil {
			return err
		}
		for _, t := range rows {
			if err := fn(t); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.Token = next
	}
}

// RemoveToken makes a token useless. ref is its id or a unique prefix of it.
func (s *Service) RemoveToken(ctx context.Context, ref string, by By) error {
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		t, err := tx.FindToken(ref)
		if err != nil {
			return err
		}
		if err := tx.DeleteToken(t.ID); err != nil {
			return err
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "token.remove", Object: "token " + string(t.ID), Outcome: "ok"})
	})
	if err != nil {
		return fmt.Errorf("remove join token: %w", err)
	}
	return nil
}

// Revoke ends an agent's rights for good. Revoking twice changes nothing. The
// caller cuts what the agent has open. When the store does not answer the error
// is Unavailable and the agent is given nevertheless: it is revoked here.
func (s *Service) Revoke(ctx context.Context, ref, reason string, by By) (catalog.Agent, error) {
	var agent catalog.Agent
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) (err error) {
		if agent, err = tx.FindAgent(ref); err != nil || agent.State == catalog.AgentRevoked {
			return err
		}
		agent.State, agent.Certificates = catalog.AgentRevoked, nil
		agent.Revoked, agent.RevokedReason = time.Now(), reason
		if err := tx.PutAgent(agent); err != nil {
			return err
		}
		if err := removeTokensOf(tx, agent.ID); err != nil {
			return err
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "agent.revoke", Object: "agent " + agent.Name, Outcome: "ok", Detail: reason})
	})
	if errors.Is(err, errs.Unavailable) && agent.State == catalog.AgentRevoked {
		return agent, fmt.Errorf("revoke agent: %w", err)
	} else if err != nil {
		return catalog.Agent{}, fmt.Errorf("revoke agent: %w", err)
	}
	s.log.Info("agent revoked", zap.String("agent", agent.Name))
	return agent, nil
}

// Replace makes the agent's certificates worthless and gives a token with which
// its rebuilt host returns under the same name and id. A token of an earlier
// Replace works no more. The caller cuts what the old host has open. When the
// store does not answer the error is Unavailable and the agent is given
// nevertheless: its certificates are void here.
func (s *Service) Replace(ctx context.Context, ref string, ttl time.Duration, by By) (catalog.Agent, catalog.Token, string, error) {
	secret := pki.NewJoinToken(s.issuer.Root())
	var agent catalog.Agent
	var token catalog.Token
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) (err error) {
		if agent, err = tx.FindAgent(ref); err != nil {
			return err
		}
		was := agent.State
		agent.State, agent.Certificates = catalog.AgentReplaced, nil
		if err := tx.PutAgent(agent); err != nil {
			return err
		}
		if err := removeTokensOf(tx, agent.ID); err != nil {
			return err
		}
		at := time.Now()
		token = catalog.Token{ID: catalog.TokenID(secret.ID.String()), SecretHash: secret.Hash(), Request: repo.NewID(), Name: agent.Name, Agent: agent.ID,
			Labels: agent.Labels, Created: at, Expires: at.Add(ttl), CreatedBy: by.Actor}
		if err := tx.PutToken(token); err != nil {
			return err
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "agent.replace", Object: "agent " + agent.Name, Outcome: "ok",
			Detail: fmt.Sprintf("was %s; token %s until %s", was, token.ID, token.Expires.UTC().Format(time.RFC3339))})
	})
	if errors.Is(err, errs.Unavailable) && agent.State == catalog.AgentReplaced {
		return agent, catalog.Token{}, "", fmt.Errorf("replace agent: %w", err)
	} else if err != nil {
		return catalog.Agent{}, catalog.Token{}, "", fmt.Errorf("replace agent: %w", err)
	}
	return agent, token, secret.Text(), nil
}

// removeTokensOf removes unused tokens that would let the agent return.
func removeTokensOf(tx *catalog.Tx, agent repo.AgentID) error {
	var open []catalog.TokenID
	err := eachToken(tx, func(t catalog.Token) error {
		if t.Agent == agent && t.Used.IsZero() {
			open = append(open, t.ID)
		}
		return nil
	})
	for _, id := range open {
		err = errors.Join(err, tx.DeleteToken(id))
	}
	return err
}
