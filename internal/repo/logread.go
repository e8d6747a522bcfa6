package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// readRecord reads, authenticates and opens one record.
func (r *Repository) readRecord(ctx context.Context, key string) (*LogRecord, Witness, error) {
	limit := int64(maxRecordBytes)
	if _, full, err := ParseCatalogObject(key); err != nil {
		return nil, Witness{}, err
	} else if full {
		limit = maxFullBytes
	}
	raw, err := blob.ReadAll(ctx, r.store, key, limit)
	if err != nil {
		return nil, Witness{}, err
	}
	rec, err := r.openRecord(key, raw)
	if err != nil {
		return nil, Witness{}, err
	}
	return rec, r.witness(rec, raw), nil
}

// logKeys are the ends of the log as a listing shows them.
type logKeys struct {
	first, last uint64 // log records; 0 when there are none
	full        uint64 // the newest full record; 0 when there is none
}

func (r *Repository) logKeys(ctx context.Context) (logKeys, error) {
	var k logKeys
	err := r.store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		n, full, err := ParseCatalogObject(info.Key)
		switch {
		case err != nil:
			return err
		case full:
			k.full = n
		default:
			if k.first == 0 {
				k.first = n
			}
			k.last = n
		}
		return nil
	})
	if err != nil {
		return k, fmt.Errorf("list catalog log: %w", err)
	}
	return k, nil
}

// LogHead is the newest record of the catalog log, authenticated; the position
// before the first record when there is none. When all log records up to a full
// record are gone, the full record tells the head.
func (r *Repository) LogHead(ctx context.Context) (Witness, error) {
	k, err := r.logKeys(ctx)
	if err != nil {
		return Witness{}, err
	}
	switch {
	case k.last == 0 && k.full == 0:
		return Witness{Repository: r.ID()}, nil
	case k.last >= k.full:
		_, w, err := r.readRecord(ctx, LogObject(k.last))
		return w, err
	}
	rec, _, err := r.readRecord(ctx, FullObject(k.full))
	if err != nil {
		return Witness{}, err
	}
	return Witness{Repository: r.ID(), Epoch: rec.Epoch, Number: rec.Number, Hash: rec.Previous}, nil
}

// LogRecord reads one record of the log.
func (r *Repository) LogRecord(ctx context.Context, number uint64) (*LogRecord, Witness, error) {
	rec, w, err := r.readRecord(ctx, LogObject(number))
	if err != nil {
		return nil, w, fmt.Errorf("read catalog log: %w", err)
	}
	return rec, w, nil
}

// ReplayLog calls fn for the newest full record, if there is one, and for every
// log record after it, in order, and returns the last position. It verifies the
// chain: numbers follow one another, each record names the hash of the one
// before it, epochs never go back. A gap, a record that does not open or does
// not fit is errs.Corrupt and names the object; what came before it has been
// given to fn. fn's error ends the replay and is returned. It needs no epoch and
// writes nothing.
func (r *Repository) ReplayLog(ctx context.Context, fn func(*LogRecord) error) (Witness, error) {
	k, err := r.logKeys(ctx)
	if err != nil {
		return Witness{}, fmt.Errorf("replay: %w", err)
	}
	at := Witness{Repository: r.ID()}
	if k.full > 0 {
		rec, _, err := r.readRecord(ctx, FullObject(k.full))
		if err != nil {
			return at, fmt.Errorf("replay: %w", err)
		}
		if err := fn(rec); err != nil {
			return at, err
		}
		// The writer's epoch may be newer than that of the log record it stands for, so
		// it must not be held against the records that follow.
		at = Witness{Repository: r.ID(), Number: rec.Number, Hash: rec.Previous}
	}
	return r.replayFrom(ctx, at, k.last, fn)
}

// ReplayLogAfter calls fn for each log record after the one that at names, with
// the checks of ReplayLog. A store whose log ends before at is errs.Conflict: it
// was rolled back.
func (r *Repository) ReplayLogAfter(ctx context.Context, at Witness, fn func(*LogRecord) error) (Witness, error) {
	k, err := r.logKeys(ctx)
	if err != nil {
		return at, fmt.Errorf("replay: %w", err)
	}
	if max(k.last, k.full) < at.Number {
		return at, fmt.Errorf("replay: the log ends at record %d, before %s: %w", max(k.last, k.full), at, errs.Conflict)
	}
	return r.replayFrom(ctx, at, k.last, fn)
}

func (r *Repository) replayFrom(ctx context.Context, at Witness, last uint64, fn func(*LogRecord) error) (Witness, error) {
	for at.Number < last {
		key := LogObject(at.Number + 1)
		rec, w, err := r.readRecord(ctx, key)
		if errors.Is(err, errs.NotFound) {
			return at, fmt.Errorf("replay: %s is missing, the log goes on to %d: %w", key, last, errs.Corrupt)
		}
		if err != nil {
			return at, fmt.Errorf("replay: %w", err)
		}
		if rec.Previous != at.Hash || rec.Epoch < at.Epoch {
			return at, fmt.Errorf("replay: %s (epoch %d) does not follow %s: %w", key, rec.Epoch, at, errs.Corrupt)
		}
		if rec.Class != LogRekey {
			if err := fn(rec); err != nil {
				return at, err
			}
		}
		at = w
	}
	return at, nil
}

// LogBehind is the error when the store's log ends before a record that somebody
// has seen. It is of kind errs.Conflict.
type LogBehind struct {
	// Witness is what was seen, Last the number of the newest record that is there.
	Witness Witness
	Last    uint64
}

// Error says where the log ends.
func (b *LogBehind) Error() string {
	return fmt.Sprintf("witness %s: the store's log ends at record %d, it was rolled back: %s", b.Witness, b.Last, errs.Conflict)
}

// Unwrap gives errs.Conflict.
func (b *LogBehind) Unwrap() error { return errs.Conflict }

// CheckWitness tells whether the store is at least as new as w. A log that ends
// before it (*LogBehind), or has another record in its place, is errs.Conflict: the
// store was rolled back, or forked. A record that is gone because a later full record
// stands for it is no reason for doubt; one that is gone without is errs.Corrupt.
// Only records that open count: a key proves nothing.
func (r *Repository) CheckWitness(ctx context.Context, w Witness) error {
	if w.Repository != r.ID() {
		return fmt.Errorf("witness %s is of repository %s: %w", w, w.Repository.Short(), errs.Invalid)
	}
	if w.Number == 0 {
		return nil
	}
	_, stored, err := r.readRecord(ctx, LogObject(w.Number))
	switch {
	case err == nil && stored.Hash == w.Hash:
		return nil
	case err == nil:
		return fmt.Errorf("witness %s: the store has %s in its place: %w", w, stored, errs.Conflict)
	case !errors.Is(err, errs.NotFound):
		return fmt.Errorf("check witness %s: %w", w, err)
	}
	var last uint64
	var fulls []string
	// The full record of the same number comes before the log record's key.
	err = r.store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		n, full, err := ParseCatalogObject(info.Key)
		switch {
		case err != nil:
			return nil // no record of the log
		case !full:
			last = n
		case n >= w.Number:
			fulls = append(fulls, info.Key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check witness %s: %w", w, err)
	}
	for _, key := range slices.Backward(fulls) {
		if _, _, err := r.readRecord(ctx, key); err == nil {
			return nil
		} else if !harmful(err) {
			return fmt.Errorf("check witness %s: %w", w, err)
		}
	}
	if last > w.Number {
		if _, _, err := r.readRecord(ctx, LogObject(last)); err == nil {
			return fmt.Errorf("witness %s: %s is missing: %w", w, LogObject(w.Number), errs.Corrupt)
		} else if !harmful(err) {
			return fmt.Errorf("check witness %s: %w", w, err)
		}
	}
	return &LogBehind{Witness: w, Last: last}
}
