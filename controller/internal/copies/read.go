package copies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// readTimeout bounds one attempt to read from one copy: a restore that waits for
// its own store already must not hang on another.
const readTimeout = 2 * time.Minute

// Read calls fn with the store of one copy after the other until one gives what
// is wanted of an object that the repository's own store did not give, and tells
// its name. It is counted, told once for each object, and the object is healed in
// the background. errs.NotFound when no copy was reached.
func (s *Service) Read(ctx context.Context, key string, fn func(ctx context.Context, from blob.Store) error) (name string, err error) {
	var failed []error
	for _, f := range s.followers {
		from := f.reached()
		if from == nil {
			continue
		}
		own, cancel := context.WithTimeout(ctx, readTimeout)
		err := fn(own, from)
		cancel()
		if err == nil {
			f.mu.Lock()
			f.reads++
			f.mu.Unlock()
			if s.told.first(key) {
				s.log.Warn("read from a copy what the repository's own store did not give", zap.String("object", key), zap.String("copy", f.o.Name))
				s.HealLater("", key)
			}
			return f.o.Name, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		failed = append(failed, fmt.Errorf("copy %s: %w", f.o.Name, err))
	}
	if len(failed) == 0 {
		failed = []error{fmt.Errorf("no copy can be read: %w", errs.NotFound)}
	}
	return "", errors.Join(failed...)
}

// toldOnce remembers what was told, within bounds.
type toldOnce struct {
	mu   sync.Mutex
	keys map[string]time.Time
}

const (
	// toldFor is how long a thing that was told is not told again.
	toldFor = time.Hour
	// maxTold bounds what is remembered; past it all is forgotten.
	maxTold = 10_000
)

func (t *toldOnce) first(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.keys[key]) < toldFor {
		return false
	}
	if t.keys == nil || len(t.keys) >= maxTold {
		t.keys = map[string]time.Time{}
	}
	t.keys[key] = time.Now()
	return true
}
