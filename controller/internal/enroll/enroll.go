// Package enroll gives agents their identities: one-time join tokens, the first
// certificate, renewals, replacement of a rebuilt host, and revocation. To
// operators it gives renewals.
//
// A token proves one thing, the right to enroll once. What an agent says beside
// it (its name, the names in its certificate request) grants nothing: its id is
// random, its labels are the token's, its name must be the token's where the
// token has one, and a name that exists is refused unless an operator replaced
// that agent.
//
// Every change is one synchronous catalog transaction that also holds its audit
// record, so that a token that was used stays used and a revoked agent stays
// revoked even if the controller's disk is lost right after. Refusals are
// audited too, each with its own reason, and rate-limited.
package enroll

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Catalog is where agents and tokens are kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Issuer issues certificates. *pki.Issuer implements it.
type Issuer interface {
	IssueAgent(csr []byte, agent [16]byte, now time.Time, life time.Duration) (pki.Chain, error)
	IssueOperator(csr []byte, name string, now time.Time, life time.Duration) (pki.Chain, error)
	Root() *x509.Certificate
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
	Refuse(ctx context.Context, r catalog.AuditRecord)
}

// Service gives, renews and takes away agents' identities, and renews those of
// operators. Its methods may be called concurrently.
type Service struct {
	catalog Catalog
	issuer  Issuer
	trail   Trail
	log     *zap.Logger
	limit   *limiter
	answers answers
}

// New makes a Service.
func New(c Catalog, issuer Issuer, trail Trail, log *zap.Logger) *Service {
	return &Service{catalog: c, issuer: issuer, trail: trail, log: log.Named("enroll"),
		limit: newLimiter(), answers: answers{kept: make(map[catalog.TokenID]answer)}}
}

// Request is an agent's wish to enroll.
type Request struct {
	// Credential is the token's id and secret, as pki.JoinToken.Credential gives it.
	Credential string
	// Name the agent wants; empty takes the token's.
	Name string
	// CSR is a PKCS #10 request in DER; only its public key is used.
	CSR []byte
	// Build is the program that asks.
	Build catalog.Build
	// Address it asks from.
	Address string
}

// Identity is what an enrolled agent gets.
type Identity struct {
	// Agent is its id, Name the name it is known by.
	Agent repo.AgentID
	Name  string
	// Chain of certificates in DER, leaf first, and Root, which it pins.
	Chain [][]byte
	Root  []byte
	// Expires is when the leaf does.
	Expires time.Time
	// Repeated tells that it was given before: the answer was lost.
	Repeated bool
}

// Enroll trades a join token for an identity. In this order:
//
//  1. The certificate is made in memory. A crash after it leaves nothing.
//  2. One synchronous transaction marks the token used, writes the agent with
//     the certificate's fingerprint, and the audit record. A crash after it
//     leaves an agent that never got its certificate: its host enrolls again
//     after "tuskctl agent replace".
//  3. The answer is sent, and kept for a while: the very same request again
//     gets it again.
//
// Refusals: Unauthenticated for a token that is malformed, unknown or has a
// wrong secret, Denied for one that was used, has expired or is for another
// name, Exists for a name that is taken, Busy for too many calls, Invalid for a
// bad name or certificate request. A refused call uses no token up.
func (s *Service) Enroll(ctx context.Context, r Request) (Identity, error) {
	id, err := s.enroll(ctx, r)
	if err != nil && errs.KindOf(err) != nil {
		s.trail.Refuse(ctx, catalog.AuditRecord{Address: r.Address, Action: "agent.enroll", Object: "agent " + clipName(r.Name),
			Outcome: errs.KindOf(err).Error(), Detail: err.Error()})
	}
	return id, err
}

func (s *Service) enroll(ctx context.Context, r Request) (Identity, error) {
	if !s.limit.allow(source(r.Address), time.Now()) {
		return Identity{}, fmt.Errorf("enroll: too many calls, try again in a few seconds: %w", errs.Busy)
	}
	tokenID, secret, err := pki.ParseCredential(r.Credential)
	if err != nil {
		return Identity{}, fmt.Errorf("enroll: %w", err)
	}
	if r.Name != "" && !catalog.ValidName(r.Name) {
		return Identity{}, fmt.Errorf("enroll: agent name %q: %s: %w", clipName(r.Name), catalog.NameRule, errs.Invalid)
	}
	if id, repeated, err := s.again(ctx, catalog.TokenID(tokenID.String()), secret, r); repeated {
		id.Repeated = true
		return id, err
	}
	var out Identity
	admitted := false
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		token, err := checkToken(tx, catalog.TokenID(tokenID.String()), secret)
		if err != nil {
			return err
		}
		agent, err := agentFor(tx, token, r.Name)
		if err != nil {
			return err
		}
		out, err = s.admit(tx, token, agent, r)
		admitted = err == nil
		return err
	})
	if admitted {
		// Also when the store has not answered: the agent asks again, and by then it has.
		s.answers.keep(catalog.TokenID(tokenID.String()), r.CSR, out)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("enroll: %w", err)
	}
	s.log.Info("agent enrolled", zap.String("agent", out.Name), zap.Stringer("agent_id", out.Agent), zap.Stringer("token", tokenID))
	return out, nil
}

// checkToken finds the token and checks everything about it but the name.
// Whether it was used or has expired is told only to who knows its secret.
func checkToken(tx *catalog.Tx, id catalog.TokenID, secret [32]byte) (catalog.Token, error) {
	token, err := tx.Token(id)
	unknown := errors.Is(err, errs.NotFound)
	if err != nil && !unknown {
		return token, err
	}
	// Compared also for an unknown id, with zeros, so that both take as long.
	same := subtle.ConstantTimeCompare(token.SecretHash[:], secret[:]) == 1
	switch {
	case unknown:
		return token, fmt.Errorf("join token %s: unknown to this controller, or removed: %w", id, errs.Unauthenticated)
	case !same:
		return token, fmt.Errorf("join token %s: its secret is wrong: %w", id, errs.Unauthenticated)
	case !token.Used.IsZero():
		return token, fmt.Errorf("join token %s: was used at %s, a token works once; run \"tuskctl agent token create\": %w", id, token.Used.UTC().Format(time.RFC3339), errs.Denied)
	case !time.Now().Before(token.Expires):
		return token, fmt.Errorf("join token %s: expired at %s; run \"tuskctl agent token create\": %w", id, token.Expires.UTC().Format(time.RFC3339), errs.Denied)
	}
	return token, nil
}

// agentFor gives the record that the token lets come into being, or return.
func agentFor(tx *catalog.Tx, token catalog.Token, name string) (catalog.Agent, error) {
	if name == "" {
		name = token.Name
	}
	switch {
	case name == "":
		return catalog.Agent{}, fmt.Errorf("agent name: neither the agent nor join token %s has one: %w", token.ID, errs.Invalid)
	case token.Name != "" && token.Name != name:
		return catalog.Agent{}, fmt.Errorf("join token %s: is for an agent of another name, not for %q: %w", token.ID, name, errs.Denied)
	}
	known, err := tx.AgentByName(name)
	switch {
	case errors.Is(err, errs.NotFound) && token.Agent.IsZero():
		return catalog.Agent{ID: repo.NewID(), Name: name, Labels: token.Labels, Enrolled: time.Now()}, nil
	case errors.Is(err, errs.NotFound):
		return catalog.Agent{}, fmt.Errorf("join token %s: the agent it is for does not exist any more: %w", token.ID, errs.Denied)
	case err != nil:
		return catalog.Agent{}, err
	case known.ID != token.Agent:
		return catalog.Agent{}, fmt.Errorf("agent %q: %w; if its host was rebuilt, run \"tuskctl agent replace %s\" and use the token it prints", name, errs.Exists, name)
	case known.State != catalog.AgentReplaced:
		return catalog.Agent{}, fmt.Errorf("join token %s: agent %q is %s and waits for no replacement: %w", token.ID, name, known.State, errs.Denied)
	}
	return known, nil
}

// admit issues the certificate and writes agent, token and audit record.
func (s *Service) admit(tx *catalog.Tx, token catalog.Token, agent catalog.Agent, r Request) (Identity, error) {
	at := time.Now()
	chain, err := s.issuer.IssueAgent(r.CSR, agent.ID, at, pki.LeafLife)
	if err != nil {
		return Identity{}, err
	}
	agent.State = catalog.AgentActive
	agent.Certificates = []catalog.Certificate{certificate(chain, at)}
	agent.Build = r.Build
	agent.Address = r.Address
	agent.Revoked, agent.RevokedReason = time.Time{}, ""
	if err := tx.PutAgent(agent); err != nil {
		return Identity{}, err
	}
	token.Used, token.UsedBy = at, agent.ID
	if err := tx.PutToken(token); err != nil {
		return Identity{}, err
	}
	err = s.trail.Append(tx, catalog.AuditRecord{Actor: "agent/" + agent.Name, Address: r.Address, Action: "agent.enroll", Object: "agent " + agent.Name, Outcome: "ok",
		Detail: fmt.Sprintf("join token %s made by %s; certificate %s", token.ID, token.CreatedBy, pki.FingerprintOf(chain.Leaf))})
	return Identity{Agent: agent.ID, Name: agent.Name, Chain: chain.Certificates, Root: s.issuer.Root().Raw, Expires: chain.Leaf.NotAfter}, err
}

// source gives what calls are counted by: an IPv4 address, an IPv6 network of
// 64 bits (one host has all of it), or else the text as it is.
func source(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		p, _ := ip.Prefix(64) // 64 is a valid length for every IPv6 address
		return p.String()
	}
	return ip.String()
}

func clipName(s string) string {
	if len(s) > 63 {
		return s[:63]
	}
	return s
}
