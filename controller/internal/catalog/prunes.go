package catalog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// condemnedBatch is how many packs one record names: 34 KiB.
const condemnedBatch = 1024

// MaxCondemned bounds the packs that one prune condemns: two terabytes of full
// ones, whose ids are one megabyte in one record of the catalog log.
const MaxCondemned = 1 << 15

// Prune gives a prune that has not ended.
func (tx *Tx) Prune(id repo.ID) (Prune, error) {
	return get(tx, bucketPrunes, id[:], "prune "+id.String(), fromPrune)
}

// PutPrune writes a prune's record.
func (tx *Tx) PutPrune(p Prune) error {
	if p.ID.IsZero() || p.Domain == (seal.DomainID{}) || p.Phase < PruneCondemned || p.Phase > PruneDeletable || p.Condemned.IsZero() {
		return fmt.Errorf("prune %s: without id, domain, phase or time: %w", p.ID, errs.Invalid)
	}
	return tx.put(bucketPrunes, p.ID[:], toPrune(p))
}

// Prunes gives every prune that has not ended, by id.
func (tx *Tx) Prunes() ([]Prune, error) {
	var out []Prune
	return out, walkRecords(tx, bucketPrunes, fromPrune, func(p Prune) error { out = append(out, p); return nil })
}

// Condemn writes down which packs a prune has condemned, instead of what was
// written before; none removes all. More than MaxCondemned is errs.Exhausted.
func (tx *Tx) Condemn(id repo.ID, packs []PackID) error {
	if len(packs) > MaxCondemned {
		return fmt.Errorf("prune %s: %d packs, at most %d: %w", id, len(packs), MaxCondemned, errs.Exhausted)
	}
	batch := uint32(0)
	for ; len(packs) > 0; batch++ {
		n := min(len(packs), condemnedBatch)
		if err := tx.put(bucketCondemned, condemnedKey(id, batch), toCondemned(packs[:n])); err != nil {
			return err
		}
		packs = packs[n:]
	}
	for ; tx.bucket(bucketCondemned).Get(condemnedKey(id, batch)) != nil; batch++ {
		if err := tx.delete(bucketCondemned, condemnedKey(id, batch)); err != nil {
			return err
		}
	}
	return nil
}

func condemnedKey(id repo.ID, batch uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), id[:]...), batch)
}

// CondemnedBy gives the packs that a prune has condemned. Nothing may be written
// while it goes on.
func (tx *Tx) CondemnedBy(id repo.ID) iter.Seq2[PackID, error] {
	return func(yield func(PackID, error) bool) {
		c := tx.cursor(bucketCondemned)
		for k, v := c.Seek(id[:]); k != nil && bytes.HasPrefix(k, id[:]); k, v = c.Next() {
			packs, err := decode(bucketCondemned, k, v, fromCondemned)
			if err != nil {
				yield(PackID{}, err)
				return
			}
			for _, p := range packs {
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

// DeletePrune removes a prune that has ended, with the names of its packs.
func (tx *Tx) DeletePrune(id repo.ID) error {
	if err := tx.Condemn(id, nil); err != nil {
		return err
	}
	return tx.delete(bucketPrunes, id[:])
}

// PruneRun gives the last run over the domains, NotFound when there was none.
func (tx *Tx) PruneRun() (PruneRun, error) {
	return get(tx, bucketMeta, []byte(keyPrune), "prune of the repository", fromPruneRun)
}

// PutPruneRun replaces it. Outcomes beyond MaxPruneOutcomes are cut off.
func (tx *Tx) PutPruneRun(r PruneRun) error {
	if r.ID.IsZero() || r.State < PruneRunning || r.State > PruneCanceled {
		return fmt.Errorf("prune of the repository: without id or state: %w", errs.Invalid)
	}
	r.Outcomes = r.Outcomes[:min(len(r.Outcomes), MaxPruneOutcomes)]
	return tx.put(bucketMeta, []byte(keyPrune), toPruneRun(r))
}
