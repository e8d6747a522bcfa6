// Package export ships what the catalog has in its outbox to the catalog log in
// the store, record by record, in order.
//
// It decides only when: a synchronous change at once, the rest gathered for up
// to AsyncDelay, a full record now and then. What a record holds, and that it is
// the same after a crash, is the catalog's; that nobody else writes the log is
// repo.Log's.
package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// AsyncDelay is how long asynchronous changes are gathered before they are
// shipped together. With the put it stays below the five seconds promised.
const AsyncDelay = 2 * time.Second

// The pause after a failed put: it doubles from the first to the last.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// watchEpochs is how often a controller that ships nothing looks whether another
// one has claimed a higher epoch.
const watchEpochs = 30 * time.Second

// Catalog is what is shipped. *catalog.Catalog implements it.
type Catalog interface {
	Changed() <-chan struct{}
	NextShipment(ctx context.Context, full bool) (catalog.Shipment, bool, error)
	Shipped(ctx context.Context, s catalog.Shipment, head catalog.Witness) error
	Waiting(ctx context.Context) (age time.Duration, synchronous bool, err error)
	StopWriting(cause error)
	LastFull(ctx context.Context) (number uint64, at time.Time, err error)
	FullPut(ctx context.Context, number uint64) error
	Head() catalog.Witness
	View(ctx context.Context, fn func(*catalog.Tx) error) error
}

// Log is where it goes. *repo.Log implements it.
type Log interface {
	Append(ctx context.Context, class repo.LogClass, payload []byte) (repo.Witness, error)
	PutFull(ctx context.Context, at repo.Witness, payload []byte) error
	Reigning(ctx context.Context) error
	DropOld(ctx context.Context, before time.Time) (dropped int, err error)
}

// Exporter ships the outbox.
type Exporter struct {
	catalog Catalog
	log     Log
	logger  *zap.Logger

	// put is a shipment that is in the log and not noted in the catalog yet: it must
	// not be put again, the log has moved on. Only Run uses it.
	put struct {
		through uint64
		head    catalog.Witness
	}
	// fullAfter is the earliest time of the next full record, watched when the
	// epochs were looked at last, dropped when old records were. Only Run uses them.
	fullAfter, watched, dropped time.Time
}

// New makes an exporter; Run gives it life.
func New(c Catalog, l Log, logger *zap.Logger) *Exporter {
	return &Exporter{catalog: c, log: l, logger: logger.Named("export")}
}

// Run ships until ctx ends, then ships what is left as far as one try goes. A
// conflict in the log means that another controller has taken over: nothing
// may be written any more, and Run returns it to stop the whole program.
func (e *Exporter) Run(ctx context.Context) error {
	pause := firstPause
	for {
		err := e.shipAll(ctx)
		if err == nil {
			err = e.watch(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return e.last(ctx)
		case errors.Is(err, errs.Conflict):
			e.catalog.StopWriting(err)
			return fmt.Errorf("export the catalog: %w", err)
		case err != nil:
			e.logger.Warn("catalog changes not in the store, will try again", zap.Error(err), zap.Duration("pause", pause))
			wait(ctx, pause, nil)
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		e.gather(ctx)
	}
}

// last ships what is left when the program stops: what nobody waits for is in
// the file and would be shipped by the next start, but the store is better.
func (e *Exporter) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := e.shipAll(ctx); err != nil {
		e.logger.Warn("catalog changes not in the store, the next start ships them", zap.Error(err))
	}
	return nil
}

// Ship ships what is in the outbox now, for a program that does not run: init's
// and rebuild's.
func (e *Exporter) Ship(ctx context.Context) error {
	if err := e.shipAll(ctx); err != nil {
		return fmt.Errorf("export the catalog: %w", err)
	}
	return nil
}

// watch looks whether another controller has claimed a higher epoch: one that
// has nothing to write would not notice otherwise. A store that does not answer
// is no reason to stop.
func (e *Exporter) watch(ctx context.Context) error {
	if time.Since(e.watched) < watchEpochs {
		return nil
	}
	e.watched = time.Now()
	err := e.log.Reigning(ctx)
	if err != nil && !errors.Is(err, errs.Conflict) {
		e.logger.Warn("epochs not looked at, will try again", zap.Error(err))
		return nil
	}
	return err
}

// shipAll ships until the outbox is empty.
func (e *Exporter) shipAll(ctx context.Context) error {
	for {
		full, err := e.fullDue(ctx)
		if err != nil {
			return err
		}
		s, ok, err := e.catalog.NextShipment(ctx, full)
		if err != nil || !ok {
			return err
		}
		head, err := e.append(ctx, s)
		if err != nil {
			return err
		}
		if err := e.catalog.Shipped(ctx, s, head); err != nil {
			return err
		}
		if err := e.full(ctx, s, head); err != nil {
			return err
		}
	}
}

// append puts a shipment into the log, once.
func (e *Exporter) append(ctx context.Context, s catalog.Shipment) (catalog.Witness, error) {
	if e.put.through == s.Through {
		return e.put.head, nil
	}
	class := repo.LogAsynchronous
	if s.Synchronous {
		class = repo.LogSynchronous
	}
	w, err := e.log.Append(ctx, class, s.Payload)
	if err != nil {
		return catalog.Witness{}, err
	}
	e.put.through = s.Through
	e.put.head = catalog.Witness{Repository: w.Repository, Epoch: w.Epoch, Number: w.Number, Hash: w.Hash, Seen: time.Now().UTC()}
	return e.put.head, nil
}

// gather returns when something is to be shipped (at once when somebody waits
// for it, else when the oldest change is AsyncDelay old), and when the epochs are
// to be looked at.
func (e *Exporter) gather(ctx context.Context) {
	for ctx.Err() == nil {
		age, synchronous, err := e.catalog.Waiting(ctx)
		if err != nil || synchronous || age >= AsyncDelay || time.Since(e.watched) >= watchEpochs {
			return
		}
		if age == 0 {
			wait(ctx, watchEpochs, e.catalog.Changed())
		} else {
			wait(ctx, AsyncDelay-age, e.catalog.Changed())
		}
	}
}

// wait waits for a time, a signal or the end.
func wait(ctx context.Context, d time.Duration, signal <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-signal:
	case <-ctx.Done():
	}
}
