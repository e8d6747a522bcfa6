package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// The way of a change to the store, in order of its durable steps:
//
//  1. The transaction that makes the change also writes its batch into the
//     outbox. A crash leaves both or neither.
//  2. NextShipment groups batches into one payload and keeps it. A crash leaves
//     a shipment that the next start gives out again, with the same bytes.
//  3. The exporter puts it into the log. A crash leaves a record that the next
//     start recognizes, since it puts the same bytes under the same number.
//  4. Shipped deletes the batches and the shipment and notes the log's head.

// shipmentTarget is where grouping batches ends: large enough for hours of a
// quiet fleet in one object, small beside repo.MaxLogPayload.
const shipmentTarget = 1 << 20

// maxBatch bounds what one transaction may change, so that each batch fits a record.
const maxBatch = repo.MaxLogPayload - 4096

const keyNext = "next"

// Shipment is the next record for the catalog log.
type Shipment struct {
	// Through is the number of the last batch inside.
	Through uint64
	// Synchronous tells that somebody waits for it.
	Synchronous bool
	// Payload is what the record holds.
	Payload []byte
	// Full is the payload of a full record: the whole catalog as it is once this
	// shipment is in the log. Nil unless one was asked for; FullErr says why it could
	// not be made.
	Full    []byte
	FullErr error
}

// flush writes what the transaction changed into the outbox and returns the
// batch's number, 0 when there is nothing to export.
func (tx *Tx) flush(class Class) (uint64, error) {
	if len(tx.changes) == 0 {
		return 0, nil
	}
	outbox := tx.bucket(bucketOutbox)
	sequence, err := outbox.NextSequence()
	if err != nil {
		return 0, classify(err)
	}
	v, err := marshal(&catalogpb.Batch{Sequence: sequence, Time: stamp(now()), Changes: tx.changes, Synchronous: class == Sync})
	if err != nil {
		return 0, fmt.Errorf("encode catalog batch: %w", err)
	}
	if len(v) > maxBatch {
		return 0, fmt.Errorf("catalog change of %d bytes: more than %d: %w", len(v), maxBatch, errs.Exhausted)
	}
	return sequence, classify(outbox.Put(numberKey(sequence), v))
}

// Changed is signaled when something was put into the outbox.
func (c *Catalog) Changed() <-chan struct{} { return c.changed }

// NextShipment gives the next record for the log, false when the outbox is
// empty. Until Shipped was called with it, it is the same one, also after a
// restart.
//
// With full, the whole catalog comes with the shipment, if that is prepared now
// and empties the outbox: nobody can change the catalog meanwhile, so what is in
// the full record is exactly what the log says up to this shipment. That takes
// about a second for each 100 MB of catalog.
func (c *Catalog) NextShipment(ctx context.Context, full bool) (Shipment, bool, error) {
	var s Shipment
	find := func(tx *Tx) (err error) { s, err = tx.shipment(); return err }
	err := c.View(ctx, find)
	if err == nil || !errors.Is(err, errs.NotFound) {
		return s, err == nil, err
	}
	err = c.Update(ctx, Local, func(tx *Tx) error {
		last, err := tx.prepareShipment()
		if err != nil {
			return err
		}
		if err := find(tx); err != nil || !full || !last {
			return err
		}
		s.Full, s.FullErr = tx.full() // without one the log goes on
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

func (tx *Tx) shipment() (Shipment, error) {
	return get(tx, bucketShipping, []byte(keyNext), "catalog shipment", func(_ *decoder, p *catalogpb.Shipment) Shipment {
		return Shipment{Through: p.GetThrough(), Synchronous: p.GetSynchronous(), Payload: p.GetPayload()}
	})
}

// prepareShipment groups batches, and tells whether they are all there are;
// NotFound when there are none.
func (tx *Tx) prepareShipment() (all bool, err error) {
	next := &catalogpb.Shipment{Payload: logRecordStart()}
	all = true
	c := tx.cursor(bucketOutbox)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if next.Through != 0 && len(next.Payload)+len(v) > shipmentTarget {
			all = false
			break
		}
		synchronous, err := isSynchronous(k, v)
		if err != nil {
			return false, err
		}
		// A stored batch is embedded as it is: field 2 of LogRecord.
		next.Payload = protowire.AppendBytes(protowire.AppendTag(next.Payload, 2, protowire.BytesType), v)
		next.Through = number(k)
		next.Synchronous = next.Synchronous || synchronous
	}
	if next.Through == 0 {
		return false, fmt.Errorf("catalog outbox: %w", errs.NotFound)
	}
	return all, tx.put(bucketShipping, []byte(keyNext), next)
}

func isSynchronous(k, v []byte) (bool, error) {
	return decode(bucketOutbox, k, v, func(_ *decoder, b *catalogpb.Batch) bool { return b.GetSynchronous() })
}

// Shipped notes that the shipment is the log's record head.
func (c *Catalog) Shipped(ctx context.Context, s Shipment, head Witness) error {
	err := c.Update(ctx, Local, func(tx *Tx) error {
		for {
			k, _ := tx.cursor(bucketOutbox).First()
			if k == nil || number(k) > s.Through {
				break
			}
			if err := tx.delete(bucketOutbox, k); err != nil {
				return err
			}
		}
		if err := tx.delete(bucketShipping, []byte(keyNext)); err != nil {
			return err
		}
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		m.Head = head
		return tx.PutMeta(m)
	})
	if err != nil {
		return fmt.Errorf("note shipped catalog changes: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shipped, c.head = s.Through, head
	c.wakeLocked()
	return nil
}

// Waiting tells how old the oldest change is that is not in the store, 0 when
// all are, and whether somebody waits for one.
func (c *Catalog) Waiting(ctx context.Context) (age time.Duration, synchronous bool, err error) {
	err = c.View(ctx, func(tx *Tx) error {
		k, v := tx.cursor(bucketOutbox).First()
		if k == nil {
			return nil
		}
		at, err := decode(bucketOutbox, k, v, func(_ *decoder, b *catalogpb.Batch) time.Time { return moment(b.GetTime()) })
		age = max(time.Since(at), 1)
		return err
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return age, c.awaited > c.shipped, err
}
