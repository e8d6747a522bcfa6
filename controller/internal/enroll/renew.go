package enroll

import (
	"context"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Renewal is a certificate that takes the place of one that is about to expire.
type Renewal struct {
	// Chain in DER, leaf first.
	Chain [][]byte
	// Expires is when the leaf does.
	Expires time.Time
}

// Renew gives the agent a new certificate of the same identity. presented is
// the fingerprint of the certificate that the call came with; it stays good
// until it expires, since the answer may be lost.
//
// One synchronous transaction writes the certificate's fingerprint and the
// audit record. A crash after it leaves a certificate that nobody holds, which
// later renewals push out.
func (s *Service) Renew(ctx context.Context, id repo.AgentID, presented [32]byte, csr []byte, address string) (Renewal, error) {
	return s.renew(ctx, func(tx *catalog.Tx, at time.Time) (pki.Chain, catalog.AuditRecord, error) {
		agent, err := tx.Agent(id)
		if err != nil {
			return pki.Chain{}, catalog.AuditRecord{}, err
		}
		r := catalog.AuditRecord{Actor: "agent/" + agent.Name, Address: address, Action: "agent.renew", Object: "agent " + agent.Name}
		if agent.State != catalog.AgentActive || !Holds(agent.Certificates, presented) {
			return pki.Chain{}, r, fmt.Errorf("agent %s: its certificate was revoked: %w", agent.Name, errs.Denied)
		}
		c, err := s.issuer.IssueAgent(csr, agent.ID, at, pki.LeafLife)
		if err != nil {
			return c, r, err
		}
		agent.Certificates = withCertificate(agent.Certificates, certificate(c, at), presented, at)
		return c, r, tx.PutAgent(agent)
	})
}

// RenewOperator gives the operator a new certificate of the same name; see
// Renew. The role stays what the catalog says it is.
func (s *Service) RenewOperator(ctx context.Context, name string, presented [32]byte, csr []byte, address string) (Renewal, error) {
	return s.renew(ctx, func(tx *catalog.Tx, at time.Time) (pki.Chain, catalog.AuditRecord, error) {
		operator, err := tx.Operator(name)
		if err != nil {
			return pki.Chain{}, catalog.AuditRecord{}, err
		}
		r := catalog.AuditRecord{Actor: "operator/" + operator.Name, Address: address, Action: "operator.renew", Object: "operator " + operator.Name}
		if !operator.Revoked.IsZero() || !Holds(operator.Certificates, presented) {
			return pki.Chain{}, r, fmt.Errorf("operator %s: its certificate was revoked: %w", operator.Name, errs.Denied)
		}
		c, err := s.issuer.IssueOperator(csr, operator.Name, at, pki.LeafLife)
		if err != nil {
			return c, r, err
		}
		operator.Certificates = withCertificate(operator.Certificates, certificate(c, at), presented, at)
		return c, r, tx.PutOperator(operator)
	})
}

// renew issues and audits in one transaction; issue also writes the holder's record.
func (s *Service) renew(ctx context.Context, issue func(*catalog.Tx, time.Time) (pki.Chain, catalog.AuditRecord, error)) (out Renewal, err error) {
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		c, r, err := issue(tx, time.Now())
		if err != nil {
			return err
		}
		out = Renewal{Chain: c.Certificates, Expires: c.Leaf.NotAfter}
		r.Outcome, r.Detail = "ok", "certificate "+pki.FingerprintOf(c.Leaf).String()
		return s.trail.Append(tx, r)
	})
	if err != nil {
		return Renewal{}, fmt.Errorf("renew certificate: %w", err)
	}
	return out, nil
}

// Holds tells whether a certificate is one of the good ones.
func Holds(good []catalog.Certificate, fingerprint [32]byte) bool {
	for _, c := range good {
		if subtle.ConstantTimeCompare(c.Fingerprint[:], fingerprint[:]) == 1 {
			return true
		}
	}
	return false
}

// withCertificate adds a certificate; expired ones go, then the oldest beyond
// the bound, but never the one the caller holds.
func withCertificate(list []catalog.Certificate, c catalog.Certificate, presented [32]byte, now time.Time) []catalog.Certificate {
	var kept []catalog.Certificate
	for _, old := range list {
		if old.Fingerprint == presented || now.Before(old.Expires) {
			kept = append(kept, old)
		}
	}
	kept = append(kept, c)
	for i := 0; len(kept) > catalog.MaxCertificates && i < len(kept)-1; {
		if kept[i].Fingerprint == presented {
			i++
			continue
		}
		kept = append(kept[:i], kept[i+1:]...)
	}
	return kept
}

func certificate(c pki.Chain, at time.Time) catalog.Certificate {
	return catalog.Certificate{Fingerprint: pki.FingerprintOf(c.Leaf), Issued: at, Expires: c.Leaf.NotAfter}
}
