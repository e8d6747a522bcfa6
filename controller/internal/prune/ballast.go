package prune

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// ballastObject is the size of one object of ballast: small enough for memory.
const ballastObject = 8 << 20

// maxBallast bounds the objects of ballast that are looked at.
const maxBallast = 1 << 16

// Ballast is room that is kept in a store which can be full, in objects of
// random bytes that nobody needs: a full store takes no record of the catalog
// log, without which nothing may be deleted.
type Ballast struct {
	store blob.Store
	size  int64
}

// NewBallast makes one of so many bytes, rounded up to whole objects. It is kept
// by Keep alone.
func NewBallast(s blob.Store, size int64) *Ballast { return &Ballast{store: s, size: size} }

// Keep makes what is missing of the ballast, and takes away what is too much. A
// store that is full gets as much as it takes, which is no error. A crash leaves
// some of it.
func (b *Ballast) Keep(ctx context.Context) error {
	there, err := b.list(ctx)
	if err != nil {
		return fmt.Errorf("keep ballast: %w", err)
	}
	want := (b.size + ballastObject - 1) / ballastObject
	for ; int64(len(there)) > want; there = there[:len(there)-1] {
		if err := b.store.Delete(ctx, there[len(there)-1].Key); err != nil {
			return fmt.Errorf("keep ballast: %w", err)
		}
	}
	taken := make(map[string]struct{}, len(there))
	for _, o := range there {
		taken[o.Key] = struct{}{}
	}
	for n := uint64(1); int64(len(taken)) < want; n++ {
		key := repo.BallastObject(n)
		if _, ok := taken[key]; ok {
			continue
		}
		content := make([]byte, ballastObject)
		_, _ = rand.Read(content) // never fails
		err := b.store.Create(ctx, key, blob.Bytes(content))
		if errors.Is(err, errs.Exhausted) {
			return nil
		}
		if err != nil && !errors.Is(err, errs.Exists) {
			return fmt.Errorf("keep ballast: %w", err)
		}
		taken[key] = struct{}{}
	}
	return nil
}

// Release deletes all of it and tells how many bytes that were. No record of the
// log is needed for it: nothing refers to ballast.
func (b *Ballast) Release(ctx context.Context) (freed int64, err error) {
	there, err := b.list(ctx)
	if err != nil {
		return 0, fmt.Errorf("let ballast go: %w", err)
	}
	for _, o := range there {
		if err := b.store.Delete(ctx, o.Key); err != nil {
			return freed, fmt.Errorf("let ballast go: %w", err)
		}
		freed += o.Size
	}
	return freed, nil
}

var errEnough = errors.New("enough")

func (b *Ballast) list(ctx context.Context) (out []blob.Info, err error) {
	err = b.store.List(ctx, repo.BallastPrefix, "", func(i blob.Info) error {
		if len(out) == maxBallast {
			return errEnough
		}
		out = append(out, i)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}
