package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// openStore opens a store that exists; with create it makes a folder (never a
// bucket). What is locked in it, and for how long, is what the format says.
func openStore(ctx context.Context, text string, create bool) (blob.Store, error) {
	p, err := place.Parse(text)
	if err != nil {
		return nil, err
	}
	p.Bucket.LockTime = repo.LockTime
	if create {
		return p.Create(ctx)
	}
	return p.Open(ctx)
}

// noteStore records what the store was found to be able to do, and says what it
// can do no longer: a bucket whose versions or locks were turned off protects
// less than whoever set it up believes.
func (w *wired) noteStore(ctx context.Context, cat *catalog.Catalog) error {
	f := w.repository.Store().Features()
	now := catalog.StoreFeatures{Location: f.Location, AtomicCreate: f.AtomicCreate, Versions: f.Versions, Lock: f.Lock, Encryption: strings.ToValidUTF8(f.Encryption, "?"), StorageClass: f.StorageClass,
		SeparateDeletes: f.SeparateDeletes, Warnings: f.Warnings, Probed: time.Now()}
	var before catalog.StoreFeatures
	err := cat.Update(ctx, catalog.Local, func(tx *catalog.Tx) (err error) {
		if before, err = tx.StoreFeatures(); err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		return tx.PutStoreFeatures(now)
	})
	if err != nil {
		return fmt.Errorf("note what the store can do: %w", err)
	}
	log := w.controller.log
	log.Info("store opened", zap.String("store", now.Location), zap.Bool("atomic_create", now.AtomicCreate), zap.Bool("versions", now.Versions), zap.String("lock", now.Lock),
		zap.String("encryption", now.Encryption), zap.String("storage_class", now.StorageClass), zap.Bool("separate_deletes", now.SeparateDeletes))
	for _, text := range append(now.Warnings, lessThan(before, now)...) {
		log.Warn("the store protects less than it could", zap.String("reason", text))
	}
	return nil
}

// lessThan tells what a store could do before and cannot now.
func lessThan(before, now catalog.StoreFeatures) (lost []string) {
	for _, c := range []struct {
		gone bool
		text string
	}{
		{before.Versions && !now.Versions, "it kept versions before, and does not now"},
		{before.Lock != "" && now.Lock == "", "new objects were locked before, and are not now"},
		{before.Lock == "compliance" && now.Lock == "governance", "new objects were locked for everybody before, and now for those without a special right"},
		{before.Encryption != "" && now.Encryption == "", "it encrypted new objects before, and does not say so now"},
		{before.SeparateDeletes && !now.SeparateDeletes, "deletes had credentials of their own before, and have none now"},
	} {
		if c.gone && before.Location == now.Location {
			lost = append(lost, c.text)
		}
	}
	return lost
}
