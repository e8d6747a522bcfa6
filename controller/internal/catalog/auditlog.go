package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// AppendAudit appends a record to the audit chain. Number, Previous and Hash are
// given here, and Time when it is zero.
func (tx *Tx) AppendAudit(r AuditRecord) (AuditRecord, error) {
	r.Number, r.Previous = 1, [32]byte{}
	if k, v := tx.cursor(bucketAudit).Last(); k != nil {
		last, err := decode(bucketAudit, k, v, fromAudit)
		if err != nil {
			return r, err
		}
		r.Number, r.Previous = last.Number+1, last.Hash
	}
	if r.Time.IsZero() {
		r.Time = now()
	}
	r.Hash = r.Sum()
	return r, tx.put(bucketAudit, numberKey(r.Number), toAudit(r))
}

// Sum computes the hash of the record: SHA-256 over number, time, each text with
// its length before it, and the hash of the record before.
func (r AuditRecord) Sum() [32]byte {
	b := append([]byte("tuskvault audit 1\n"), numberKey(r.Number)...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	for _, s := range []string{r.Actor, r.Address, r.Action, r.Object, r.Outcome, r.Detail} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(append(b, r.Previous[:]...))
}

// Audit lists the audit trail, oldest first.
func (tx *Tx) Audit(page Page) ([]AuditRecord, string, error) {
	return list(tx, bucketAudit, nil, page, func(k, v []byte) (AuditRecord, error) { return decode(bucketAudit, k, v, fromAudit) }, nil)
}

// VerifyAudit tells whether the whole chain holds: numbers without gaps, each
// record with its hash and that of the one before. It returns how many there are.
func (tx *Tx) VerifyAudit() (uint64, error) {
	var n uint64
	var previous [32]byte
	c := tx.cursor(bucketAudit)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, err := decode(bucketAudit, k, v, fromAudit)
		if err != nil {
			return n, err
		}
		if r.Number != n+1 || number(k) != r.Number || r.Previous != previous || r.Hash != r.Sum() {
			return n, fmt.Errorf("audit record %d: does not follow the one before: %w", n+1, errs.Corrupt)
		}
		n, previous = r.Number, r.Hash
	}
	return n, nil
}
