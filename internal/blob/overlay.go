package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Overlay gives, for reading only, the objects of both stores; of a key that both
// have, the first one's.
func Overlay(first, second Store) Store { return overlay{first, second} }

type overlay struct{ first, second Store }

func (o overlay) Features() Features { return o.first.Features() }

func (o overlay) Create(_ context.Context, key string, _ Body) error {
	return fmt.Errorf("create object %s in an overlay: %w", key, errs.ReadOnly)
}

func (o overlay) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete object %s in an overlay: %w", key, errs.ReadOnly)
}

func (o overlay) Stat(ctx context.Context, key string) (Info, error) {
	info, err := o.first.Stat(ctx, key)
	if errors.Is(err, errs.NotFound) {
		return o.second.Stat(ctx, key)
	}
	return info, err
}

func (o overlay) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := o.first.Open(ctx, key, offset, length)
	if errors.Is(err, errs.NotFound) {
		return o.second.Open(ctx, key, offset, length)
	}
	return r, err
}

// overlayPage is how many keys of the second store are held at once.
const overlayPage = 256

// List merges both lists. The first is listed once; the second by pages between
// its keys.
func (o overlay) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	second := &pages{store: o.second, prefix: prefix, after: after}
	err := o.first.List(ctx, prefix, after, func(info Info) error {
		for {
			next, ok, err := second.peek(ctx)
			if err != nil {
				return err
			}
			if !ok || next.Key > info.Key {
				return fn(info)
			}
			second.pop()
			if next.Key == info.Key {
				return fn(info)
			}
			if err := fn(next); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	for {
		next, ok, err := second.peek(ctx)
		if err != nil || !ok {
			return err
		}
		second.pop()
		if err := fn(next); err != nil {
			return err
		}
	}
}

// pages reads a list a page at a time.
type pages struct {
	store         Store
	prefix, after string
	page          []Info
	ended         bool
}

var errPageFull = errors.New("page is full")

func (p *pages) peek(ctx context.Context) (Info, bool, error) {
	if len(p.page) == 0 && !p.ended {
		err := p.store.List(ctx, p.prefix, p.after, func(info Info) error {
			p.page = append(p.page, info)
			p.after = info.Key
			if len(p.page) == overlayPage {
				return errPageFull
			}
			return nil
		})
		if err != nil && !errors.Is(err, errPageFull) {
			return Info{}, false, err
		}
		p.ended = err == nil
	}
	if len(p.page) == 0 {
		return Info{}, false, nil
	}
	return p.page[0], true, nil
}

func (p *pages) pop() { p.page = p.page[1:] }
