package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Root is the root authority of a repository. Its key signs issuing
// certificates only and is in memory only while it does.
type Root struct {
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
	repository [16]byte
}

// NewRoot makes the root of a repository, valid from now for RootLife.
func NewRoot(repository [16]byte, now time.Time) (*Root, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t := authorityTemplate(repository, "root", now.Add(RootLife), now)
	t.MaxPathLen = 1
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make root certificate: %w", err)
	}
	return &Root{cert: cert, key: key, repository: repository}, nil
}

// Certificate gives the certificate that agents and operators pin.
func (r *Root) Certificate() *x509.Certificate { return r.cert }

// Repository gives the id of the repository that the root is for.
func (r *Root) Repository() [16]byte { return r.repository }

// Issuer makes the issuing authority of a controller epoch. It lives as long as the root.
func (r *Root) Issuer(epoch uint64, now time.Time) (*Issuer, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t := authorityTemplate(r.repository, "issuer/"+strconv.FormatUint(epoch, 10), r.cert.NotAfter, now)
	t.MaxPathLenZero = true
	cert, err := sign(t, r.cert, key.Public(), r.key)
	if err != nil {
		return nil, fmt.Errorf("make issuing certificate of epoch %d: %w", epoch, err)
	}
	return &Issuer{cert: cert, key: key, root: r.cert, repository: r.repository, epoch: epoch}, nil
}

// Issuer is the issuing authority of one controller epoch.
type Issuer struct {
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
	root       *x509.Certificate
	repository [16]byte
	epoch      uint64
}

// Certificate gives the issuer's own certificate.
func (i *Issuer) Certificate() *x509.Certificate { return i.cert }

// Root gives the root certificate above the issuer.
func (i *Issuer) Root() *x509.Certificate { return i.root }

// Repository gives the id of the repository that the issuer is for.
func (i *Issuer) Repository() [16]byte { return i.repository }

// Epoch gives the controller epoch the issuer is for.
func (i *Issuer) Epoch() uint64 { return i.epoch }

// IssueAgent issues an agent's certificate from a certificate request (DER), of
// which only the public key is used. It gives the chain, leaf first, in DER.
func (i *Issuer) IssueAgent(csr []byte, agent [16]byte, now time.Time, life time.Duration) (Chain, error) {
	return i.issueCSR(csr, Peer{Kind: Agent, Repository: i.repository, Agent: agent}, now, life)
}

// IssueOperator issues an operator's certificate; see IssueAgent.
func (i *Issuer) IssueOperator(csr []byte, name string, now time.Time, life time.Duration) (Chain, error) {
	if err := CheckOperatorName(name); err != nil {
		return Chain{}, err
	}
	return i.issueCSR(csr, Peer{Kind: Operator, Repository: i.repository, Operator: name}, now, life)
}

// IssueController issues the controller's own certificate for a public key. The
// chain ends with the root, which first contact needs to see.
func (i *Issuer) IssueController(pub crypto.PublicKey, now time.Time, life time.Duration) (Chain, error) {
	c, err := i.issue(pub, Peer{Kind: Controller, Repository: i.repository}, now, life)
	if err != nil {
		return Chain{}, err
	}
	c.Certificates = append(c.Certificates, i.root.Raw)
	return c, nil
}

// issueCSR checks a request and issues for its key.
func (i *Issuer) issueCSR(csr []byte, p Peer, now time.Time, life time.Duration) (Chain, error) {
	pub, err := keyOfRequest(csr)
	if err != nil {
		return Chain{}, err
	}
	return i.issue(pub, p, now, life)
}

// issue signs a leaf for p.
func (i *Issuer) issue(pub crypto.PublicKey, p Peer, now time.Time, life time.Duration) (Chain, error) {
	if life <= 0 {
		return Chain{}, fmt.Errorf("issue certificate for %s: life %s: %w", p, life, errs.Invalid)
	}
	end := now.Add(life)
	if end.After(i.cert.NotAfter) {
		end = i.cert.NotAfter
	}
	if !end.After(now) {
		return Chain{}, fmt.Errorf("issue certificate for %s: the issuing certificate has expired: %w", p, errs.Conflict)
	}
	t := template(now, end)
	t.Subject = pkix.Name{CommonName: p.String()}
	t.URIs = append(t.URIs, p.uri())
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if p.Kind == Controller {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		t.DNSNames = []string{ServerName}
	}
	cert, err := sign(t, i.cert, pub, i.key)
	if err != nil {
		return Chain{}, fmt.Errorf("issue certificate for %s: %w", p, err)
	}
	return Chain{Certificates: [][]byte{cert.Raw, i.cert.Raw}, Leaf: cert}, nil
}

// Chain is an issued certificate with what is above it.
type Chain struct {
	// Certificates in DER, leaf first.
	Certificates [][]byte
	// Leaf is the parsed first certificate.
	Leaf *x509.Certificate
}

// authorityTemplate prepares a CA certificate. It names its repository, and
// PeerFromChain wants all three certificates of a chain to name the same.
func authorityTemplate(repository [16]byte, path string, end, now time.Time) *x509.Certificate {
	t := template(now, end)
	t.Subject = pkix.Name{CommonName: "Tuskvault " + path, SerialNumber: hex.EncodeToString(repository[:])}
	t.URIs = append(t.URIs, identityURI(repository, path))
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign
	return t
}

// template has what all our certificates share. The serial is 127 random bits,
// which keeps it positive.
func template(now, end time.Time) *x509.Certificate {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[0] &= 0x7f
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(b[:]), NotBefore: now.Add(-Backdate), NotAfter: end,
		BasicConstraintsValid: true}
}

// sign makes and parses a certificate.
func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// NewKey makes a private key of the only kind we use, ECDSA P-256.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make private key: %w", err)
	}
	return key, nil
}

// NewRequest makes a certificate request for a key. Nothing but the public key
// is in it: names are the issuer's to give.
func NewRequest(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// maxRequest bounds a request before it is parsed; ours have about 250 bytes.
const maxRequest = 16 << 10

// keyOfRequest takes the public key of a request whose signature proves that
// the asker holds the private key.
func keyOfRequest(csr []byte) (*ecdsa.PublicKey, error) {
	if len(csr) > maxRequest {
		return nil, fmt.Errorf("certificate request: %d bytes: %w", len(csr), errs.Invalid)
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", errs.Invalid)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: bad signature: %w", errs.Invalid)
	}
	pub, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("certificate request: the key is not ECDSA P-256: %w", errs.Invalid)
	}
	return pub, nil
}
