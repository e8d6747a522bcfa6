package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	// keepFulls is how many full records are kept, however old they are.
	keepFulls = 3
	// maxDrop bounds the objects that one call removes, by what their keys take in
	// memory.
	maxDrop = 10_000
)

// DropOld removes log and full records that a full record put before the given
// time replaces, and tells how many. At least three full records stay, and all
// that follows the oldest of them. It asks nobody whether anything may be deleted:
// that is the caller's. Objects whose age the store does not tell are never old.
//
// They go in the order of their numbers. A crash leaves those with greater
// numbers, and the next call goes on.
func (l *Log) DropOld(ctx context.Context, before time.Time) (dropped int, err error) {
	store := l.repo.store
	var fulls []blob.Info
	err = store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		if _, full, err := ParseCatalogObject(info.Key); err == nil && full {
			fulls = append(fulls, info)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("drop old records of the catalog log: %w", err)
	}
	// The oldest to stay: replaced by nothing older, and old itself, so that all
	// log records up to it are too.
	oldest := ""
	for i, info := range fulls {
		if i+keepFulls <= len(fulls) && !info.Modified.IsZero() && info.Modified.Before(before) {
			oldest = info.Key
		}
	}
	if oldest == "" {
		return 0, nil
	}
	number, _, err := ParseCatalogObject(oldest)
	if err != nil {
		return 0, err
	}
	// It must open before what it stands for goes.
	if _, _, err := l.repo.readRecord(ctx, oldest); err != nil {
		return 0, fmt.Errorf("drop old records of the catalog log: %w", err)
	}
	var old []string
	err = store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		n, _, err := ParseCatalogObject(info.Key)
		if err == nil && n <= number && info.Key != oldest && len(old) < maxDrop {
			old = append(old, info.Key)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("drop old records of the catalog log: %w", err)
	}
	for _, key := range old {
		err := store.Delete(ctx, key)
		if errors.Is(err, errs.Locked) {
			continue // gone for every reader; its bytes are the bucket's affair
		}
		if err != nil {
			return dropped, fmt.Errorf("drop old record of the catalog log %s: %w", key, err)
		}
		dropped++
	}
	return dropped, nil
}

// Reigning tells whether the log's epoch is still the highest that was claimed;
// a higher one is a *LogConflict. It reads a short list and writes nothing.
func (l *Log) Reigning(ctx context.Context) error {
	latest, err := l.repo.LatestEpoch(ctx)
	if err != nil {
		return err
	}
	if latest <= l.epoch {
		return nil
	}
	if _, err := l.repo.Epoch(ctx, latest); err != nil {
		return err // a key alone claims nothing
	}
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	if l.stopped == nil {
		l.stopped = &LogConflict{Number: l.head.Number + 1, Epoch: latest, Own: l.epoch}
	}
	return l.stopped
}

// NeededLog gives a key before which no record of the catalog log in a store is
// needed: DropOld drops nothing after it.
func NeededLog(ctx context.Context, store blob.Store) (after string, err error) {
	var fulls []string // the newest keepFulls
	err = store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		if _, full, err := ParseCatalogObject(info.Key); err == nil && full {
			if fulls = append(fulls, info.Key); len(fulls) > keepFulls {
				fulls = fulls[1:]
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("find which records of the catalog log are needed: %w", err)
	}
	if len(fulls) < keepFulls {
		return "", nil
	}
	return strings.TrimSuffix(fulls[0], fullSuffix), nil
}
