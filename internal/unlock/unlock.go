// Package unlock reads the secrets that open a repository, whatever form a person
// keeps them in: a key file, a recovery sheet, an age identity, a passphrase. It
// knows age, which internal/seal and the agent need not.
package unlock

import (
	"bytes"
	"crypto/fips140"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// identityPrefix begins an age identity.
const identityPrefix = "AGE-SECRET-KEY-1"

// Parse gives the unlocker that a secret's text is: a key file, a recovery sheet,
// an age identity, or anything else as a passphrase. A sheet or an identity that
// is damaged is errs.Invalid and no passphrase.
func Parse(text string) (seal.Unlocker, error) {
	if k, err := seal.ParseKeyFile([]byte(text)); err == nil {
		return k, nil
	}
	switch {
	case IsSheet(text):
		return ParseSheet(text)
	case strings.Contains(strings.ToUpper(text), identityPrefix):
		return ParseIdentity(text)
	}
	return seal.NewPassphrase(text)
}

// Recipient is an age recipient: it can wrap, and whoever has its identity unwraps.
type Recipient struct {
	text      string
	recipient age.Recipient
}

var _ seal.Unlocker = (*Recipient)(nil)

// ParseRecipient reads an X25519 recipient, "age1…". In FIPS mode it is refused.
func ParseRecipient(text string) (*Recipient, error) {
	if err := allowed(); err != nil {
		return nil, err
	}
	r, err := age.ParseX25519Recipient(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("age recipient: %w: %w", err, errs.Invalid)
	}
	return &Recipient{text: r.String(), recipient: r}, nil
}

// String gives the recipient, which is public.
func (r *Recipient) String() string { return r.text }

// Wrap implements seal.Unlocker: a random root, encrypted to the recipient,
// takes the place of one that is made of a secret.
func (r *Recipient) Wrap(m seal.MasterKey, aad []byte) ([]byte, error) {
	root := seal.NewKey()
	var trailer bytes.Buffer
	w, err := age.Encrypt(&trailer, r.recipient)
	if err == nil {
		_, err = w.Write(root[:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("wrap for %s: %w", r.text, err)
	}
	wrapped, err := seal.WrapTrailed(root, m, aad, trailer.Bytes())
	if err != nil {
		return nil, err
	}
	// Nobody here can open it later: see now that its root does.
	if again, err := seal.UnwrapTrailed(root, wrapped, aad); err != nil || again != m {
		return nil, fmt.Errorf("wrap for %s: does not open: %w", r.text, errs.Corrupt)
	}
	return wrapped, nil
}

// Unwrap implements seal.Unlocker: it never can.
func (r *Recipient) Unwrap(_, _ []byte) (seal.MasterKey, error) {
	return seal.MasterKey{}, fmt.Errorf("unlock: a recipient opens nothing, its identity does: %w", errs.Unsupported)
}

// Identity is an age identity.
type Identity struct{ identity age.Identity }

var _ seal.Unlocker = (*Identity)(nil)

// ParseIdentity reads an X25519 identity; comment lines around it are allowed, as
// age-keygen writes them. Errors never repeat the text.
func ParseIdentity(text string) (*Identity, error) {
	if err := allowed(); err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil || len(ids) != 1 {
		return nil, fmt.Errorf("age identity: not one in the form of age-keygen: %w", errs.Invalid)
	}
	return &Identity{identity: ids[0]}, nil
}

// Wrap implements seal.Unlocker: it wraps for its recipient.
func (i *Identity) Wrap(m seal.MasterKey, aad []byte) ([]byte, error) {
	x, ok := i.identity.(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("wrap: age identity without a recipient: %w", errs.Unsupported)
	}
	return (&Recipient{text: x.Recipient().String(), recipient: x.Recipient()}).Wrap(m, aad)
}

// Unwrap implements seal.Unlocker.
func (i *Identity) Unwrap(wrapped, aad []byte) (seal.MasterKey, error) {
	trailer, err := seal.Trailer(wrapped)
	if err != nil {
		return seal.MasterKey{}, err
	}
	r, err := age.Decrypt(bytes.NewReader(trailer), i.identity)
	if err != nil {
		return seal.MasterKey{}, fmt.Errorf("unlock: not for this age identity: %w", errs.Denied)
	}
	var root seal.Key
	if _, err := io.ReadFull(r, root[:]); err != nil {
		return seal.MasterKey{}, fmt.Errorf("unlock: root of an age wrap: %w", errs.Corrupt)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return seal.MasterKey{}, fmt.Errorf("unlock: root of an age wrap is too long: %w", errs.Corrupt)
	}
	return seal.UnwrapTrailed(root, wrapped, aad)
}

// String never shows the identity.
func (i *Identity) String() string { return "age identity [redacted]" }

// Format never shows the identity, whatever the verb.
func (i *Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, i.String()) } // fmt gives no way to return it

func allowed() error {
	if fips140.Enabled() {
		return fmt.Errorf("age: FIPS mode allows only a key file or a passphrase by pbkdf2-hmac-sha256: %w", errs.Unsupported)
	}
	return nil
}
