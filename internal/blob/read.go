package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// ReadAll reads a whole object of at most limit bytes. A larger one is
// errs.Corrupt, before anything of it is read: every reader knows how large what
// it asks for can be. An object that gives fewer bytes than the store says it
// has is errs.Corrupt too.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	info, err := s.Stat(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", key, err)
	}
	if info.Size > limit {
		return nil, fmt.Errorf("read object %s: %d bytes, at most %d can be right: %w", key, info.Size, limit, errs.Corrupt)
	}
	b, err := ReadRange(ctx, s, key, 0, info.Size)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// readStep is what ReadRange allocates before anything has arrived: a usual
// frame and more. Beyond it memory grows with what arrives, since a length is
// often a claim of some other object.
const readStep = 1 << 20

// ReadRange reads exactly length bytes from offset. It holds all of them in
// memory, never more than twice what arrived: the caller bounds length.
func ReadRange(ctx context.Context, s Store, key string, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", key, err)
	}
	b, err := readFull(r, length)
	if err = errors.Join(err, r.Close()); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("read object %s: %d of %d bytes at %d: %w", key, len(b), length, offset, errs.Corrupt)
		}
		return nil, fmt.Errorf("read object %s: %w", key, err)
	}
	return b, nil
}

// readFull reads length bytes, or gives what there is with the error.
func readFull(r io.Reader, length int64) ([]byte, error) {
	b := make([]byte, 0, min(length, readStep))
	for int64(len(b)) < length {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(length, 2*int64(cap(b)))), b...)
		}
		n, err := io.ReadFull(r, b[len(b):cap(b)])
		if b = b[:len(b)+n]; err != nil {
			return b, err
		}
	}
	return b, nil
}

// Equal tells whether the object's bytes are those of body. Memory is bounded by
// two buffers, whatever the sizes. An object that does not exist is
// errs.NotFound.
func Equal(ctx context.Context, s Store, key string, body Body) (equal bool, err error) {
	info, err := s.Stat(ctx, key)
	if err != nil || info.Size != body.Size() {
		return false, err
	}
	stored, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	wanted, err := body.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, wanted.Close()) }()
	return sameBytes(stored, wanted)
}

// compareBuffer is the size of each of the two buffers of a comparison: large
// enough for a store's usual read, small enough to be of no account.
const compareBuffer = 128 << 10

func sameBytes(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, compareBuffer), make([]byte, compareBuffer)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if err := errors.Join(notEnd(errA), notEnd(errB)); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return (errA != nil) == (errB != nil), nil
		}
	}
}

func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
