package export

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// When a full record is due: what a rebuild must replay stays some thousand
// records, a minute's work.
const (
	// fullRecords is how many log records follow one at most.
	fullRecords = 5000
	// fullEvery is how long one lasts at most while there are changes.
	fullEvery = 24 * time.Hour
	// fullRetry is the pause after one that could not be made or put.
	fullRetry = time.Hour
	// keepRecords is how long log and full records are kept (docs/FORMAT.md, "Catalog
	// log"), and dropEvery how often older ones are looked for.
	keepRecords = 30 * 24 * time.Hour
	dropEvery   = 24 * time.Hour
)

// fullDue tells whether a full record should follow the next shipment.
func (e *Exporter) fullDue(ctx context.Context) (bool, error) {
	if time.Now().Before(e.fullAfter) {
		return false, nil
	}
	last, at, err := e.catalog.LastFull(ctx)
	if err != nil {
		return false, err
	}
	return e.catalog.Head().Number-last >= fullRecords || time.Since(at) >= fullEvery, nil
}

// full puts the full record that came with a shipment. In this order: the
// shipment is in the log and noted; the full record is put; that is noted. A
// crash in between leaves no full record, or one that is put again a little
// later under another number: each is whole by itself. A failure costs nothing
// but a longer replay, unless it is a conflict.
func (e *Exporter) full(ctx context.Context, s catalog.Shipment, head catalog.Witness) error {
	if s.Full == nil && s.FullErr == nil {
		return nil
	}
	err := s.FullErr
	if err == nil {
		err = e.log.PutFull(ctx, repo.Witness{Repository: head.Repository, Epoch: head.Epoch, Number: head.Number, Hash: head.Hash}, s.Full)
	}
	if err == nil {
		err = e.catalog.FullPut(ctx, head.Number)
	}
	switch {
	case errors.Is(err, errs.Conflict):
		return err
	case err != nil:
		e.fullAfter = time.Now().Add(fullRetry)
		e.logger.Error("full record of the catalog not in the store, will try again", zap.Error(err), zap.Duration("pause", fullRetry))
		return nil
	}
	e.logger.Info("full record of the catalog written", zap.Uint64("log_number", head.Number), zap.Int("bytes", len(s.Full)))
	e.dropOld(ctx)
	return nil
}

// dropOld removes records of the log that a newer full record replaces, if
// anything may be deleted at all.
func (e *Exporter) dropOld(ctx context.Context) {
	if time.Since(e.dropped) < dropEvery {
		return
	}
	e.dropped = time.Now()
	err := e.catalog.View(ctx, func(tx *catalog.Tx) error { return tx.MayDelete() })
	if errors.Is(err, errs.Conflict) {
		return // status says why
	}
	n := 0
	if err == nil {
		n, err = e.log.DropOld(ctx, time.Now().Add(-keepRecords))
	}
	if err != nil {
		e.logger.Warn("old records of the catalog log not removed, will try again", zap.Error(err))
	}
	if n > 0 {
		e.logger.Info("old records of the catalog log removed", zap.Int("records", n))
	}
}
