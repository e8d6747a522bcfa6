// Package pki is the controller's own certificate authority and what both
// sides check of it: a root that signs one issuing certificate per controller
// epoch, leaves issued from certificate requests of which only the public key
// counts, the identity that a verified certificate carries, join tokens, and
// the TLS configurations that put these together.
//
// Identities are URIs in the subject alternative names, the host being the
// repository's id, so that a certificate of one repository means nothing in
// another:
//
//	tuskvault://<repository id>/agent/<agent id>
//	tuskvault://<repository id>/operator/<name>
//	tuskvault://<repository id>/controller
//
// Keys are ECDSA P-256 and TLS is 1.3 only, which also stand under FIPS 140-3.
// The package holds no state and starts nothing; roles and revocation are
// looked up per call by the controller and are never read from a certificate.
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"time"
)

// ServerName is the DNS name in every controller's certificate, so that any
// address by which the controller is reached works.
const ServerName = "controller.tuskvault"

// Lifetimes.
const (
	// RootLife is the life of a root certificate.
	RootLife = 10 * 365 * 24 * time.Hour
	// LeafLife is the life of certificates of agents, operators and controllers.
	LeafLife = 90 * 24 * time.Hour
	// Backdate is how far in the past a certificate begins to be valid, so that
	// a peer whose clock is late by less accepts it at once.
	Backdate = time.Hour
)

// Fingerprint is the SHA-256 of a certificate's DER form.
type Fingerprint [32]byte

// FingerprintOf computes a certificate's fingerprint.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// String gives 64 hex digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// text gives the form used in join tokens.
func (f Fingerprint) text() string { return base64.RawURLEncoding.EncodeToString(f[:]) }

// RenewAt tells when a certificate is due for renewal: at two thirds of its life.
func RenewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}
