package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Viewer reads the catalog. *catalog.Catalog implements it.
type Viewer interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
}

// Refuser takes audit records of refused calls. *audit.Service implements it.
type Refuser interface {
	Refuse(ctx context.Context, r catalog.AuditRecord)
}

// Caller is who a call comes from, as its certificate and the catalog say. The
// zero Caller is nobody known.
type Caller struct {
	// Agent is set when the caller is an agent, with its Name.
	Agent repo.AgentID
	// Operator is set when the caller is an operator, with its Role.
	Operator string
	Role     catalog.Role
	// Name of the agent in the catalog.
	Name string
	// Address it called from.
	Address string
	// Fingerprint of the certificate it showed, and when that expires.
	Fingerprint pki.Fingerprint
	Expires     time.Time
}

// String gives the identity as the audit trail has it: "operator/NAME",
// "agent/NAME", or "" for nobody known.
func (c Caller) String() string {
	switch {
	case c.Operator != "":
		return "operator/" + c.Operator
	case !c.Agent.IsZero():
		return "agent/" + c.Name
	}
	return ""
}

// by gives the caller in the words of package enroll.
func (c Caller) by() enroll.By { return enroll.By{Actor: c.String(), Address: c.Address} }

type callerKey struct{}

// CallerFrom gives who the call comes from. It is there in every handler behind
// an Authorizer; without one the answer is Unauthenticated.
func CallerFrom(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, fmt.Errorf("caller: %w", errs.Unauthenticated)
	}
	return c, nil
}

// Authorizer decides each call by one table. Role and revocation are looked up
// in the catalog for each call, and for each live connection every sweepEvery;
// they are never read from the certificate, which lives 90 days.
type Authorizer struct {
	repository repo.RepositoryID
	catalog    Viewer
	trail      Refuser
	conns      *Connections
}

// NewAuthorizer makes an Authorizer for a repository.
func NewAuthorizer(repository repo.RepositoryID, c Viewer, trail Refuser, conns *Connections) *Authorizer {
	return &Authorizer{repository: repository, catalog: c, trail: trail, conns: conns}
}

// ServerOptions give a server of rpc.NewServer this authorization: the
// interceptors, which run inside those of rpc, and credentials that register
// connections. rpc.ServerOptions.Public must be Methods(), so that every call
// comes here and each refusal is audited.
func (a *Authorizer) ServerOptions(config *tls.Config) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(a.conns.wrap(credentials.NewTLS(config))),
		grpc.ChainUnaryInterceptor(a.Unary), grpc.ChainStreamInterceptor(a.Stream)}
}

// Methods lists all methods that have a row in the table.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// Unary is the interceptor for calls with one request and one answer.
func (a *Authorizer) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := a.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	answer, err := next(ctx, req)
	if err != nil {
		a.failed(ctx, info.FullMethod, err)
	}
	return answer, err
}

// failed audits a call that was let in and then refused, and a change that did
// not succeed. What was asked for wrongly (a bad field, a name that does not
// exist) touched nothing. Enrollment keeps its own records.
func (a *Authorizer) failed(ctx context.Context, method string, err error) {
	kind := errs.KindOf(err)
	change := methods[method].role >= catalog.RoleOperator
	switch {
	case method == tuskvaultv1.EnrollmentService_Enroll_FullMethodName, kind == errs.Invalid, kind == errs.NotFound:
		return
	case kind != errs.Denied && kind != errs.Unauthenticated && !change:
		return
	}
	c, _ := CallerFrom(ctx) // there, since the call was let in
	a.trail.Refuse(ctx, catalog.AuditRecord{Actor: c.String(), Address: c.Address, Action: "call.fail", Object: method, Outcome: audit.Outcome(err), Detail: err.Error()})
}

// Stream is the interceptor for streams.
func (a *Authorizer) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := a.authorize(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &callerStream{stream, ctx})
}

// callerStream is a stream whose context knows the caller.
type callerStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context gives the context with the caller.
func (s *callerStream) Context() context.Context { return s.ctx }

// authorize puts the caller into the context, or refuses the call and audits that.
func (a *Authorizer) authorize(ctx context.Context, method string) (context.Context, error) {
	caller, err := a.identify(ctx)
	allowed := methods[method]
	if err != nil && allowed.anyone {
		// What the caller has to show counts for nothing here, so it cannot hurt either.
		caller, err = Caller{Address: caller.Address}, nil
	}
	if err == nil {
		err = allowed.check(caller)
	}
	if err != nil {
		a.trail.Refuse(ctx, catalog.AuditRecord{Actor: caller.String(), Address: caller.Address, Action: "call.refuse", Object: method,
			Outcome: errs.KindOf(err).Error(), Detail: err.Error()})
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

// check tells whether the caller is among those who may.
func (m callers) check(c Caller) error {
	switch {
	case m.anyone:
		return nil
	case c.Operator == "" && c.Agent.IsZero():
		return fmt.Errorf("no client certificate was shown: %w", errs.Unauthenticated)
	case !c.Agent.IsZero():
		if m.agent {
			return nil
		}
		return fmt.Errorf("not for agents: %w", errs.Denied)
	case m.role == 0:
		return fmt.Errorf("not for operators: %w", errs.Denied)
	case c.Role < m.role || c.Role > catalog.RoleAdmin: // a role of a later version is none here
		return fmt.Errorf("operator %s has the role %s, this needs %s: %w", c.Operator, c.Role, m.role, errs.Denied)
	}
	return nil
}

// identify finds out who calls. The address is given even with an error.
func (a *Authorizer) identify(ctx context.Context) (Caller, error) {
	address := rpc.RemoteAddress(ctx)
	id, ok := rpc.PeerFrom(ctx)
	if !ok {
		return Caller{Address: address}, nil
	}
	c, err := a.lookUp(ctx, id)
	c.Address = address
	return c, err
}

// lookUp asks the catalog what an identity is worth now.
func (a *Authorizer) lookUp(ctx context.Context, id pki.Peer) (Caller, error) {
	c := Caller{Fingerprint: id.Fingerprint, Expires: id.NotAfter}
	switch {
	case id.Repository != a.repository:
		return c, fmt.Errorf("certificate of another repository: %w", errs.Unauthenticated)
	case !time.Now().Before(id.NotAfter):
		// The handshake may be weeks old.
		return c, fmt.Errorf("certificate of %s: has expired: %w", id, errs.Unauthenticated)
	}
	err := a.catalog.View(ctx, func(tx *catalog.Tx) error {
		switch id.Kind {
		case pki.Agent:
			return checkAgent(tx, id, &c)
		case pki.Operator:
			return checkOperator(tx, id, &c)
		}
		return fmt.Errorf("certificate of %s: not a client: %w", id, errs.Unauthenticated)
	})
	if err != nil && errs.KindOf(err) == nil {
		err = fmt.Errorf("look up %s: %w: %w", id, err, errs.Unavailable)
	}
	return c, err
}

func checkAgent(tx *catalog.Tx, id pki.Peer, c *Caller) error {
	agent, err := tx.Agent(id.Agent)
	if errors.Is(err, errs.NotFound) {
		return fmt.Errorf("%s: unknown to this controller: %w", id, errs.Unauthenticated)
	} else if err != nil {
		return err
	}
	switch {
	case agent.State == catalog.AgentRevoked:
		return fmt.Errorf("agent %s: was revoked: %w", agent.Name, errs.Denied)
	case agent.State == catalog.AgentReplaced:
		return fmt.Errorf("agent %s: was replaced, its new host has not enrolled yet: %w", agent.Name, errs.Denied)
	case agent.State != catalog.AgentActive || !enroll.Holds(agent.Certificates, id.Fingerprint):
		return fmt.Errorf("agent %s: this certificate is not one of its good ones: %w", agent.Name, errs.Denied)
	}
	c.Agent, c.Name = agent.ID, agent.Name
	return nil
}

func checkOperator(tx *catalog.Tx, id pki.Peer, c *Caller) error {
	operator, err := tx.Operator(id.Operator)
	if errors.Is(err, errs.NotFound) {
		return fmt.Errorf("%s: unknown to this controller: %w", id, errs.Unauthenticated)
	} else if err != nil {
		return err
	}
	switch {
	case !operator.Revoked.IsZero():
		return fmt.Errorf("operator %s: was revoked: %w", operator.Name, errs.Denied)
	case !enroll.Holds(operator.Certificates, id.Fingerprint):
		return fmt.Errorf("operator %s: this certificate is not one of the good ones: %w", operator.Name, errs.Denied)
	}
	c.Operator, c.Role = operator.Name, operator.Role
	return nil
}
