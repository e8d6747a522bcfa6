package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// tokenVersion begins every join token.
const tokenVersion = "tv1"

// TokenID names a join token. It is no secret.
type TokenID [6]byte

// String gives 12 hex digits.
func (t TokenID) String() string { return hex.EncodeToString(t[:]) }

// JoinToken lets one agent enroll once. Its text is
//
//	tv1.<id, 12 hex digits>.<secret, 32 bytes, base64url>.<SHA-256 of the root certificate, base64url>
//
// so that the very first contact is authenticated in both directions. The
// controller keeps only Hash.
type JoinToken struct {
	// ID names the token.
	ID TokenID
	// Root is the fingerprint of the root certificate to expect.
	Root Fingerprint
	// secret proves the right to enroll.
	secret [32]byte
}

// NewJoinToken makes a random token for a root.
func NewJoinToken(root *x509.Certificate) JoinToken {
	t := JoinToken{Root: FingerprintOf(root)}
	_, _ = rand.Read(t.ID[:]) // never fails: crypto/rand ends the program instead
	_, _ = rand.Read(t.secret[:])
	return t
}

// ParseJoinToken reads a token's text. Errors never repeat it.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return JoinToken{}, fmt.Errorf("join token: not of the form %s.ID.SECRET.FINGERPRINT: %w", tokenVersion, errs.Invalid)
	}
	var t JoinToken
	if n, err := hex.DecodeString(parts[1]); err != nil || copy(t.ID[:], n) != len(t.ID) || len(n) != len(t.ID) {
		return JoinToken{}, fmt.Errorf("join token: bad id: %w", errs.Invalid)
	}
	if !decode32(&t.secret, parts[2]) {
		return JoinToken{}, fmt.Errorf("join token: bad secret: %w", errs.Invalid)
	}
	if !decode32((*[32]byte)(&t.Root), parts[3]) {
		return JoinToken{}, fmt.Errorf("join token: bad fingerprint: %w", errs.Invalid)
	}
	return t, nil
}

// Text gives the whole token. It is a secret: print it once, to the one who asked for it.
func (t JoinToken) Text() string {
	return strings.Join([]string{tokenVersion, t.ID.String(), base64.RawURLEncoding.EncodeToString(t.secret[:]), t.Root.text()}, ".")
}

// Credential gives what an agent sends when it enrolls: "<id>.<secret>".
func (t JoinToken) Credential() string {
	return t.ID.String() + "." + base64.RawURLEncoding.EncodeToString(t.secret[:])
}

// Hash gives SHA-256 of the secret: all that the controller keeps of it.
func (t JoinToken) Hash() [32]byte { return sha256.Sum256(t.secret[:]) }

// String never shows the secret.
func (t JoinToken) String() string { return "join token " + t.ID.String() }

// GoString never shows the secret.
func (t JoinToken) GoString() string { return t.String() }

// MarshalJSON refuses: a token travels only as Text.
func (t JoinToken) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("join token: must not be written as JSON: %w", errs.Denied)
}

// ParseCredential reads what Credential gives: the token's id, and the hash of
// the secret to compare in constant time with the one kept.
func ParseCredential(text string) (TokenID, [32]byte, error) {
	var id TokenID
	idText, secretText, ok := strings.Cut(text, ".")
	b, err := hex.DecodeString(idText)
	var secret [32]byte
	if !ok || err != nil || len(b) != len(id) || !decode32(&secret, secretText) {
		return id, [32]byte{}, fmt.Errorf("join token: not of the known form: %w", errs.Unauthenticated)
	}
	copy(id[:], b)
	return id, sha256.Sum256(secret[:]), nil
}

// decode32 reads 32 bytes of base64url.
func decode32(dst *[32]byte, text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && copy(dst[:], b) == 32 && len(b) == 32
}
