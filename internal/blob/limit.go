package blob

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Limit gives a store that does at most n things at once: the others wait for
// their turn, or for the end of their context. A reader counts until it is
// closed. A List does not count, nor does Versions, since its function may call the store: one that
// waited for a place the list itself holds would wait for ever.
func Limit(s Store, n int) Store {
	if n < 1 {
		panic("blob: limit below one")
	}
	return &limited{store: s, places: make(chan struct{}, n)}
}

type limited struct {
	store  Store
	places chan struct{} // capacity is the limit; one element a thing under way
}

func (l *limited) Features() Features { return l.store.Features() }

func (l *limited) Create(ctx context.Context, key string, body Body) error {
	if err := l.enter(ctx, key); err != nil {
		return err
	}
	defer l.leave()
	return l.store.Create(ctx, key, body)
}

func (l *limited) Stat(ctx context.Context, key string) (Info, error) {
	if err := l.enter(ctx, key); err != nil {
		return Info{}, err
	}
	defer l.leave()
	return l.store.Stat(ctx, key)
}

func (l *limited) Delete(ctx context.Context, key string) error {
	if err := l.enter(ctx, key); err != nil {
		return err
	}
	defer l.leave()
	return l.store.Delete(ctx, key)
}

func (l *limited) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	return l.store.List(ctx, prefix, after, fn)
}

func (l *limited) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := l.enter(ctx, key); err != nil {
		return nil, err
	}
	r, err := l.store.Open(ctx, key, offset, length)
	if err != nil {
		l.leave()
		return nil, err
	}
	return &limitedReader{ReadCloser: r, leave: sync.OnceFunc(l.leave)}, nil
}

func (l *limited) LockTime(key string) time.Duration { return lockTime(l.store, key) }

func (l *limited) Lock(ctx context.Context, key string) (time.Time, error) {
	if err := l.enter(ctx, key); err != nil {
		return time.Time{}, err
	}
	defer l.leave()
	return lock(ctx, l.store, key)
}

func (l *limited) Versions(ctx context.Context, prefix, after string, fn func(Version) error) error {
	return versions(ctx, l.store, prefix, after, fn)
}

func (l *limited) OpenVersion(ctx context.Context, v Version, offset, length int64) (io.ReadCloser, error) {
	if err := l.enter(ctx, v.Key); err != nil {
		return nil, err
	}
	r, err := openVersion(ctx, l.store, v, offset, length)
	if err != nil {
		l.leave()
		return nil, err
	}
	return &limitedReader{ReadCloser: r, leave: sync.OnceFunc(l.leave)}, nil
}

func (l *limited) Recover(ctx context.Context, v Version) error {
	if err := l.enter(ctx, v.Key); err != nil {
		return err
	}
	defer l.leave()
	return recoverVersion(ctx, l.store, v)
}

func (l *limited) enter(ctx context.Context, key string) error {
	select {
	case l.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("object %s: wait for the store: %w", key, Canceled(ctx))
	}
}

func (l *limited) leave() { <-l.places }

type limitedReader struct {
	io.ReadCloser
	leave func()
}

func (r *limitedReader) Close() error {
	defer r.leave()
	return r.ReadCloser.Close()
}
