package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The bounds of a scan.
const (
	// scanAhead is how many records are read at once; each has at most 16 MiB.
	scanAhead = 8
	// maxFaults bounds the faults that are told one by one.
	maxFaults = 100
	// maxLeap is how far beyond the last record that opens one that does not may lie
	// and still be taken for one of this log: anybody who can write to the store can
	// put rubbish under the greatest number there is.
	maxLeap = 1 << 20
)

// LogScan is what ScanLog found.
type LogScan struct {
	// Head is where the log can be gone on with: after its last record, whether that
	// opens or not.
	Head Witness
	// Faults are the holes and the damage, at most maxFaults of them; each names its
	// object. None means that ReplayLog gives the same records.
	Faults []error
	// Records counts the log records given to fn, Full is the number of the full
	// record before them, 0 when there was none.
	Records, Full uint64
}

// ScanLog is ReplayLog for a log that may be damaged: what opens is given to fn in
// order, and what is missing, does not open or does not follow what is before it
// is a fault and no end. A full record that does not open is passed over for an
// older one. Each record was sealed by a controller with the master key, whatever
// became of its neighbours: to drop a revocation because an unrelated record
// before it is damaged would be the greater harm.
//
// Records of an epoch lower than one before them are left out: their writer had
// been replaced. It needs no epoch and writes nothing. fn's error ends it, and so
// does a store that does not answer.
func (r *Repository) ScanLog(ctx context.Context, fn func(*LogRecord) error) (*LogScan, error) {
	s := &scan{repo: r, fn: fn, LogScan: LogScan{Head: Witness{Repository: r.ID()}}}
	if err := s.full(ctx); err != nil {
		return nil, fmt.Errorf("scan catalog log: %w", err)
	}
	return s.finish(ctx)
}

// ScanLogAfter goes on with a scan after the record that at names.
func (r *Repository) ScanLogAfter(ctx context.Context, at Witness, fn func(*LogRecord) error) (*LogScan, error) {
	s := &scan{repo: r, fn: fn, LogScan: LogScan{Head: at}}
	return s.finish(ctx)
}

type scan struct {
	LogScan
	repo *Repository
	fn   func(*LogRecord) error
}

func (s *scan) fault(err error) {
	if len(s.Faults) < maxFaults {
		s.Faults = append(s.Faults, err)
	}
}

// full gives the newest full record that opens.
func (s *scan) full(ctx context.Context) error {
	var fulls []uint64
	err := s.repo.store.List(ctx, CatalogPrefix, "", func(info blob.Info) error {
		n, full, err := ParseCatalogObject(info.Key)
		if err == nil && full {
			fulls = append(fulls, n)
		}
		return nil // other keys are looked at by the walk
	})
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(fulls) {
		rec, _, err := s.repo.readRecord(ctx, FullObject(n))
		if harmful(err) {
			s.fault(err)
			continue
		}
		if err != nil {
			return err
		}
		s.Full = n
		// The epoch of its writer may be newer than that of the log record it stands
		// for, so it must not be held against the records that follow.
		s.Head = Witness{Repository: s.repo.ID(), Number: rec.Number, Hash: rec.Previous}
		return s.fn(rec)
	}
	return nil
}

// harmful tells damage of one object from the store's trouble, and from a record
// that only a newer program can read.
func harmful(err error) bool { return errors.Is(err, errs.Corrupt) || errors.Is(err, errs.NotFound) }

// finish walks over the log records after the head.
func (s *scan) finish(ctx context.Context) (*LogScan, error) {
	var ahead []string
	err := s.repo.store.List(ctx, CatalogPrefix, LogObject(s.Head.Number), func(info blob.Info) error {
		_, full, err := ParseCatalogObject(info.Key)
		if err != nil {
			s.fault(err)
			return nil
		}
		if full {
			return nil
		}
		if ahead = append(ahead, info.Key); len(ahead) < scanAhead {
			return nil
		}
		defer func() { ahead = ahead[:0] }()
		return s.records(ctx, ahead)
	})
	if err == nil {
		err = s.records(ctx, ahead)
	}
	if err != nil {
		return nil, fmt.Errorf("scan catalog log: %w", err)
	}
	return &s.LogScan, nil
}

// read is what one key gave.
type read struct {
	rec  *LogRecord
	hash [32]byte
	err  error
}

func (s *scan) records(ctx context.Context, keys []string) error {
	found := make([]read, len(keys))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, key := range keys {
		group.Go(func() error {
			raw, err := blob.ReadAll(groupCtx, s.repo.store, key, maxRecordBytes)
			if err == nil {
				found[i].hash = sha256.Sum256(raw)
				found[i].rec, err = s.repo.openRecord(key, raw)
			}
			if found[i].err = err; harmful(err) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, key := range keys {
		if err := s.record(key, &found[i]); err != nil {
			return err
		}
	}
	return nil
}

// record takes one record in its turn.
func (s *scan) record(key string, f *read) error {
	n, _, err := ParseCatalogObject(key)
	if err != nil {
		return err
	}
	if f.err != nil {
		s.fault(fmt.Errorf("%s: %w", key, f.err))
		if n-s.Head.Number <= maxLeap {
			s.Head.Number, s.Head.Hash = n, f.hash
		}
		return nil
	}
	if n != s.Head.Number+1 {
		s.fault(fmt.Errorf("%s to %d are missing: %w", LogObject(s.Head.Number+1), n-1, errs.Corrupt))
	} else if f.rec.Previous != s.Head.Hash {
		s.fault(fmt.Errorf("%s (epoch %d) does not follow %s: %w", key, f.rec.Epoch, s.Head, errs.Corrupt))
	}
	before := s.Head
	s.Head = Witness{Repository: s.repo.ID(), Epoch: max(before.Epoch, f.rec.Epoch), Number: n, Hash: f.hash}
	if f.rec.Epoch < before.Epoch {
		s.fault(fmt.Errorf("%s: epoch %d after epoch %d: %w", key, f.rec.Epoch, before.Epoch, errs.Corrupt))
		return nil
	}
	s.Records++
	if f.rec.Class == LogRekey {
		return nil
	}
	return s.fn(f.rec)
}
