package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// KeySize is the length of every key in bytes.
const KeySize = 32

const redacted = "[redacted]"

// errSecret is what every marshaller of a secret returns: a secret reaches
// paper, a log or the wire only where code copies its bytes on purpose.
var errSecret = errors.New("a key must not be marshalled")

// NewKey makes a random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails: crypto/rand ends the program instead
	return k
}

// String never shows the key.
func (k Key) String() string { return redacted }

// Format never shows the key, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON refuses.
func (k Key) MarshalJSON() ([]byte, error) { return nil, errSecret }

// MarshalText refuses.
func (k Key) MarshalText() ([]byte, error) { return nil, errSecret }

// derive gives HKDF-SHA-256-Expand(k, info). Keys are uniformly random, so the
// Extract step has nothing to do.
func (k Key) derive(info string) Key {
	out, err := hkdf.Expand(sha256.New, k[:], info, KeySize)
	if err != nil {
		panic("seal: hkdf: " + err.Error()) // only for lengths no caller can ask for
	}
	return Key(out)
}

// MasterKey is the root of a repository's own keys. It is stored only wrapped
// by unlockers.
type MasterKey Key

// NewMasterKey makes a random one.
func NewMasterKey() MasterKey { return MasterKey(NewKey()) }

// WrapDomain is the key under which the roots of domains are sealed.
func (m MasterKey) WrapDomain() Key { return Key(m).derive("wrap-domain") }

// Catalog is the key of the catalog log.
func (m MasterKey) Catalog() Key { return Key(m).derive("catalog") }

// CA is the key under which certificate authorities are sealed.
func (m MasterKey) CA() Key { return Key(m).derive("ca") }

// String never shows the key.
func (m MasterKey) String() string { return redacted }

// Format never shows the key, whatever the verb.
func (m MasterKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON refuses.
func (m MasterKey) MarshalJSON() ([]byte, error) { return nil, errSecret }

// MarshalText refuses.
func (m MasterKey) MarshalText() ([]byte, error) { return nil, errSecret }

// DomainKeys are the two random roots of a domain. Data keys are derived for
// agents, job by job; Control never leaves the controller.
type DomainKeys struct {
	Data, Control Key
}

// NewDomainKeys makes random roots.
func NewDomainKeys() DomainKeys { return DomainKeys{Data: NewKey(), Control: NewKey()} }

// Name is the key that names chunks.
func (d DomainKeys) Name() Key { return d.Data.derive("name") }

// Cut is the key that decides where rows are cut.
func (d DomainKeys) Cut() Key { return d.Data.derive("cut") }

// Refs is the key of chunk lists and of references parts.
func (d DomainKeys) Refs() Key { return d.Data.derive("refs") }

// Seal is the key of the chunks and content parts of an epoch.
func (d DomainKeys) Seal(epoch uint32) Key {
	return d.Data.derive("seal" + string(binary.BigEndian.AppendUint32(nil, epoch)))
}

// Pack is the key that authenticates pack directories.
func (d DomainKeys) Pack() Key { return d.Control.derive("pack") }

// Commit is the key that authenticates commit records.
func (d DomainKeys) Commit() Key { return d.Control.derive("commit") }
