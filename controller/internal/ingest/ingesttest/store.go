package ingesttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Fault is what happens to a Create.
type Fault int

// The faults.
const (
	// Refused: an error, and nothing is stored.
	Refused Fault = iota
	// Answerless: stored, but the caller is told Unavailable.
	Answerless
	// Lost: not stored, and the caller is told Unavailable.
	Lost
	// Vanishing: not stored, and the caller is told that it is.
	Vanishing
	// Late: the caller is told Unavailable, and a minute later it is stored.
	Late
)

// lateBy is how late a Late object is.
const lateBy = time.Minute

// Store is a store that obeys a power switch and can be told to fail.
type Store struct {
	blob.Store
	Power *Power

	mu      sync.Mutex
	prefix  string
	fault   Fault
	err     error
	left    int
	blind   bool
	landed  int
	creates map[string]int // by first segment of the key
}

var _ blob.Store = (*Store)(nil)

// NewStore wraps a store.
func NewStore(s blob.Store, p *Power) *Store {
	return &Store{Store: s, Power: p, creates: map[string]int{}}
}

// FailCreates makes the next n Creates under prefix fail. err is for Refused.
func (s *Store) FailCreates(prefix string, n int, f Fault, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefix, s.left, s.fault, s.err = prefix, n, f, err
}

// FailReads makes every read of a pack fail, or work again.
func (s *Store) FailReads(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blind = on
}

// readable tells whether an object can be read now.
func (s *Store) readable(key string) error {
	if s.Power.Cut() {
		return errCut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blind && strings.HasPrefix(key, "packs/") {
		return fmt.Errorf("read %s: no answer: %w", key, errs.Unavailable)
	}
	return nil
}

// Landed tells how many Late objects were stored in the end; those that were
// there already are not counted.
func (s *Store) Landed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.landed
}

// Creates tells how many objects were created under a first segment.
func (s *Store) Creates(segment string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.creates[segment]
}

// Create implements blob.Store.
func (s *Store) Create(ctx context.Context, key string, body blob.Body) error {
	fault, err := s.next(key)
	if err != nil {
		return err
	}
	switch fault {
	case Lost:
		return fmt.Errorf("create %s: no answer: %w", key, errs.Unavailable)
	case Vanishing:
		return nil
	case Late:
		late := context.WithoutCancel(ctx)
		var buf bytes.Buffer
		if err := blob.CopyBody(&buf, body); err != nil {
			return err
		}
		time.AfterFunc(lateBy, func() {
			if s.Power.Cut() {
				return
			}
			if err := s.Store.Create(late, key, blob.Bytes(buf.Bytes())); err == nil {
				s.mu.Lock()
				s.landed++
				s.mu.Unlock()
			}
		})
		return fmt.Errorf("create %s: no answer: %w", key, errs.Unavailable)
	}
	if err := s.Power.step(); err != nil {
		return err
	}
	if err := s.Store.Create(ctx, key, body); err != nil {
		return err
	}
	segment, _, _ := strings.Cut(key, "/")
	s.mu.Lock()
	s.creates[segment]++
	s.mu.Unlock()
	if fault == Answerless {
		return fmt.Errorf("create %s: no answer: %w", key, errs.Unavailable)
	}
	return nil
}

// next tells what becomes of a Create; -1 is nothing special.
func (s *Store) next(key string) (Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 || !strings.HasPrefix(key, s.prefix) {
		return -1, nil
	}
	s.left--
	if s.fault == Refused {
		return 0, s.err
	}
	return s.fault, nil
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := s.readable(key); err != nil {
		return nil, err
	}
	return s.Store.Open(ctx, key, offset, length)
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := s.readable(key); err != nil {
		return blob.Info{}, err
	}
	return s.Store.Stat(ctx, key)
}

// Damage overwrites bytes of an object, whatever the contract says.
func (s *Store) Damage(ctx context.Context, key string, offset int64, b []byte) error {
	whole, err := blob.ReadAll(ctx, s.Store, key, 1<<30)
	if err != nil {
		return err
	}
	copy(whole[offset:], b)
	if err := s.Delete(ctx, key); err != nil {
		return err
	}
	return s.Store.Create(ctx, key, blob.Bytes(whole))
}
