package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// logWalk goes along the catalog log.
type logWalk struct {
	first  uint64 // number of the first log record, 0 before it
	last   uint64 // of the newest one
	hash   [32]byte
	epoch  uint64
	broken bool // the last one could not be read: its hash is worth nothing
	opened bool // it was authenticated
	// full is the newest full record before the next log record, whose hash it names.
	full     uint64
	fullHash [32]byte
	fullest  uint64 // the newest full record of all
}

// checkLog walks along the catalog log: numbers without gaps, each record naming
// the hash of the one before, epochs that never fall; with keys each is opened.
// It comes after the snapshots, so that none names a record which is newer than
// the walk.
func (c *checker) checkLog(ctx context.Context) error {
	c.phase(PhaseLog)
	var w logWalk
	err := c.store.List(ctx, repo.CatalogPrefix, "", func(info blob.Info) error {
		number, full, err := repo.ParseCatalogObject(info.Key)
		if err != nil {
			return nil // it is a finding already
		}
		raw, err := blob.ReadAll(ctx, c.store, info.Key, repo.MaxObjectBytes(info.Key))
		if c.gone(ctx, info.Key, err) {
			return nil // records go when they are old
		}
		var rec *repo.LogRecord
		if err == nil {
			rec, err = c.openRecord(info.Key, raw)
		}
		if full {
			w.fullest = number
			if err == nil {
				w.full, w.fullHash = number, rec.Previous
			}
		} else {
			c.logRecord(&w, number, rec, raw)
		}
		if err == nil {
			return c.wantEpoch(ctx, rec.Epoch, info.Key)
		}
		return c.failed(ctx, info.Key, err)
	})
	if err != nil {
		return err
	}
	return c.checkLogEnds(ctx, &w)
}

func (c *checker) openRecord(key string, raw []byte) (*repo.LogRecord, error) {
	if c.repo != nil {
		return c.repo.OpenLogRecord(key, raw)
	}
	return repo.InspectLogRecord(key, raw)
}

// logRecord compares a log record with the one before it. rec is nil when it
// could not be read.
func (c *checker) logRecord(w *logWalk, number uint64, rec *repo.LogRecord, raw []byte) {
	key := repo.LogObject(number)
	switch {
	case w.first == 0:
		w.first = number
		if number > 1 && (w.fullest == 0 || w.fullest+1 < number) {
			c.add(Finding{Object: repo.LogObject(number - 1), Problem: Missing, Detail: fmt.Sprintf("the log begins at record %d, and no full record holds what was before", number)})
		}
		if number == 1 && rec != nil && rec.Previous != [32]byte{} {
			c.add(Finding{Object: key, Problem: Contradictory, Detail: "it is the first record and names one before it"})
		}
	case number != w.last+1:
		detail := fmt.Sprintf("the log goes from record %d to %d", w.last, number)
		c.add(Finding{Object: repo.LogObject(w.last + 1), Problem: Missing, Detail: detail})
	case rec != nil && !w.broken && rec.Previous != w.hash && w.opened:
		c.add(Finding{Object: key, Problem: Contradictory, Detail: fmt.Sprintf("it names another record %d than is there", w.last)})
	case rec != nil && !w.broken && rec.Previous != w.hash:
		c.add(Finding{Object: repo.LogObject(w.last), Problem: Damaged, Detail: fmt.Sprintf("record %d names another hash of it", number)})
	}
	hash := sha256.Sum256(raw)
	if rec != nil && rec.Epoch < w.epoch {
		c.add(Finding{Object: key, Problem: Contradictory, Detail: fmt.Sprintf("it is of epoch %d, a record before it of epoch %d", rec.Epoch, w.epoch)})
	}
	if rec != nil && w.full == number && w.fullHash != hash {
		c.add(Finding{Object: repo.FullObject(number), Problem: Contradictory, Detail: "it names another hash of the log record of its number"})
	}
	w.last, w.hash, w.broken, w.opened = number, hash, rec == nil, rec != nil && c.repo != nil
	if rec != nil {
		w.epoch = max(w.epoch, rec.Epoch)
	}
}

// checkLogEnds compares the newest record with what others know to have been
// written.
func (c *checker) checkLogEnds(ctx context.Context, w *logWalk) error {
	newest := max(w.last, w.fullest)
	if n := c.newestNamed.number; n > newest {
		c.add(Finding{Object: repo.LogObject(newest + 1), Problem: Missing,
			Detail: fmt.Sprintf("the log ends at record %d, %s was made after record %d: the store was rolled back", newest, c.newestNamed.key, n)})
	}
	if c.o.Known == nil {
		return nil
	}
	head, err := c.o.Known.Head(ctx)
	if err != nil {
		return fmt.Errorf("find the newest known record of the catalog log: %w", err)
	}
	if head.Number == 0 || c.repo == nil {
		return nil
	}
	// The log may have gone on since the walk; it must still hold what is known.
	err = c.repo.CheckWitness(ctx, head)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errs.Conflict):
		if n := head.Number; n > newest {
			c.add(Finding{Object: repo.LogObject(newest + 1), Problem: Missing, Detail: fmt.Sprintf("the log ends at record %d, the catalog has written record %d: the store was rolled back", newest, n)})
			return nil
		}
		c.add(Finding{Object: repo.LogObject(head.Number), Problem: Contradictory, Detail: "it is not the record that the catalog has written: another controller has"})
		return nil
	case errors.Is(err, errs.Corrupt), errors.Is(err, errs.NotFound):
		return c.failed(ctx, repo.LogObject(head.Number), err)
	}
	return c.fatal(ctx, err)
}
