package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// PEM gives the root authority with its key. It is a secret: callers seal it
// before it goes anywhere.
func (r *Root) PEM() ([]byte, error) { return authorityPEM(r.key, r.cert) }

// ParseRoot reads what Root.PEM gives.
func ParseRoot(text []byte) (*Root, error) {
	key, certs, err := parsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("root authority: %w", err)
	}
	if key == nil || len(certs) != 1 {
		return nil, fmt.Errorf("root authority: needs a key and one certificate: %w", errs.Invalid)
	}
	cert, err := parseAuthority(certs[0], key)
	if err != nil {
		return nil, fmt.Errorf("root authority: %w", err)
	}
	repository, err := RepositoryOfRoot(cert)
	if err != nil {
		return nil, err
	}
	return &Root{cert: cert, key: key, repository: repository}, nil
}

// PEM gives the issuing authority with its key, and the root certificate. It is
// a secret: callers seal it before it goes anywhere.
func (i *Issuer) PEM() ([]byte, error) { return authorityPEM(i.key, i.cert, i.root) }

// ParseIssuer reads what Issuer.PEM gives.
func ParseIssuer(text []byte) (*Issuer, error) {
	key, certs, err := parsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("issuing authority: %w", err)
	}
	if key == nil || len(certs) != 2 {
		return nil, fmt.Errorf("issuing authority: needs a key, a certificate and a root: %w", errs.Invalid)
	}
	cert, err := parseAuthority(certs[0], key)
	if err != nil {
		return nil, fmt.Errorf("issuing authority: %w", err)
	}
	root, err := x509.ParseCertificate(certs[1])
	if err != nil {
		return nil, fmt.Errorf("issuing authority: root: %w", errs.Invalid)
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("issuing authority: not signed by its root: %w", errs.Invalid)
	}
	p, err := identityOf(cert)
	if err != nil {
		return nil, err
	}
	if p.Kind != kindIssuer {
		return nil, fmt.Errorf("issuing authority: certificate of %s: %w", p, errs.Invalid)
	}
	return &Issuer{cert: cert, key: key, root: root, repository: p.Repository, epoch: p.Epoch}, nil
}

// authorityPEM writes a key and certificates.
func authorityPEM(key *ecdsa.PrivateKey, certs ...*x509.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes(), nil
}

// parseAuthority reads a CA certificate and checks that the key is its.
func parseAuthority(der []byte, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", errs.Invalid)
	}
	if !c.IsCA || !key.PublicKey.Equal(c.PublicKey) {
		return nil, fmt.Errorf("certificate: is not an authority for its key: %w", errs.Invalid)
	}
	return c, nil
}

// ServerCertificate keeps the controller's own certificate fresh: its key is
// made in memory, and a new certificate is issued when two thirds of the life
// of the one before have passed. Safe for concurrent use.
type ServerCertificate struct {
	issuer *Issuer
	life   time.Duration

	mu sync.Mutex
	// current is nil before the first handshake.
	current *tls.Certificate
}

// NewServerCertificate prepares certificates of the given life, LeafLife usually.
func NewServerCertificate(issuer *Issuer, life time.Duration) *ServerCertificate {
	return &ServerCertificate{issuer: issuer, life: life}
}

// Certificate is a CertificateSource.
func (s *ServerCertificate) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.current != nil && now.Before(RenewAt(s.current.Leaf)) && now.After(s.current.Leaf.NotBefore) {
		return s.current, nil
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := s.issuer.IssueController(key.Public(), now, s.life)
	if err != nil {
		return nil, err
	}
	s.current = &tls.Certificate{Certificate: chain.Certificates, PrivateKey: key, Leaf: chain.Leaf}
	return s.current, nil
}
