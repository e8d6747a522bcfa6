package seal

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Derived is a secret that was turned into the root of a wrap already, where the
// secret is: a passphrase need not travel to whoever has the master key. The root
// is as secret as what it was made of. It wraps, and unwraps its own wraps.
type Derived struct {
	kind WrapKind
	kdf  KDF
	salt [saltSize]byte
	root Key
}

var _ Unlocker = (*Derived)(nil)

// NewDerived makes one of its parts. Kinds other than key files and passphrases,
// and costs out of bounds, are errs.Invalid.
func NewDerived(kind WrapKind, kdf KDF, salt, root [32]byte) (*Derived, error) {
	d := &Derived{kind: kind, kdf: kdf, salt: salt, root: root}
	kdf.Kind = kind
	switch {
	case kind == WrapKeyFile && kdf == (KDF{Kind: kind}):
		return d, nil
	case kind != WrapArgon2id && kind != WrapPBKDF2:
		return nil, fmt.Errorf("derived key of a %s: %w", kind, errs.Invalid)
	}
	if err := kdf.check(); err != nil {
		return nil, fmt.Errorf("derived key: %w: %w", err, errs.Invalid)
	}
	d.kdf.Kind = kind
	return d, kdf.allowed()
}

// Derive turns the passphrase into a root under a new salt. It takes as long as
// the passphrase's cost says.
func (p *Passphrase) Derive() (*Derived, error) {
	salt := [saltSize]byte(newSalt())
	root, err := p.root(p.kdf, salt[:])
	if err != nil {
		return nil, err
	}
	return &Derived{kind: p.kdf.Kind, kdf: p.kdf, salt: salt, root: root}, nil
}

// Derive gives the key file's root.
func (k *KeyFile) Derive() *Derived {
	return &Derived{kind: WrapKeyFile, salt: [saltSize]byte(newSalt()), root: k.key}
}

// Parts gives what NewDerived takes.
func (d *Derived) Parts() (kind WrapKind, kdf KDF, salt, root [32]byte) {
	return d.kind, d.kdf, d.salt, d.root
}

// Wrap implements Unlocker.
func (d *Derived) Wrap(m MasterKey, aad []byte) ([]byte, error) {
	return wrapWith(d.root, d.kind, d.kdf.encode(), d.salt[:], m, aad), nil
}

// Unwrap implements Unlocker, for wraps that it has made.
func (d *Derived) Unwrap(wrapped, aad []byte) (MasterKey, error) {
	kind, err := WrapKindOf(wrapped)
	if err != nil {
		return MasterKey{}, err
	}
	if kind != d.kind || kind != WrapKeyFile && [saltSize]byte(wrapped[wrapSaltAt:wrapSealedAt]) != d.salt {
		return MasterKey{}, fmt.Errorf("unlock: the root is of another wrap: %w", errs.Denied)
	}
	return unwrapWith(d.root, wrapped, aad, "wrong root")
}

// String never shows the root.
func (d *Derived) String() string { return d.kind.String() + " " + redacted }

// Format never shows the root, whatever the verb.
func (d *Derived) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(d.String())) }
