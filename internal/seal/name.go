package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// String gives 32 hex digits.
func (d DomainID) String() string { return hex.EncodeToString(d[:]) }

// String gives 64 hex digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// Short gives the first 16 hex digits, for messages.
func (n Name) Short() string { return hex.EncodeToString(n[:8]) }

// String gives 64 hex digits.
func (h FrameHash) String() string { return hex.EncodeToString(h[:]) }

// ParseDomainID reads 32 hex digits.
func ParseDomainID(s string) (DomainID, error) {
	var id DomainID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("domain id %q: not 32 hex digits: %w", s, errs.Invalid)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return DomainID{}, fmt.Errorf("domain id %q: not 32 hex digits: %w", s, errs.Invalid)
	}
	return id, nil
}

// Namer computes the names of chunks. One goroutine at a time may use it; it
// allocates nothing after its first name.
type Namer struct {
	mac hash.Hash
	// kind and sum live here because what is handed to an interface escapes.
	kind [1]byte
	sum  [sha256.Size]byte
}

// NewNamer makes a Namer for a domain's name key.
func NewNamer(nameKey Key) *Namer { return &Namer{mac: hmac.New(sha256.New, nameKey[:])} }

// Name gives HMAC-SHA-256(key, kind ‖ plain).
func (n *Namer) Name(kind Kind, plain []byte) Name {
	n.mac.Reset()
	n.kind[0] = byte(kind)
	_, _ = n.mac.Write(n.kind[:]) // a hash never fails
	_, _ = n.mac.Write(plain)
	n.mac.Sum(n.sum[:0])
	return n.sum
}

// String never shows the key.
func (n *Namer) String() string { return "namer " + redacted }

// Format never shows the key, whatever the verb.
func (n *Namer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(n.String())) }
