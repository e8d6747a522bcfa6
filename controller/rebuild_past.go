package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// recoveredPrefixes are what a repository needs, in the order of writing: whatever
// an object refers to is there before it, so that a recovery that is cut off leaves a
// repository that lacks something and never one that refers to nothing.
func recoveredPrefixes() []string {
	return []string{repo.DescriptionObject, repo.KeysPrefix, repo.DomainsPrefix, repo.CAPrefix, repo.EpochsPrefix,
		repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix, repo.CatalogPrefix}
}

// recoverStore is recoverPast of the store that a configuration names. Before it
// changes anything, the secret must open the repository as it was at that time;
// then it notes that a rebuild has begun.
func recoverStore(ctx context.Context, c *Config, at time.Time) (int, error) {
	u, err := unlocker(c.Unlock)
	if err != nil {
		return 0, err
	}
	store, err := openStore(ctx, c.Store, false)
	if err != nil {
		return 0, err
	}
	return recoverPast(ctx, store, at, u, func() error { return durable.WriteFile(RebuildingFile(c.StateDir), []byte(c.Store)) })
}

// recoverPast gives every object of the repository that was in the store at a time
// the bytes that it had then: delete markers over it go, and what was written over
// it is written over. Objects that came later stay, and log records and epochs
// of later come back as they were first written, so that what the catalog log says
// of the time since, revocations among it, still counts. begin is called before the
// first change. errs.Unsupported when the store keeps no versions.
//
// Each object is one durable step. A crash leaves some; repeating it goes on.
func recoverPast(ctx context.Context, store blob.Store, at time.Time, u seal.Unlocker, begin func() error) (recovered int, err error) {
	past, err := blob.At(store, at)
	if err != nil {
		return 0, err
	}
	if _, err := repo.Open(ctx, past, u); err != nil {
		return 0, fmt.Errorf("as of %s: %w", at.UTC().Format(time.RFC3339), err)
	}
	versions, err := blob.AsVersioned(store)
	if err != nil {
		return 0, err
	}
	if err := begin(); err != nil {
		return 0, err
	}
	for _, prefix := range recoveredPrefixes() {
		n, err := recoverPrefix(ctx, versions, prefix, at)
		if recovered += n; err != nil {
			return recovered, fmt.Errorf("recover %s as of %s: %w", prefix, at.UTC().Format(time.RFC3339), err)
		}
	}
	return recovered, nil
}

func recoverPrefix(ctx context.Context, versions blob.Versioned, prefix string, at time.Time) (recovered int, err error) {
	var newest, chosen blob.Version
	decided := false
	// Log records and epochs of later count too: they are written once, and what was
	// written first is the true one.
	late := prefix == repo.CatalogPrefix || prefix == repo.EpochsPrefix
	settle := func() error {
		if chosen.ID == "" || chosen.ID == newest.ID {
			return nil
		}
		recovered++
		return versions.Recover(ctx, chosen)
	}
	err = versions.Versions(ctx, prefix, "", func(v blob.Version) error {
		if v.Key != newest.Key {
			if err := settle(); err != nil {
				return err
			}
			newest, chosen, decided = v, blob.Version{}, false
		}
		switch {
		case decided:
		case !v.Modified.After(at):
			if decided = true; !v.Deletion {
				chosen = v
			}
		case late && !v.Deletion:
			chosen = v
		}
		return nil
	})
	if err == nil {
		err = settle()
	}
	return recovered, err
}
