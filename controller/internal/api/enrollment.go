package api

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Bounds of the one call that strangers can make, in bytes: checked before
// anything else is done with the fields.
const (
	maxCredential = 256
	maxCSR        = 16 << 10
	maxBuildText  = 128
)

// enrollmentService is EnrollmentService.
type enrollmentService struct {
	tuskvaultv1.UnimplementedEnrollmentServiceServer
	deps Deps
}

// Enroll trades a join token for a certificate.
func (s *enrollmentService) Enroll(ctx context.Context, r *tuskvaultv1.EnrollRequest) (*tuskvaultv1.EnrollResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.GetToken()) > maxCredential:
		return nil, field("token", "%d bytes, at most %d are taken", len(r.GetToken()), maxCredential)
	case len(r.GetCsr()) > maxCSR:
		return nil, field("csr", "%d bytes, at most %d are taken", len(r.GetCsr()), maxCSR)
	}
	build := fromBuild(r.GetBuild())
	for _, text := range []*string{&build.Version, &build.Revision, &build.Platform} {
		*text = clip(*text, maxBuildText)
	}
	id, err := s.deps.Enroll.Enroll(ctx, enroll.Request{Credential: r.GetToken(), Name: r.GetName(), CSR: r.GetCsr(), Build: build, Address: c.Address})
	if err != nil {
		return nil, err
	}
	if !id.Repeated {
		s.deps.Events.Publish(event.Event{Kind: event.AgentEnrolled, Agent: id.Agent, AgentName: id.Name, Message: "from " + c.Address})
	}
	return &tuskvaultv1.EnrollResponse{AgentId: id.Agent.String(), Name: id.Name, CertificateChain: id.Chain, RootCertificate: id.Root,
		ExpireTime: toTime(id.Expires)}, nil
}

// Renew gives the caller, an agent or an operator, a new certificate of the same identity.
func (s *enrollmentService) Renew(ctx context.Context, r *tuskvaultv1.RenewRequest) (*tuskvaultv1.RenewResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.GetCsr()) > maxCSR {
		return nil, field("csr", "%d bytes, at most %d are taken", len(r.GetCsr()), maxCSR)
	}
	var fresh enroll.Renewal
	switch {
	case !c.Agent.IsZero():
		fresh, err = s.deps.Enroll.Renew(ctx, c.Agent, c.Fingerprint, r.GetCsr(), c.Address)
	case c.Operator != "":
		fresh, err = s.deps.Enroll.RenewOperator(ctx, c.Operator, c.Fingerprint, r.GetCsr(), c.Address)
	default:
		err = fmt.Errorf("renew certificate: the caller has none: %w", errs.Unauthenticated)
	}
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.RenewResponse{CertificateChain: fresh.Chain, ExpireTime: toTime(fresh.Expires)}, nil
}
