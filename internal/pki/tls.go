package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// CertificateSource gives the certificate to show in a handshake. It is asked
// at each handshake, so that a renewal needs no restart.
type CertificateSource func() (*tls.Certificate, error)

// ServerTLS configures a controller's listener: TLS 1.3, its own certificate,
// client certificates verified against root if given. Whoever gives none has
// no identity; whoever gives one that is odd is refused in the handshake.
func ServerTLS(root *x509.Certificate, own CertificateSource) (*tls.Config, error) {
	repository, err := RepositoryOfRoot(root)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      poolOf(root),
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() },
		// A resumed session would go on with a certificate that has expired since.
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			p, err := PeerOfConnection(s)
			if err != nil {
				return err
			}
			if p.Repository != repository || p.Kind == Controller {
				return fmt.Errorf("client certificate of %s: not for this controller: %w", p, errs.Unauthenticated)
			}
			return nil
		},
	}, nil
}

// ClientTLS configures an enrolled client: TLS 1.3, the controller must show a
// certificate under the pinned root. own may be nil for a client without a certificate.
func ClientTLS(root *x509.Certificate, own CertificateSource) (*tls.Config, error) {
	repository, err := RepositoryOfRoot(root)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    poolOf(root),
		ServerName: ServerName,
		NextProtos: []string{"h2"},
		VerifyConnection: func(s tls.ConnectionState) error {
			return checkController(s.VerifiedChains, repository)
		},
	}
	if own != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	}
	return c, nil
}

// FirstContactTLS configures a client that knows nothing but the fingerprint of
// the root: the server must send its root in its chain, the root must have this
// fingerprint, and the chain must then verify as usual.
func FirstContactTLS(root Fingerprint) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ServerName,
		NextProtos: []string{"h2"},
		// Not a gap: VerifyConnection does the whole verification, with a root that
		// is only known once the server has sent it.
		InsecureSkipVerify: true,
	}
	c.VerifyConnection = func(s tls.ConnectionState) error { return verifyFirstContact(s, root) }
	return c
}

// verifyFirstContact finds the pinned root in what the server sent and verifies the chain under it.
func verifyFirstContact(s tls.ConnectionState, pin Fingerprint) error {
	var root *x509.Certificate
	intermediates := x509.NewCertPool()
	for _, c := range s.PeerCertificates[min(1, len(s.PeerCertificates)):] {
		if FingerprintOf(c) == pin {
			root = c
			continue
		}
		intermediates.AddCert(c)
	}
	if root == nil {
		return fmt.Errorf("controller certificate: its root is not the one in the join token: %w", errs.Unauthenticated)
	}
	repository, err := RepositoryOfRoot(root)
	if err != nil {
		return err
	}
	chains, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: ServerName, Roots: poolOf(root), Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("controller certificate: %w: %w", err, errs.Unauthenticated)
	}
	return checkController(chains, repository)
}

// checkController refuses a server that is not the controller of the repository.
func checkController(chains [][]*x509.Certificate, repository [16]byte) error {
	if len(chains) == 0 {
		return fmt.Errorf("controller certificate: not verified: %w", errs.Unauthenticated)
	}
	p, err := PeerFromChain(chains[0])
	if err != nil {
		return err
	}
	if p.Kind != Controller || p.Repository != repository {
		return fmt.Errorf("controller certificate: is that of %s: %w", p, errs.Unauthenticated)
	}
	return nil
}

// PeerOfConnection reads the identity of the other side from a connection whose
// certificates crypto/tls has verified.
func PeerOfConnection(s tls.ConnectionState) (Peer, error) {
	if len(s.VerifiedChains) == 0 {
		return Peer{}, fmt.Errorf("peer: no verified certificate: %w", errs.Unauthenticated)
	}
	return PeerFromChain(s.VerifiedChains[0])
}

// poolOf makes a pool of one certificate.
func poolOf(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}
