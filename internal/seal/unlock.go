package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Unlocker is one way to the master key: a key file or a passphrase. Each key
// object of a repository holds one wrap.
//
// Wrap gives what is stored; aad says where it belongs (the hash of
// repository.json and the key of the key object) and must be given again.
// Unwrap fails with errs.Denied when this is not the right secret or not the
// right sort of unlocker, with errs.Corrupt when the wrap was damaged or belongs
// elsewhere, and with errs.Unsupported when this version, or FIPS mode, cannot
// open it. Implementations are safe for concurrent use.
type Unlocker interface {
	Wrap(m MasterKey, aad []byte) ([]byte, error)
	Unwrap(wrapped, aad []byte) (MasterKey, error)
}

// ParseUnlocker reads a secret: the text of a key file, or anything else as a
// passphrase.
func ParseUnlocker(text string) (Unlocker, error) {
	if k, err := ParseKeyFile([]byte(text)); err == nil {
		return k, nil
	}
	return NewPassphrase(text)
}

// WrapKind says how a secret becomes the key that seals a master key.
type WrapKind byte

// The kinds of wraps. The numbers are stored: never reuse one.
const (
	// WrapKeyFile: 32 random bytes in a file.
	WrapKeyFile WrapKind = 1
	// WrapArgon2id: a passphrase, by Argon2id (RFC 9106).
	WrapArgon2id WrapKind = 2
	// WrapPBKDF2: a passphrase, by PBKDF2-HMAC-SHA-256, the only function of
	// passphrases that FIPS mode allows.
	WrapPBKDF2 WrapKind = 3
	// WrapAge: an age recipient; the root is in a trailer that age has encrypted.
	WrapAge WrapKind = 4
)

// String names the kind as people know it.
func (k WrapKind) String() string {
	switch k {
	case WrapKeyFile:
		return "key file"
	case WrapArgon2id:
		return "passphrase (argon2id)"
	case WrapPBKDF2:
		return "passphrase (pbkdf2-hmac-sha256)"
	case WrapAge:
		return "age recipient"
	}
	return fmt.Sprintf("unlocker of kind %d", byte(k))
}

// The layout of a wrap (docs/FORMAT.md, "Unlockers").
const (
	wrapMagic      = "TVKW"
	wrapSaltAt     = 4 + 1 + 1 + 2 + kdfSize
	wrapSealedAt   = wrapSaltAt + saltSize
	wrapCommitAt   = wrapSealedAt + overhead + KeySize
	wrapChecksumAt = wrapCommitAt + KeySize
	// WrapSize is the length of a wrap in bytes, without the trailer that only some
	// kinds have, and MaxTrailer the greatest of a trailer.
	WrapSize   = wrapChecksumAt + sha256.Size
	MaxTrailer = 8 << 10

	kdfSize  = 12
	saltSize = 32
)

// WrapKindOf tells which kind of unlocker a wrap is for, after its checksum has
// been verified: errs.Corrupt if it was damaged, errs.Unsupported if it is of a
// newer version or kind.
func WrapKindOf(wrapped []byte) (WrapKind, error) {
	if len(wrapped) < WrapSize || len(wrapped) > WrapSize+MaxTrailer || string(wrapped[:4]) != wrapMagic {
		return 0, fmt.Errorf("wrapped key: not one, or cut short: %w", errs.Corrupt)
	}
	if sum := checksum(wrapped); string(sum[:]) != string(wrapped[wrapChecksumAt:WrapSize]) {
		return 0, fmt.Errorf("wrapped key: damaged: checksum differs: %w", errs.Corrupt)
	}
	if wrapped[4] != formatNumber || wrapped[6] != 0 || wrapped[7] != 0 {
		return 0, fmt.Errorf("wrapped key: version %d, reserved bytes %x: %w", wrapped[4], wrapped[6:8], errs.Unsupported)
	}
	kind := WrapKind(wrapped[5])
	if kind < WrapKeyFile || kind > WrapAge {
		return 0, fmt.Errorf("wrapped key: for an %s: %w", kind, errs.Unsupported)
	}
	if hasTrailer := len(wrapped) > WrapSize; hasTrailer != (kind == WrapAge) {
		return 0, fmt.Errorf("wrapped key: %d bytes for a %s: %w", len(wrapped), kind, errs.Corrupt)
	}
	return kind, nil
}

// checksum is that of a wrap: over everything but itself.
func checksum(wrapped []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(wrapped[:wrapChecksumAt])
	h.Write(wrapped[WrapSize:])
	h.Sum(sum[:0])
	return sum
}

// WrapTrailed seals a master key under a random root that the caller keeps in
// trailer by means of its own, which only WrapAge has.
func WrapTrailed(root Key, m MasterKey, aad, trailer []byte) ([]byte, error) {
	if len(trailer) == 0 || len(trailer) > MaxTrailer {
		return nil, fmt.Errorf("wrap key: trailer of %d bytes: %w", len(trailer), errs.Invalid)
	}
	out := append(wrapWith(root, WrapAge, [kdfSize]byte{}, newSalt(), m, aad), trailer...)
	sum := checksum(out)
	copy(out[wrapChecksumAt:], sum[:])
	return out, nil
}

// Trailer gives what WrapTrailed was given, of a wrap of that kind; Denied for
// one of another.
func Trailer(wrapped []byte) ([]byte, error) {
	kind, err := WrapKindOf(wrapped)
	if err != nil {
		return nil, err
	}
	if kind != WrapAge {
		return nil, fmt.Errorf("unlock: needs a %s, not an age identity: %w", kind, errs.Denied)
	}
	return wrapped[WrapSize:], nil
}

// UnwrapTrailed opens a wrap with the root that was in its trailer.
func UnwrapTrailed(root Key, wrapped, aad []byte) (MasterKey, error) {
	if _, err := Trailer(wrapped); err != nil {
		return MasterKey{}, err
	}
	return unwrapWith(root, wrapped[:WrapSize], aad, "the age file in it holds another root")
}

// wrapKeys are the two keys that come of a secret's root and a salt.
func wrapKeys(root Key, salt []byte) (sealing, commitment Key) {
	return root.derive("unlock-seal" + string(salt)), root.derive("unlock-commit" + string(salt))
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	return salt
}

// wrapWith seals a master key under a root that was made of a secret, kdf and
// salt.
func wrapWith(root Key, kind WrapKind, kdf [kdfSize]byte, salt []byte, m MasterKey, aad []byte) []byte {
	out := make([]byte, 0, WrapSize)
	out = append(out, wrapMagic...)
	out = append(out, formatNumber, byte(kind), 0, 0)
	out = append(out, kdf[:]...)
	out = append(out, salt...)
	sealing, commitment := wrapKeys(root, salt)
	out = newAEAD(sealing).Seal(out, nil, m[:], wrapAAD(out, aad))
	out = append(out, commitment[:]...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// unwrapWith opens a wrap that WrapKindOf has accepted. The commitment is
// compared before anything is decrypted: GCM alone would let one ciphertext
// open under several keys, and so test many passphrases at once.
func unwrapWith(root Key, wrapped, aad []byte, wrong string) (MasterKey, error) {
	sealing, commitment := wrapKeys(root, wrapped[wrapSaltAt:wrapSealedAt])
	if subtle.ConstantTimeCompare(commitment[:], wrapped[wrapCommitAt:wrapChecksumAt]) != 1 {
		return MasterKey{}, fmt.Errorf("unlock: %s: %w", wrong, errs.Denied)
	}
	plain, err := newAEAD(sealing).Open(nil, nil, wrapped[wrapSealedAt:wrapCommitAt], wrapAAD(wrapped[:wrapSealedAt], aad))
	if err != nil {
		return MasterKey{}, fmt.Errorf("unlock: wrapped key was changed or belongs to another repository: %w", errs.Corrupt)
	}
	return MasterKey(plain), nil
}

// wrapAAD gives the associated data: everything before the sealed key, then
// the caller's. It is a copy, because GCM must not write beside what it reads.
func wrapAAD(header, aad []byte) []byte {
	return append(append(make([]byte, 0, len(header)+len(aad)), header...), aad...)
}
