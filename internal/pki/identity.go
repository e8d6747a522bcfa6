package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Identity is what a client needs to speak: its key, its chain and the root it
// pins. It is kept as one PEM file, so that key and certificate always belong
// together, whatever crash comes between two renewals.
type Identity struct {
	// Key is the private key; it was made here and never leaves.
	Key *ecdsa.PrivateKey
	// Chain in DER, leaf first.
	Chain [][]byte
	// Leaf is the parsed first certificate of Chain.
	Leaf *x509.Certificate
	// Root is the pinned root.
	Root *x509.Certificate
	// Peer is the identity the chain carries.
	Peer Peer
}

// NewIdentity checks that key, chain (DER, leaf first) and root (DER) belong
// together, and that the chain verifies at the time now.
func NewIdentity(key *ecdsa.PrivateKey, chain [][]byte, root []byte, now time.Time) (*Identity, error) {
	i, err := assemble(key, chain, root)
	if err != nil {
		return nil, err
	}
	if now.After(i.Leaf.NotAfter) || now.Before(i.Leaf.NotBefore) {
		return nil, fmt.Errorf("certificate of %s: valid from %s to %s, and it is %s: %w", i.Peer,
			i.Leaf.NotBefore.UTC().Format(time.RFC3339), i.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), errs.Unauthenticated)
	}
	return i, nil
}

// assemble does NewIdentity but for the clock: a certificate that has expired
// is still an identity, though no longer a useful one.
func assemble(key *ecdsa.PrivateKey, chain [][]byte, root []byte) (*Identity, error) {
	rootCert, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w: %w", err, errs.Invalid)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("certificate chain: empty: %w", errs.Invalid)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("certificate: %w: %w", err, errs.Invalid)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("certificate: is not for our key: %w", errs.Invalid)
	}
	intermediates := x509.NewCertPool()
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate chain: %w: %w", err, errs.Invalid)
		}
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: poolOf(rootCert), Intermediates: intermediates,
		CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, fmt.Errorf("certificate chain: %w: %w", err, errs.Unauthenticated)
	}
	p, err := PeerFromChain(chains[0])
	if err != nil {
		return nil, err
	}
	return &Identity{Key: key, Chain: chain, Leaf: leaf, Root: rootCert, Peer: p}, nil
}

// TLS gives the certificate for handshakes.
func (i *Identity) TLS() *tls.Certificate {
	return &tls.Certificate{Certificate: i.Chain, PrivateKey: i.Key, Leaf: i.Leaf}
}

// PEM gives the identity as one PEM text: key, chain, and the root last.
func (i *Identity) PEM() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	for _, der := range i.Chain {
		if !bytes.Equal(der, i.Root.Raw) {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
	}
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Root.Raw}))
	return b.Bytes(), nil
}

// ParseIdentity reads what PEM gives. Whether the leaf has expired is for the
// caller to see (Leaf.NotAfter).
func ParseIdentity(text []byte) (*Identity, error) {
	key, certs, err := parsePEM(text)
	if err != nil {
		return nil, err
	}
	if key == nil || len(certs) < 2 {
		return nil, fmt.Errorf("identity: needs a private key, a chain and a root: %w", errs.Invalid)
	}
	last := len(certs) - 1
	return assemble(key, certs[:last], certs[last])
}

// parsePEM takes one private key and the certificates out of a PEM text.
func parsePEM(text []byte) (key *ecdsa.PrivateKey, certs [][]byte, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("private key: %w", errs.Invalid) // the parser's words could hold key bytes
			}
			ec, ok := k.(*ecdsa.PrivateKey)
			if !ok || key != nil {
				return nil, nil, fmt.Errorf("private key: not one ECDSA key: %w", errs.Invalid)
			}
			key = ec
		case "CERTIFICATE":
			certs = append(certs, block.Bytes)
		default:
			return nil, nil, fmt.Errorf("PEM block %q: not expected here: %w", block.Type, errs.Invalid)
		}
	}
	return key, certs, nil
}

// Save writes the identity to path, 0600, durably and atomically: a crash leaves
// the old identity or the new one, never a key without its certificate.
func (i *Identity) Save(path string) error {
	text, err := i.PEM()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text)
}

// LoadIdentity reads an identity that Save wrote. A file that others can read,
// or that anybody but its owner can write, is refused.
func LoadIdentity(path string) (*Identity, error) {
	text, err := ReadSecretFile(path)
	if err != nil {
		return nil, err
	}
	i, err := ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return i, nil
}

// maxSecretFile bounds what ReadSecretFile takes: an identity has about 2 KiB.
const maxSecretFile = 64 << 10

// ReadSecretFile reads a file that holds a secret. 0600 and 0400 are usual; a
// group that may read (0640, as orchestrators set it) is accepted; a file that
// everybody may read, or that others than the owner may write, is Denied.
func ReadSecretFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", path, errs.NotFound)
	case err != nil:
		return nil, fmt.Errorf("read secret file: %w", err)
	case info.Mode().Perm()&0o027 != 0:
		return nil, fmt.Errorf("read %s: mode %04o lets others at it; mend it with: chmod 600 %s: %w", path, info.Mode().Perm(), path, errs.Denied)
	case !info.Mode().IsRegular() || info.Size() > maxSecretFile:
		return nil, fmt.Errorf("read %s: not a file of at most %d bytes: %w", path, maxSecretFile, errs.Invalid)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret file: %w", err)
	}
	return b, nil
}

// Holder holds an identity that is renewed while it is in use.
type Holder struct {
	mu sync.Mutex
	// current is never nil once set.
	current *Identity
}

// NewHolder starts with an identity.
func NewHolder(i *Identity) *Holder { return &Holder{current: i} }

// Current gives the newest identity.
func (h *Holder) Current() *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// Replace puts a renewed identity in place; handshakes from now on show it.
func (h *Holder) Replace(i *Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = i
}

// Certificate is a CertificateSource.
func (h *Holder) Certificate() (*tls.Certificate, error) { return h.Current().TLS(), nil }

// ClientTLS configures a client that shows the newest identity and pins its root.
func (h *Holder) ClientTLS() (*tls.Config, error) { return ClientTLS(h.Current().Root, h.Certificate) }

// ClientTLS configures a client that shows this identity and pins its root.
func (i *Identity) ClientTLS() (*tls.Config, error) { return NewHolder(i).ClientTLS() }
