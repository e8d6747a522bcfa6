package pki

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// PeerKind says what a certificate makes its holder.
type PeerKind string

// The kinds of peers.
const (
	// Agent is an agent; Peer.Agent has its id.
	Agent PeerKind = "agent"
	// Operator is a person or a script; Peer.Operator has the name.
	Operator PeerKind = "operator"
	// Controller is the controller itself.
	Controller PeerKind = "controller"
)

// kindIssuer is the identity of an issuing certificate. It is never a peer.
const kindIssuer PeerKind = "issuer"

// scheme of all identity URIs.
const scheme = "tuskvault"

// operatorName is what an operator may be called.
var operatorName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// Peer is the identity that a verified certificate carries.
type Peer struct {
	// Kind of peer.
	Kind PeerKind
	// Repository id under whose root the certificate was issued.
	Repository [16]byte
	// Agent id, when Kind is Agent.
	Agent [16]byte
	// Operator name, when Kind is Operator.
	Operator string
	// Epoch of the controller that issued the certificate.
	Epoch uint64
	// Serial number of the leaf, hex.
	Serial string
	// Fingerprint of the leaf.
	Fingerprint Fingerprint
	// NotAfter is when the leaf expires.
	NotAfter time.Time
}

// String gives "agent/<id>", "operator/<name>" or "controller", for logs and audit.
func (p Peer) String() string {
	switch p.Kind {
	case Agent:
		return "agent/" + hex.EncodeToString(p.Agent[:])
	case Operator:
		return "operator/" + p.Operator
	}
	return string(p.Kind)
}

// uri gives the identity as it stands in a certificate.
func (p Peer) uri() *url.URL {
	return identityURI(p.Repository, p.String())
}

// identityURI builds an identity from its path.
func identityURI(repository [16]byte, path string) *url.URL {
	return &url.URL{Scheme: scheme, Host: hex.EncodeToString(repository[:]), Path: "/" + path}
}

// PeerFromChain reads the identity from a chain that crypto/tls or
// x509.Verify has verified: leaf first, then the issuing certificate, then the
// root. Anything odd is Unauthenticated: more than one identity, an identity
// that is not of the known form, certificates of different repositories.
func PeerFromChain(chain []*x509.Certificate) (Peer, error) {
	if len(chain) != 3 {
		return Peer{}, fmt.Errorf("peer certificate: chain of %d certificates, not 3: %w", len(chain), errs.Unauthenticated)
	}
	leaf := chain[0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		return Peer{}, fmt.Errorf("peer certificate: is an authority: %w", errs.Unauthenticated)
	}
	p, err := identityOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	issuer, err := identityOf(chain[1])
	if err != nil {
		return Peer{}, err
	}
	if p.Kind == kindIssuer || issuer.Kind != kindIssuer || issuer.Repository != p.Repository {
		return Peer{}, fmt.Errorf("peer certificate: not issued by an authority of repository %x: %w", p.Repository, errs.Unauthenticated)
	}
	root, err := RepositoryOfRoot(chain[2])
	if err != nil || root != p.Repository {
		return Peer{}, fmt.Errorf("peer certificate: root is not of repository %x: %w", p.Repository, errs.Unauthenticated)
	}
	p.Epoch = issuer.Epoch
	p.Serial = leaf.SerialNumber.Text(16)
	p.Fingerprint = FingerprintOf(leaf)
	p.NotAfter = leaf.NotAfter
	return p, nil
}

// RepositoryOfRoot reads the repository id that a root certificate is for.
func RepositoryOfRoot(root *x509.Certificate) ([16]byte, error) {
	if len(root.URIs) != 1 || root.URIs[0].Path != "/root" {
		return [16]byte{}, fmt.Errorf("root certificate: no repository in it: %w", errs.Unauthenticated)
	}
	return repositoryOf(root.URIs[0])
}

// identityOf reads the one identity of a certificate.
func identityOf(c *x509.Certificate) (Peer, error) {
	odd := func(why string) (Peer, error) {
		return Peer{}, fmt.Errorf("peer certificate %s: %s: %w", c.SerialNumber.Text(16), why, errs.Unauthenticated)
	}
	if len(c.URIs) != 1 {
		return odd(fmt.Sprintf("%d identities, not 1", len(c.URIs)))
	}
	if len(c.EmailAddresses) != 0 || len(c.IPAddresses) != 0 {
		return odd("names that no identity has")
	}
	u := c.URIs[0]
	repository, err := repositoryOf(u)
	if err != nil {
		return odd(fmt.Sprintf("identity %q is not of the known form", u))
	}
	p := Peer{Repository: repository}
	kind, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch p.Kind = PeerKind(kind); p.Kind {
	case Agent:
		id, err := hex.DecodeString(name)
		if err != nil || len(id) != len(p.Agent) {
			return odd(fmt.Sprintf("identity %q names no agent", u))
		}
		copy(p.Agent[:], id)
	case Operator:
		if !operatorName.MatchString(name) {
			return odd(fmt.Sprintf("identity %q names no operator", u))
		}
		p.Operator = name
	case Controller:
	case kindIssuer:
		if p.Epoch, err = strconv.ParseUint(name, 10, 64); err != nil {
			return odd(fmt.Sprintf("identity %q has no epoch", u))
		}
		return p, nil
	default:
		return odd(fmt.Sprintf("identity %q is of no known kind", u))
	}
	// The text must be exactly what we would write: no second spelling of an identity exists.
	if u.String() != p.uri().String() {
		return odd(fmt.Sprintf("identity %q is not of the known form", u))
	}
	if isController := p.Kind == Controller; isController != (len(c.DNSNames) == 1 && c.DNSNames[0] == ServerName) ||
		!isController && len(c.DNSNames) != 0 {
		return odd("DNS names do not fit its identity")
	}
	return p, nil
}

// repositoryOf reads the repository id of an identity URI.
func repositoryOf(u *url.URL) (id [16]byte, err error) {
	b, err := hex.DecodeString(u.Host)
	if err != nil || len(b) != len(id) || u.Scheme != scheme || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return id, fmt.Errorf("identity %q: %w", u, errs.Unauthenticated)
	}
	copy(id[:], b)
	if u.Host != hex.EncodeToString(id[:]) {
		return id, fmt.Errorf("identity %q: %w", u, errs.Unauthenticated)
	}
	return id, nil
}

// CheckOperatorName tells whether an operator may be called so.
func CheckOperatorName(name string) error {
	if !operatorName.MatchString(name) {
		return fmt.Errorf("operator name %q: lower-case letters, digits, '.', '_', '-', at most 63: %w", name, errs.Invalid)
	}
	return nil
}
