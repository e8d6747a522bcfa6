package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// rekeying is a change of the master key whose record has been put and not been
// seen yet.
type rekeying struct {
	// end is told whether the record is in the log.
	end func(done bool)
}

// The patience of a change of the master key: after it, the next Append goes on.
const (
	rekeyTries = 4
	rekeyWait  = 200 * time.Millisecond
)

// rekey puts the record that makes a change of the master key true. prepare is
// told the record's number while nothing else can be appended, and gives its
// payload; an error of it leaves the log as it was. end is called once: with true
// when the record is in the log, with false when another one is in its place.
//
// errs.Unavailable means that the record may or may not be there. Then the next
// Append settles that before it does anything else, and end is called by it.
func (l *Log) rekey(ctx context.Context, prepare func(number uint64) ([]byte, error), end func(done bool)) error {
	if err := l.take(ctx); err != nil {
		end(false)
		return err
	}
	defer l.give()
	switch {
	case l.stopped != nil:
		end(false)
		return l.stopped
	case l.pending != nil:
		end(false)
		return fmt.Errorf("record %d of the catalog log is undecided: %w", l.pending.rec.Number, errs.Unavailable)
	}
	p, err := l.rekeyRecord(prepare)
	if err != nil {
		end(false)
		return err
	}
	l.pending, l.rekeying = p, &rekeying{end}
	for try := 1; ; try++ {
		if err = l.settleRekey(ctx); err == nil || l.rekeying == nil || try == rekeyTries {
			return err
		}
		if pauseErr := pause(ctx, rekeyWait<<try); pauseErr != nil {
			return fmt.Errorf("%w: %w", errs.Unavailable, errors.Join(err, pauseErr))
		}
	}
}

func (l *Log) rekeyRecord(prepare func(number uint64) ([]byte, error)) (*pendingRecord, error) {
	p := &pendingRecord{rec: LogRecord{Number: l.head.Number + 1, Epoch: l.epoch, Class: LogRekey, Previous: l.head.Hash}}
	var err error
	if p.rec.Payload, err = prepare(p.rec.Number); err != nil {
		return nil, err
	}
	p.raw, err = l.repo.sealRecord(&p.rec)
	return p, err
}

// settleRekey puts the record of a change of the master key, again if need be.
func (l *Log) settleRekey(ctx context.Context) error {
	w, err := l.put(ctx, l.pending)
	switch {
	case err == nil:
		l.head, l.pending = w, nil
	case l.stopped != nil:
	default:
		return err
	}
	change := l.rekeying
	l.rekeying = nil
	change.end(err == nil)
	return err
}

// isRekey tells whether a record in the place of the next one is that of the
// change to the master key in force: an earlier process of this controller put it
// and did not come to note that.
func (l *Log) isRekey(stored *LogRecord) bool {
	current := l.repo.current().number
	if stored.Class != LogRekey || stored.Epoch != l.epoch || stored.Previous != l.head.Hash {
		return false
	}
	var j rekeyJSON
	return strictJSON(stored.Payload, &j) == nil && j.Master == current
}
