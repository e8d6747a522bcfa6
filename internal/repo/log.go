package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// maxRecordBytes and maxFullBytes bound the objects; zstd makes nothing larger
// by more than a thousandth.
const (
	maxRecordBytes = logHeaderSize + sealOverhead + MaxLogPayload + MaxLogPayload/256 + 1024
	maxFullBytes   = logHeaderSize + sealOverhead + MaxFullPayload + MaxFullPayload/256 + 1024
)

// LogConflict is the error when the place of the next record is taken. It is of
// kind errs.Conflict.
type LogConflict struct {
	// Number of the record, and the epoch of the controller that wrote it.
	Number, Epoch uint64
	// Own is the epoch of the log that met it.
	Own uint64
}

// Error says who wrote the record.
func (c *LogConflict) Error() string {
	if c.TakenOver() {
		return fmt.Sprintf("record %d of the catalog log: another controller (epoch %d) has taken over: %s", c.Number, c.Epoch, errs.Conflict)
	}
	return fmt.Sprintf("record %d of the catalog log: written meanwhile by an older controller (epoch %d): %s", c.Number, c.Epoch, errs.Conflict)
}

// Unwrap gives errs.Conflict.
func (c *LogConflict) Unwrap() error { return errs.Conflict }

// TakenOver tells that this controller must stop writing for good: a newer one,
// or a twin of itself, writes. Else an older one has just written its last: read
// the log again from there, and open it again.
func (c *LogConflict) TakenOver() bool { return c.Epoch >= c.Own }

// Log writes the catalog log, one record at a time. Several goroutines may use
// it; they wait for one another.
type Log struct {
	repo  *Repository
	epoch uint64

	// turn holds one token: whoever has it owns the fields below. It is a channel
	// and no mutex because it is held over I/O and must obey contexts.
	turn     chan struct{}
	head     Witness
	pending  *pendingRecord
	rekeying *rekeying
	stopped  error
}

// pendingRecord is a record whose put had no clear answer.
type pendingRecord struct {
	rec LogRecord
	raw []byte
}

// OpenLog opens the catalog log for writing after its newest record, for a
// controller that has claimed epoch. A newer epoch, claimed or in the log, is
// errs.Conflict. It writes nothing.
func OpenLog(ctx context.Context, r *Repository, epoch uint64) (*Log, error) {
	head, err := r.LogHead(ctx)
	if err != nil {
		return nil, fmt.Errorf("open catalog log: %w", err)
	}
	return OpenLogAt(ctx, r, epoch, head)
}

// OpenLogAt opens the catalog log for writing after the record that head names,
// which is what the caller knows to have been written: a controller that died
// between putting a record and noting that continues here and puts the same
// payload again, which Append recognises.
func OpenLogAt(ctx context.Context, r *Repository, epoch uint64, head Witness) (*Log, error) {
	latest, err := r.LatestEpoch(ctx)
	if err != nil {
		return nil, fmt.Errorf("open catalog log: %w", err)
	}
	if epoch == 0 || latest < epoch || head.Repository != r.ID() {
		return nil, fmt.Errorf("open catalog log: epoch %d was not claimed, or head is of repository %s: %w", epoch, head.Repository.Short(), errs.Invalid)
	}
	if newest := max(latest, head.Epoch); newest > epoch {
		return nil, fmt.Errorf("open catalog log: %w", &LogConflict{Number: head.Number + 1, Epoch: newest, Own: epoch})
	}
	l := &Log{repo: r, epoch: epoch, head: head, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l, nil
}

// Head is the newest record that is known to be in the store.
func (l *Log) Head(ctx context.Context) (Witness, error) {
	if err := l.take(ctx); err != nil {
		return Witness{}, err
	}
	defer l.give()
	return l.head, nil
}

// Append puts the next record (class LogSynchronous or LogAsynchronous) and
// returns its witness.
//
// One durable step: catalog/<n+1>.log, if it does not exist. When the place is
// taken, or no answer came, the record there is read: if it is this epoch's,
// follows the same record and has the same class and payload, it is ours (put
// before a crash, or before an answer was lost) and Append succeeds. Any other
// is a *LogConflict, and every later Append of this Log fails the same way.
//
// errs.Unavailable means that the record may or may not be there. The next
// Append must then be of the same class and payload: anything else is
// errs.Invalid, since it could make a change that was reported as undecided
// appear, or vanish, behind the caller's back.
func (l *Log) Append(ctx context.Context, class LogClass, payload []byte) (Witness, error) {
	if class != LogSynchronous && class != LogAsynchronous {
		return Witness{}, fmt.Errorf("append to catalog log: class %d: %w", class, errs.Invalid)
	}
	if err := l.take(ctx); err != nil {
		return Witness{}, fmt.Errorf("append to catalog log: %w", err)
	}
	defer l.give()
	if l.stopped != nil {
		return Witness{}, l.stopped
	}
	if l.rekeying != nil {
		if err := l.settleRekey(ctx); err != nil {
			return Witness{}, fmt.Errorf("append to catalog log: change of the master key: %w", err)
		}
	}
	w, err := l.append(ctx, class, payload)
	if err != nil {
		return Witness{}, fmt.Errorf("append to catalog log: %w", err)
	}
	l.head, l.pending = w, nil
	return w, nil
}

func (l *Log) append(ctx context.Context, class LogClass, payload []byte) (Witness, error) {
	for {
		p, err := l.next(class, payload)
		if err != nil {
			return Witness{}, err
		}
		w, err := l.put(ctx, p)
		if !errors.Is(err, errRekeyed) {
			return w, err
		}
		l.head, l.pending = w, nil // and the next place is looked at
	}
}

// errRekeyed is what put meets where an earlier process of this controller has
// changed the master key and not come to note that.
var errRekeyed = errors.New("the record of a change of the master key is in its place")

// next gives the record to put: the undecided one if there is one.
func (l *Log) next(class LogClass, payload []byte) (*pendingRecord, error) {
	if p := l.pending; p != nil {
		if p.rec.Class != class || !bytes.Equal(p.rec.Payload, payload) {
			return nil, fmt.Errorf("record %d is undecided and must be put first: %w", p.rec.Number, errs.Invalid)
		}
		return p, nil
	}
	p := &pendingRecord{rec: LogRecord{Number: l.head.Number + 1, Epoch: l.epoch, Class: class, Previous: l.head.Hash, Payload: bytes.Clone(payload)}}
	var err error
	p.raw, err = l.repo.sealRecord(&p.rec)
	return p, err
}

func (l *Log) put(ctx context.Context, p *pendingRecord) (Witness, error) {
	key := p.rec.key()
	// Until its place has been seen, the record is undecided, whatever the answer.
	l.pending = p
	err := l.repo.store.Create(ctx, key, blob.Bytes(p.raw))
	if err == nil {
		return l.seen(ctx, p)
	}
	if !errors.Is(err, errs.Exists) && !errors.Is(err, errs.Unavailable) {
		return Witness{}, err
	}
	stored, w, readErr := l.repo.readRecord(ctx, key)
	if errors.Is(readErr, errs.NotFound) {
		return Witness{}, fmt.Errorf("%s: no clear answer, and it is not there: %w", key, errs.Unavailable)
	}
	if readErr != nil {
		return Witness{}, readErr
	}
	if w.Epoch == l.epoch && stored.Previous == p.rec.Previous && stored.Class == p.rec.Class && bytes.Equal(stored.Payload, p.rec.Payload) {
		return w, nil
	}
	if l.isRekey(stored) {
		return w, errRekeyed
	}
	conflict := &LogConflict{Number: p.rec.Number, Epoch: w.Epoch, Own: l.epoch}
	l.pending = nil
	l.stopped = conflict
	return Witness{}, conflict
}

// seen looks for a record whose put was reported as done. A store that lost it
// without a word would leave a hole, and nothing after a hole can be replayed.
func (l *Log) seen(ctx context.Context, p *pendingRecord) (Witness, error) {
	info, err := l.repo.store.Stat(ctx, p.rec.key())
	switch {
	case errors.Is(err, errs.NotFound):
		return Witness{}, fmt.Errorf("%s: reported as written, and it is not there: %w", p.rec.key(), errs.Unavailable)
	case err != nil:
		return Witness{}, err
	case info.Size != int64(len(p.raw)):
		return Witness{}, fmt.Errorf("%s: %d bytes of %d were written: %w", p.rec.key(), info.Size, len(p.raw), errs.Corrupt)
	}
	return l.repo.witness(&p.rec, p.raw), nil
}

// PutFull puts a full record: payload is the whole catalog as it is after the
// record that at names, which must be the head or an older record of the log.
// One durable step, catalog/<number>.full; a full record that is there already
// is no error, since it holds the same.
func (l *Log) PutFull(ctx context.Context, at Witness, payload []byte) error {
	if at.Number == 0 || at.Repository != l.repo.ID() {
		return fmt.Errorf("put full record: at %s of repository %s: %w", at, at.Repository.Short(), errs.Invalid)
	}
	rec := LogRecord{Number: at.Number, Epoch: l.epoch, Class: LogFull, Previous: at.Hash, Payload: payload}
	raw, err := l.repo.sealRecord(&rec)
	if err != nil {
		return fmt.Errorf("put full record: %w", err)
	}
	err = l.repo.store.Create(ctx, rec.key(), blob.Bytes(raw))
	if errors.Is(err, errs.Exists) {
		stored, _, readErr := l.repo.readRecord(ctx, rec.key())
		switch {
		case readErr != nil:
			err = readErr
		case stored.Previous == at.Hash:
			return nil
		default:
			err = &LogConflict{Number: at.Number, Epoch: stored.Epoch, Own: l.epoch}
		}
	}
	if err != nil {
		return fmt.Errorf("put full record: %w", err)
	}
	return nil
}

func (l *Log) take(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return blob.Canceled(ctx)
	case <-l.turn:
		return nil
	}
}

func (l *Log) give() { l.turn <- struct{}{} }
