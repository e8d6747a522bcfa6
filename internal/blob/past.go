package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// At gives a store as it was at a time, for reading only: of each key the newest
// version not later than t, unless a deletion not later than t is newer. What was
// deleted or overwritten after t is there as it was. Times are the store's.
// errs.Unsupported when the store keeps no versions.
func At(s Store, t time.Time) (Store, error) {
	v, err := AsVersioned(s)
	if err != nil {
		return nil, err
	}
	return &past{versions: v, at: t, features: s.Features(), found: map[string]Version{}}, nil
}

// Newest gives, of one key's versions from the newest on, the one that was seen at
// a time; false when there was none.
func Newest(all []Version, at time.Time) (Version, bool) {
	for _, v := range all {
		if !v.Modified.After(at) {
			return v, !v.Deletion
		}
	}
	return Version{}, false
}

// maxFound bounds the keys whose version is remembered, so that reading an
// object in many ranges does not look for it each time: some 1 MiB.
const maxFound = 4096

// past is a Store of a time.
type past struct {
	versions Versioned
	at       time.Time
	features Features

	mu    sync.Mutex
	found map[string]Version
}

func (p *past) Features() Features {
	f := p.features
	f.Lock, f.Versions = "", false
	f.Location += " as of " + p.at.UTC().Format(time.RFC3339)
	return f
}

func (p *past) Create(_ context.Context, key string, _ Body) error {
	return fmt.Errorf("create object %s in the past: %w", key, errs.ReadOnly)
}

func (p *past) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete object %s in the past: %w", key, errs.ReadOnly)
}

func (p *past) Stat(ctx context.Context, key string) (Info, error) {
	v, err := p.find(ctx, key)
	if err != nil {
		return Info{}, fmt.Errorf("stat object: %w", err)
	}
	return Info{Key: key, Size: v.Size, Modified: v.Modified}, nil
}

func (p *past) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	v, err := p.find(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	return p.versions.OpenVersion(ctx, v, offset, length)
}

func (p *past) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	decided := "" // the key whose version is known, given or not
	return p.versions.Versions(ctx, prefix, after, func(v Version) error {
		if v.Key == decided || v.Modified.After(p.at) {
			return nil
		}
		decided = v.Key
		if v.Deletion {
			return nil
		}
		return fn(Info{Key: v.Key, Size: v.Size, Modified: v.Modified})
	})
}

var errFound = errors.New("found")

// find looks for the version of a key.
func (p *past) find(ctx context.Context, key string) (Version, error) {
	if err := CheckKey(key); err != nil {
		return Version{}, err
	}
	if err := Canceled(ctx); err != nil {
		return Version{}, fmt.Errorf("object %s: %w", key, err)
	}
	p.mu.Lock()
	v, ok := p.found[key]
	p.mu.Unlock()
	if ok {
		return v, nil
	}
	err := p.versions.Versions(ctx, key, "", func(each Version) error {
		if each.Key == key && each.Modified.After(p.at) {
			return nil
		}
		v, ok = each, each.Key == key && !each.Deletion
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return Version{}, err
	}
	if !ok {
		return Version{}, fmt.Errorf("object %s at %s: %w", key, p.at.UTC().Format(time.RFC3339), errs.NotFound)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= maxFound {
		clear(p.found)
	}
	p.found[key] = v
	return v, nil
}
