package copies

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// permitted tells whether a record permits to delete an object.
func (s *Service) permitted(ctx context.Context, key string) (ok bool, err error) {
	err = s.d.Catalog.View(ctx, func(tx *catalog.Tx) error { ok, err = tx.Permitted(key); return err })
	return ok, err
}

// permitsDue gives the permits that were not followed yet and whose objects are
// gone from the repository's own store: a copy deletes after it. None while
// deletion is paused. They are read before anything is listed, so that whatever
// took the place of what was deleted is in the listings.
func (f *follower) permitsDue(ctx context.Context, from blob.Store) (due []string, err error) {
	if may, err := f.s.mayDelete(ctx); err != nil || !may {
		return nil, err
	}
	var open []string
	err = f.s.d.Catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.Permits("") {
			if err != nil {
				return err
			}
			if !f.followed(p) {
				open = append(open, p.Object)
			}
			if len(open) == maxPermits {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, object := range open {
		there := false
		if strings.HasSuffix(object, "/") {
			there, err = holds(ctx, from, object)
		} else if _, err = from.Stat(ctx, object); errors.Is(err, errs.NotFound) {
			err = nil
		} else {
			there = err == nil
		}
		if err != nil {
			return nil, fmt.Errorf("look whether %s was deleted: %w", object, err)
		}
		if !there {
			due = append(due, object)
		}
	}
	return due, nil
}

// remove deletes from the copy what was deleted here, backwards. A crash leaves
// the rest for the next round; nothing that is left refers to what is gone. An
// object that the store does not let go (it is locked) holds up those of later
// kinds, and is tried again.
func (r *round) remove(ctx context.Context) error {
	merged, err := r.mergedAway(ctx)
	if err != nil {
		return err
	}
	r.due = append(r.due, merged...)
	defer r.f.forget(merged) // they have no permits to follow
	for _, prefix := range []string{repo.SnapshotsPrefix, repo.IndexesPrefix, repo.PacksPrefix, repo.DomainsPrefix, repo.CAPrefix, repo.KeysPrefix} {
		for _, object := range r.due {
			if !strings.HasPrefix(object, prefix) {
				continue
			}
			n, err := r.removeObject(ctx, object)
			if blob.Deferred(err) {
				r.f.log.Warn("object of the copy cannot be deleted yet, will try again", zap.String("object", object), zap.Error(err))
				return nil
			}
			if err != nil {
				return err
			}
			if n > 0 {
				r.f.log.Info("deleted from the copy what was deleted before it", zap.String("object", object), zap.Int("objects", n))
			}
			r.f.mu.Lock()
			r.f.done[object] = true
			r.f.mu.Unlock()
		}
	}
	return nil
}

// mergedAway gives the index files that are in the copy alone while their domain
// has others here: they were merged into those, which were copied. An index file is
// a cache, so they need no permit; they must go before the packs that they name.
func (r *round) mergedAway(ctx context.Context) (keys []string, err error) {
	if may, err := r.f.s.mayDelete(ctx); err != nil || !may {
		return nil, err
	}
	for _, key := range r.plan.strays {
		domain, _, err := repo.ParseIndexObject(key)
		if err != nil {
			continue
		}
		others, err := holds(ctx, r.from, repo.IndexPrefix(domain))
		if err != nil {
			return nil, err
		}
		if _, err := r.from.Stat(ctx, key); others && errors.Is(err, errs.NotFound) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// removeObject deletes one object, or everything under a prefix.
func (r *round) removeObject(ctx context.Context, object string) (n int, err error) {
	if !strings.HasSuffix(object, "/") {
		if _, err := r.to.Stat(ctx, object); errors.Is(err, errs.NotFound) {
			return 0, nil
		}
		return 1, r.to.Delete(ctx, object)
	}
	for {
		var keys []string
		for info, err := range listing(ctx, r.to, object, "") {
			if err != nil {
				return n, err
			}
			if keys = append(keys, info.Key); len(keys) == maxStrange {
				break
			}
		}
		if len(keys) == 0 {
			return n, nil
		}
		for _, key := range keys {
			if err := r.to.Delete(ctx, key); err != nil {
				return n, err
			}
			n++
		}
	}
}

// trimLog removes from the copy's log what the log's own rule has removed here:
// everything before the full record with which the log begins here, once the copy
// has that record too and it opens there. Lower numbers go first.
func (r *round) trimLog(ctx context.Context) error {
	first, full, err := repo.ParseCatalogObject(r.plan.oldestLog)
	if r.plan.oldestLog == "" || err != nil || !full {
		return nil //nolint:nilerr // a log that begins with its first record was never cut
	}
	if may, err := r.f.s.mayDelete(ctx); err != nil || !may {
		return err
	}
	var old []string
	for info, err := range listing(ctx, r.to, repo.CatalogPrefix, "") {
		if err != nil {
			return err
		}
		if n, _, _ := repo.ParseCatalogObject(info.Key); n > first || len(old) == maxPlanned {
			break
		}
		if info.Key != r.plan.oldestLog {
			old = append(old, info.Key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	good, err := r.f.s.fetch.fetch(ctx, r.to, r.plan.oldestLog, nil)
	if errors.Is(err, errs.NotFound) || atFault(ctx, r.to, err) {
		return nil // until it is healed, nothing goes
	}
	if err != nil {
		return err
	}
	good.release()
	for _, key := range old {
		if _, err := r.from.Stat(ctx, key); err == nil {
			continue // only here was it to be deleted
		} else if !errors.Is(err, errs.NotFound) {
			return err
		}
		if err := r.to.Delete(ctx, key); err != nil {
			return fmt.Errorf("remove old record of the copy's log: %w", err)
		}
	}
	return nil
}
