package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// newAEAD gives AES-256-GCM with random nonces: the one form of GCM that stays
// approved under FIPS 140-3. Its output is nonce ‖ ciphertext ‖ tag.
func newAEAD(k Key) cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("seal: aes: " + err.Error()) // only for a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("seal: gcm: " + err.Error()) // only for a cipher other than AES
	}
	return aead
}

// frameKey is the key of one chunk's frame. A key of its own for each chunk
// keeps random nonces far from their limit, however many chunks a domain has.
func frameKey(parent Key, kind Kind, name Name) Key {
	return parent.derive("frame" + string([]byte{byte(kind)}) + string(name[:]))
}

// SealBlob seals a small object (a part of a snapshot, a record of the catalog
// log, an authority) under a key of its own purpose. The result is nonce 12 ‖
// ciphertext ‖ tag 16; aad must be given again to open it, and should hold
// whatever says where the blob belongs.
func SealBlob(parent Key, purpose string, aad, plain []byte) ([]byte, error) {
	if purpose == "" {
		return nil, fmt.Errorf("seal blob: no purpose: %w", errs.Invalid)
	}
	return newAEAD(parent.derive("blob"+purpose)).Seal(nil, nil, plain, aad), nil
}

// OpenBlob opens what SealBlob made. Any difference in key, purpose, aad or
// bytes is errs.Corrupt; the caller names the object.
func OpenBlob(parent Key, purpose string, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < overhead {
		return nil, fmt.Errorf("open sealed %s: %d bytes are too few: %w", purpose, len(sealed), errs.Corrupt)
	}
	plain, err := newAEAD(parent.derive("blob"+purpose)).Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: tag does not verify: %w", purpose, errs.Corrupt)
	}
	return plain, nil
}
