package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

var (
	_ blob.Locker    = (*Store)(nil)
	_ blob.Versioned = (*Store)(nil)
)

// history is what was ever written under each key and not deleted for good.
type history struct {
	versions map[string][]version // the newest last
	last     int
	mode     string
	lock     func(key string) time.Duration // nil when nothing is locked
}

type version struct {
	object
	deletion bool
	until    time.Time // locked until
}

// NewVersioned makes an empty store that keeps versions. With lock, objects are
// locked for that long when they are made; it is asked again when a lock is
// extended.
func NewVersioned(lock func(key string) time.Duration) *Store {
	s := New()
	s.history = &history{versions: map[string][]version{}, lock: lock}
	if lock != nil {
		s.history.mode = "governance"
	}
	return s
}

func (h *history) add(key string, o object, deletion bool) string {
	h.last++
	o.id = strconv.Itoa(h.last)
	v := version{object: o, deletion: deletion}
	if h.lock != nil && !deletion {
		v.until = o.modified.Add(h.lock(key))
	}
	h.versions[key] = append(h.versions[key], v)
	return o.id
}

// deleteVersions is Delete of a store with versions.
func (s *Store) deleteVersions(key string) error {
	all := s.history.versions[key]
	delete(s.objects, key)
	var kept []version
	for _, v := range all {
		if v.until.After(time.Now()) {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		delete(s.history.versions, key)
		return nil
	}
	marker := all[len(all)-1]
	s.history.versions[key] = kept
	if marker.deletion {
		s.history.versions[key] = append(kept, marker)
	} else {
		s.history.add(key, object{modified: time.Now()}, true)
	}
	return fmt.Errorf("delete object %s: %d of its versions: %w", key, len(kept), errs.Locked)
}

// Hide puts a delete marker over an object, as somebody does who may write and not
// delete versions.
func (s *Store) Hide(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	s.history.add(key, object{modified: time.Now()}, true)
}

// Overwrite puts other bytes over an object, which no Create does.
func (s *Store) Overwrite(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(key, bytes.Clone(data))
}

// LockTime is for how long an object of this key is locked; see blob.Locker.
func (s *Store) LockTime(key string) time.Duration {
	if s.history == nil || s.history.lock == nil {
		return 0
	}
	return s.history.lock(key)
}

// Lock locks an object for LockTime from now on; see blob.Locker.
func (s *Store) Lock(ctx context.Context, key string) (time.Time, error) {
	if _, err := s.find(ctx, key); err != nil {
		return time.Time{}, fmt.Errorf("lock object: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.history.versions[key]
	newest := &all[len(all)-1]
	if until := time.Now().Add(s.LockTime(key)); until.After(newest.until) {
		newest.until = until
	}
	return newest.until, nil
}

// LockedUntil tells until when the newest version of an object is locked; zero
// when it is not.
func (s *Store) LockedUntil(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.history.versions[key]
	if len(all) == 0 {
		return time.Time{}
	}
	return all[len(all)-1].until
}

// Versions calls fn for versions and deletions; see blob.Versioned. They are those
// of the moment of the call.
func (s *Store) Versions(ctx context.Context, prefix, after string, fn func(blob.Version) error) error {
	if err := blob.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list versions: %w", err)
	}
	var all []blob.Version
	s.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(s.history.versions)) {
		if key <= after || !strings.HasPrefix(key, prefix) {
			continue
		}
		for _, v := range slices.Backward(s.history.versions[key]) {
			all = append(all, blob.Version{Key: key, ID: v.id, Size: int64(len(v.data)), Modified: v.modified.Truncate(time.Second), Deletion: v.deletion})
		}
	}
	s.mu.Unlock()
	for _, v := range all {
		if err := blob.Canceled(ctx); err != nil {
			return fmt.Errorf("list versions %s: %w", prefix, err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) version(ctx context.Context, v blob.Version) (version, int, error) {
	if err := begin(ctx, v.Key); err != nil {
		return version{}, 0, err
	}
	all := s.history.versions[v.Key]
	i := slices.IndexFunc(all, func(e version) bool { return e.id == v.ID && !e.deletion })
	if i < 0 {
		return version{}, 0, fmt.Errorf("object %s version %s: %w", v.Key, v.ID, errs.NotFound)
	}
	return all[i], len(all) - 1 - i, nil
}

// OpenVersion reads a range of one version; see blob.Versioned.
func (s *Store) OpenVersion(ctx context.Context, v blob.Version, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, _, err := s.version(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("open version: %w", err)
	}
	n, err := blob.CheckRange(v.Key, int64(len(found.data)), offset, length)
	if err != nil {
		return nil, fmt.Errorf("open version: %w", err)
	}
	return &reader{ctx: ctx, r: bytes.NewReader(found.data[offset : offset+n])}, nil
}

// Recover makes a version the object again; see blob.Versioned.
func (s *Store) Recover(ctx context.Context, v blob.Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, over, err := s.version(ctx, v)
	if err != nil {
		return fmt.Errorf("recover object: %w", err)
	}
	all := s.history.versions[v.Key]
	if slices.ContainsFunc(all[len(all)-over:], func(e version) bool { return !e.deletion }) {
		if o, ok := s.objects[v.Key]; !ok || !bytes.Equal(o.data, found.data) {
			s.write(v.Key, found.data)
		}
		return nil
	}
	s.history.versions[v.Key] = all[:len(all)-over]
	s.objects[v.Key] = found.object
	return nil
}
