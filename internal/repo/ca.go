package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// maxCABytes is far above what a certificate and its key take.
	maxCABytes = 64 << 10
	purposeCA  = "ca"
)

var serialPattern = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

// PutCA keeps a certificate authority (certificate and key, in whatever form the
// caller reads back) sealed in the store, under its serial number in lower-case
// hex. One durable step. The same bundle again is no error; another one under
// the same serial number is errs.Exists.
func (r *Repository) PutCA(ctx context.Context, serial string, bundle []byte) error {
	if !serialPattern.MatchString(serial) || len(bundle) > maxCABytes-sealOverhead {
		return fmt.Errorf("put ca %q of %d bytes: %w", serial, len(bundle), errs.Invalid)
	}
	if err := r.gate.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("put ca: %w", blob.Canceled(ctx))
	}
	defer r.gate.Release(1)
	return r.putCA(ctx, r.current(), serial, bundle)
}

// putCA is PutCA under the given master key.
func (r *Repository) putCA(ctx context.Context, m *masters, serial string, bundle []byte) error {
	key := caObjectOf(serial, m.number)
	sealed, err := seal.SealBlob(m.key.CA(), purposeCA, r.aad(key), bundle)
	if err != nil {
		return fmt.Errorf("put ca: %w", err)
	}
	if err := r.store.Create(ctx, key, blob.Bytes(sealed)); err != nil && !errors.Is(err, errs.Exists) {
		return fmt.Errorf("put ca: %w", err)
	}
	// Also after a success: the fleet's identities depend on it.
	stored, err := r.readCA(ctx, m, serial)
	if err != nil {
		return fmt.Errorf("put ca: read back: %w", err)
	}
	if !bytes.Equal(stored, bundle) {
		return fmt.Errorf("put ca: %s holds another one: %w", key, errs.Exists)
	}
	return nil
}

// CA gives the bundle that PutCA was given.
func (r *Repository) CA(ctx context.Context, serial string) ([]byte, error) {
	if !serialPattern.MatchString(serial) {
		return nil, fmt.Errorf("read ca %q: %w", serial, errs.Invalid)
	}
	return r.readCA(ctx, r.current(), serial)
}

func (r *Repository) readCA(ctx context.Context, m *masters, serial string) ([]byte, error) {
	key := caObjectOf(serial, m.number)
	sealed, err := blob.ReadAll(ctx, r.store, key, maxCABytes)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	bundle, err := seal.OpenBlob(m.key.CA(), purposeCA, r.aad(key), sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return bundle, nil
}

// CAs calls fn with the serial number of each certificate authority.
func (r *Repository) CAs(ctx context.Context, fn func(serial string) error) error {
	current := r.current().number
	return r.store.List(ctx, CAPrefix, "", func(info blob.Info) error {
		serial, master, err := ParseCAObject(info.Key)
		if err != nil {
			return fmt.Errorf("list cas: %w", err)
		}
		if master != current {
			return nil // of a master key that was replaced, or never came into force
		}
		return fn(serial)
	})
}
