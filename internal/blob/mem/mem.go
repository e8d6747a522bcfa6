// Package mem is a blob.Store in memory, for tests and for trying things out.
// It keeps the whole contract except that nothing survives the process.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Store keeps objects in a map.
type Store struct {
	mu      sync.Mutex
	objects map[string]object // what is seen
	history *history          // nil in a store without versions
}

type object struct {
	data     []byte // never written to again
	modified time.Time
	id       string // of its version, in a store that has them
}

var _ blob.Store = (*Store)(nil)

// New makes an empty store without versions and locks.
func New() *Store { return &Store{objects: map[string]object{}} }

// Create writes a new object; see blob.Store.
func (s *Store) Create(ctx context.Context, key string, body blob.Body) error {
	if err := begin(ctx, key); err != nil {
		return fmt.Errorf("create object: %w", err)
	}
	// Read before the lock is taken: a body may be slow.
	var buf bytes.Buffer
	if err := blob.CopyBody(&buf, body); err != nil {
		return fmt.Errorf("create object %s: %w", key, err)
	}
	if err := blob.Canceled(ctx); err != nil {
		return fmt.Errorf("create object %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[key]; ok {
		return fmt.Errorf("create object %s: %w", key, errs.Exists)
	}
	s.write(key, buf.Bytes())
	return nil
}

// write makes an object what is seen, over whatever there is.
func (s *Store) write(key string, data []byte) {
	o := object{data: data, modified: time.Now()}
	if s.history != nil {
		o.id = s.history.add(key, o, false)
	}
	s.objects[key] = o
}

// Open reads a range of an object; see blob.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	n, err := blob.CheckRange(key, int64(len(o.data)), offset, length)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	return &reader{ctx: ctx, r: bytes.NewReader(o.data[offset : offset+n])}, nil
}

// Stat tells an object's size and time; see blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Info, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return blob.Info{}, fmt.Errorf("stat object: %w", err)
	}
	return blob.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}, nil
}

// List calls fn for objects in order of their keys; see blob.Store. The keys
// are those of the moment of the call.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := blob.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	s.mu.Lock()
	keys := slices.Sorted(maps.Keys(s.objects))
	s.mu.Unlock()
	for _, key := range keys {
		if err := blob.Canceled(ctx); err != nil {
			return fmt.Errorf("list objects %s: %w", prefix, err)
		}
		if key <= after || !strings.HasPrefix(key, prefix) {
			continue
		}
		s.mu.Lock()
		o, ok := s.objects[key]
		s.mu.Unlock()
		if !ok {
			continue
		}
		if err := fn(blob.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes an object; see blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, key); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history == nil {
		delete(s.objects, key)
		return nil
	}
	return s.deleteVersions(key)
}

// Features says that creates are atomic and nothing is durable.
func (s *Store) Features() blob.Features {
	f := blob.Features{AtomicCreate: true, Location: "memory"}
	if s.history != nil {
		f.Versions, f.Lock = true, s.history.mode
	}
	return f
}

func (s *Store) find(ctx context.Context, key string) (object, error) {
	if err := begin(ctx, key); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fmt.Errorf("object %s: %w", key, errs.NotFound)
	}
	return o, nil
}

func begin(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	return blob.Canceled(ctx)
}

// reader stops when its context ends, as a reader over a network would.
type reader struct {
	ctx context.Context // of the one call that the reader belongs to
	r   *bytes.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := blob.Canceled(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func (r *reader) Close() error { return nil }
