package seal

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// keyFilePrefix begins the text form of a key file.
const keyFilePrefix = "TUSKVAULT-KEY-1 "

// KeyFile unlocks with 32 random bytes that are kept in a file.
type KeyFile struct{ key Key }

var _ Unlocker = (*KeyFile)(nil)

// NewKeyFile makes a random one.
func NewKeyFile() *KeyFile { return &KeyFile{key: NewKey()} }

// ParseKeyFile reads the text form; white space around it is allowed. Errors
// are errs.Invalid and never repeat the text.
func ParseKeyFile(text []byte) (*KeyFile, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(string(text)), keyFilePrefix)
	if !ok {
		return nil, fmt.Errorf("key file: does not begin with %q: %w", strings.TrimSpace(keyFilePrefix), errs.Invalid)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(body))
	if err != nil || len(raw) != KeySize {
		return nil, fmt.Errorf("key file: not %d bytes in base64: %w", KeySize, errs.Invalid)
	}
	return &KeyFile{key: Key(raw)}, nil
}

// Text gives the text form, "TUSKVAULT-KEY-1 <base64>" and a line feed: the
// secret itself, for the file that keeps it.
func (k *KeyFile) Text() []byte {
	return []byte(keyFilePrefix + base64.StdEncoding.EncodeToString(k.key[:]) + "\n")
}

// Wrap implements Unlocker.
func (k *KeyFile) Wrap(m MasterKey, aad []byte) ([]byte, error) {
	return wrapWith(k.key, WrapKeyFile, [kdfSize]byte{}, newSalt(), m, aad), nil
}

// Unwrap implements Unlocker.
func (k *KeyFile) Unwrap(wrapped, aad []byte) (MasterKey, error) {
	kind, err := WrapKindOf(wrapped)
	if err != nil {
		return MasterKey{}, err
	}
	if kind != WrapKeyFile {
		return MasterKey{}, fmt.Errorf("unlock: needs a %s, not a key file: %w", kind, errs.Denied)
	}
	return unwrapWith(k.key, wrapped, aad, "this is not the key file of this repository")
}

// String never shows the key.
func (k *KeyFile) String() string { return "key file " + redacted }

// Format never shows the key, whatever the verb.
func (k *KeyFile) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }
