package seal

import (
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// KDF is a function from passphrases to keys with its cost. Costs are stored in
// the wrap and bounded before use, when writing and when reading: whoever can
// write a key object must not be able to exhaust the reader.
type KDF struct {
	// Kind is WrapArgon2id or WrapPBKDF2.
	Kind WrapKind
	// Time is the number of passes (argon2id: 1 to 16) or of iterations
	// (pbkdf2: 1,000 to 20,000,000).
	Time uint32
	// MemoryKiB (argon2id: 8 KiB a thread to 512 MiB) and Threads (1 to 16) are 0
	// for pbkdf2.
	MemoryKiB uint32
	Threads   uint32
}

// The bounds of costs. The upper ones are some ten seconds of one processor,
// and half a gigabyte.
const (
	maxArgonTime   = 16
	maxArgonMemory = 512 << 10 // KiB
	maxThreads     = 16
	minIterations  = 1_000
	maxIterations  = 20_000_000
)

// DefaultKDF is argon2id with RFC 9106's second recommended cost (3 passes, 64
// MiB, 4 threads), or in FIPS mode pbkdf2 with 1,000,000 iterations.
func DefaultKDF() KDF {
	if fips140.Enabled() {
		return KDF{Kind: WrapPBKDF2, Time: 1_000_000}
	}
	return KDF{Kind: WrapArgon2id, Time: 3, MemoryKiB: 64 << 10, Threads: 4}
}

// check tells whether the costs are within bounds.
func (k KDF) check() error {
	ok := false
	switch k.Kind {
	case WrapArgon2id:
		ok = k.Time >= 1 && k.Time <= maxArgonTime && k.Threads >= 1 && k.Threads <= maxThreads &&
			k.MemoryKiB >= 8*k.Threads && k.MemoryKiB <= maxArgonMemory
	case WrapPBKDF2:
		ok = k.Time >= minIterations && k.Time <= maxIterations && k.MemoryKiB == 0 && k.Threads == 0
	}
	if !ok {
		return fmt.Errorf("%s: cost %d, %d KiB, %d threads is out of bounds", k.Kind, k.Time, k.MemoryKiB, k.Threads)
	}
	return nil
}

func (k KDF) encode() [kdfSize]byte {
	var b [kdfSize]byte
	binary.BigEndian.PutUint32(b[:], k.Time)
	binary.BigEndian.PutUint32(b[4:], k.MemoryKiB)
	binary.BigEndian.PutUint32(b[8:], k.Threads)
	return b
}

func decodeKDF(kind WrapKind, b []byte) KDF {
	return KDF{Kind: kind, Time: binary.BigEndian.Uint32(b), MemoryKiB: binary.BigEndian.Uint32(b[4:]),
		Threads: binary.BigEndian.Uint32(b[8:])}
}

// Passphrase unlocks with something a person knows. Its bytes are used as they
// are given.
type Passphrase struct {
	text []byte
	kdf  KDF
}

var _ Unlocker = (*Passphrase)(nil)

// NewPassphrase makes an unlocker that wraps with DefaultKDF. An empty
// passphrase is errs.Invalid.
func NewPassphrase(text string) (*Passphrase, error) { return NewPassphraseKDF(text, DefaultKDF()) }

// NewPassphraseKDF makes an unlocker that wraps with the given cost; what it
// unwraps has its own. A cost out of bounds is errs.Invalid, argon2id in FIPS
// mode errs.Unsupported.
func NewPassphraseKDF(text string, kdf KDF) (*Passphrase, error) {
	if text == "" {
		return nil, fmt.Errorf("passphrase: empty: %w", errs.Invalid)
	}
	if err := kdf.check(); err != nil {
		return nil, fmt.Errorf("passphrase: %w: %w", err, errs.Invalid)
	}
	if err := kdf.allowed(); err != nil {
		return nil, err
	}
	return &Passphrase{text: []byte(text), kdf: kdf}, nil
}

// Wrap implements Unlocker.
func (p *Passphrase) Wrap(m MasterKey, aad []byte) ([]byte, error) {
	salt := newSalt()
	root, err := p.root(p.kdf, salt)
	if err != nil {
		return nil, err
	}
	return wrapWith(root, p.kdf.Kind, p.kdf.encode(), salt, m, aad), nil
}

// Unwrap implements Unlocker.
func (p *Passphrase) Unwrap(wrapped, aad []byte) (MasterKey, error) {
	kind, err := WrapKindOf(wrapped)
	if err != nil {
		return MasterKey{}, err
	}
	if kind != WrapArgon2id && kind != WrapPBKDF2 {
		return MasterKey{}, fmt.Errorf("unlock: needs a %s, not a passphrase: %w", kind, errs.Denied)
	}
	kdf := decodeKDF(kind, wrapped[wrapSaltAt-kdfSize:])
	if err := kdf.check(); err != nil {
		return MasterKey{}, fmt.Errorf("unlock: %w: %w", err, errs.Corrupt)
	}
	root, err := p.root(kdf, wrapped[wrapSaltAt:wrapSealedAt])
	if err != nil {
		return MasterKey{}, err
	}
	return unwrapWith(root, wrapped, aad, "wrong passphrase")
}

// String never shows the passphrase.
func (p *Passphrase) String() string { return "passphrase " + redacted }

// Format never shows the passphrase, whatever the verb.
func (p *Passphrase) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// root makes a key of the passphrase at a cost that has been checked.
func (p *Passphrase) root(kdf KDF, salt []byte) (Key, error) {
	if err := kdf.allowed(); err != nil {
		return Key{}, err
	}
	if kdf.Kind == WrapArgon2id {
		return Key(argon2.IDKey(p.text, salt, kdf.Time, kdf.MemoryKiB, uint8(kdf.Threads), KeySize)), nil
	}
	key, err := pbkdf2.Key(sha256.New, string(p.text), salt, int(kdf.Time), KeySize)
	if err != nil {
		return Key{}, fmt.Errorf("passphrase: %w", err)
	}
	return Key(key), nil
}

// allowed refuses what FIPS mode does.
func (k KDF) allowed() error {
	if k.Kind != WrapPBKDF2 && fips140.Enabled() {
		return fmt.Errorf("%s: FIPS mode allows only a key file or a passphrase by pbkdf2-hmac-sha256: %w", k.Kind, errs.Unsupported)
	}
	return nil
}
