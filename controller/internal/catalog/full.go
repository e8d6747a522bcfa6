package catalog

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// fullBatch is where a batch of a full record ends: its reader applies one at a
// time.
const fullBatch = 1 << 20

// full gives the payload of a full record: every exported record of the catalog
// as this transaction sees it, in the form of a LogRecord whose batches only put.
// More than repo.MaxFullPayload is errs.Exhausted.
func (tx *Tx) full() ([]byte, error) {
	payload := logRecordStart()
	at, err := marshal(&catalogpb.Batch{Time: stamp(now())})
	if err != nil {
		return nil, fmt.Errorf("encode full catalog record: %w", err)
	}
	batch := at
	end := func() {
		payload = protowire.AppendBytes(protowire.AppendTag(payload, 2, protowire.BytesType), batch)
		batch = nil
	}
	for _, b := range recordBuckets() {
		if !b.exported() {
			continue
		}
		c := tx.cursor(b)
		for k, v := c.First(); k != nil; k, v = c.Next() {
			change, err := marshal(&catalogpb.Change{Bucket: string(b), Key: k, Value: v})
			if err != nil {
				return nil, fmt.Errorf("encode full catalog record %s/%x: %w", b, k, err)
			}
			batch = protowire.AppendBytes(protowire.AppendTag(batch, 3, protowire.BytesType), change) // Batch.changes
			if len(batch) >= fullBatch {
				end()
			}
			if len(payload)+len(batch) > repo.MaxFullPayload-64 {
				return nil, fmt.Errorf("full catalog record: more than %d bytes: %w", repo.MaxFullPayload, errs.Exhausted)
			}
		}
	}
	if len(batch) > 0 {
		end()
	}
	return payload, nil
}

// logRecordStart begins the payload of a record of the log.
func logRecordStart() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), SchemaVersion)
}

// TakeOver is the payload of the record by which a new controller makes the log
// its own: it changes nothing.
func TakeOver() []byte { return logRecordStart() }

// Full gives the payload of a full record of the catalog as it is now, changes
// that wait in the outbox included: whoever reads them again after it from the
// log gets the same.
func (c *Catalog) Full(ctx context.Context) (payload []byte, err error) {
	err = c.View(ctx, func(tx *Tx) (err error) { payload, err = tx.full(); return err })
	return payload, err
}

// LastFull tells which full record this catalog wrote last and when; 0 when none.
func (c *Catalog) LastFull(ctx context.Context) (number uint64, at time.Time, err error) {
	err = c.View(ctx, func(tx *Tx) error {
		m, err := tx.Meta()
		number, at = m.FullNumber, m.FullTime
		return err
	})
	return number, at, err
}

// FullPut notes that the full record of this number is in the store.
func (c *Catalog) FullPut(ctx context.Context, number uint64) error {
	return c.Update(ctx, Local, func(tx *Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		m.FullNumber, m.FullTime = number, now()
		return tx.PutMeta(m)
	})
}
