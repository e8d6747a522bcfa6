package catalog

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Check gives the last check of the repository, NotFound when there was none.
func (tx *Tx) Check() (Check, error) {
	return get(tx, bucketMeta, []byte(keyCheck), "check of the repository", fromCheck)
}

// PutCheck replaces it. What is beyond its bounds is cut off and counted.
func (tx *Tx) PutCheck(c Check) error {
	if c.ID.IsZero() || c.State < CheckRunning || c.State > CheckCanceled {
		return fmt.Errorf("check of the repository: without id or state: %w", errs.Invalid)
	}
	c.Findings = slices.Clone(c.Findings[:min(len(c.Findings), MaxCheckFindings)])
	c.Hurt = c.Hurt[:min(len(c.Hurt), MaxCheckHurt)]
	for i := range c.Findings {
		f := &c.Findings[i]
		if more := len(f.Effects) - MaxCheckEffects; more > 0 {
			f.Effects, f.EffectsMore = f.Effects[:MaxCheckEffects], f.EffectsMore+int64(more)
		}
	}
	return tx.put(bucketMeta, []byte(keyCheck), toCheck(c))
}

// Scrub gives how far the scrub is, NotFound before it ever ran.
func (tx *Tx) Scrub() (Scrub, error) {
	return get(tx, bucketMeta, []byte(keyScrub), "state of the scrub", fromScrub)
}

// PutScrub replaces it.
func (tx *Tx) PutScrub(s Scrub) error { return tx.put(bucketMeta, []byte(keyScrub), toScrub(s)) }

func damagedKey(domain seal.DomainID, pack PackID) []byte {
	return join([]byte(keyDamaged), domain[:], pack[:])
}

// DamagedPacks gives every pack that is known to be damaged, by domain and id.
// Nothing may be written while it goes on.
func (tx *Tx) DamagedPacks() iter.Seq2[DamagedPack, error] {
	return func(yield func(DamagedPack, error) bool) {
		c := tx.cursor(bucketMeta)
		for k, v := c.Seek([]byte(keyDamaged)); k != nil && bytes.HasPrefix(k, []byte(keyDamaged)); k, v = c.Next() {
			p, err := decode(bucketMeta, k, v, fromDamagedPack)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// DamagedPack gives what is known of the damage of a pack, NotFound when nothing is.
func (tx *Tx) DamagedPack(domain seal.DomainID, pack PackID) (DamagedPack, error) {
	return get(tx, bucketMeta, damagedKey(domain, pack), fmt.Sprintf("damaged pack %x", pack[:6]), fromDamagedPack)
}

// PutDamagedPack notes a damaged pack.
func (tx *Tx) PutDamagedPack(p DamagedPack) error {
	if p.Found.IsZero() || !p.Whole && len(p.Frames) == 0 {
		return fmt.Errorf("damaged pack %x: without time or place: %w", p.Pack[:6], errs.Invalid)
	}
	return tx.put(bucketMeta, damagedKey(p.Domain, p.Pack), toDamagedPack(p))
}

// DeleteDamagedPack notes that a pack is whole, or gone; one that was not known
// to be damaged is no error.
func (tx *Tx) DeleteDamagedPack(domain seal.DomainID, pack PackID) error {
	return tx.delete(bucketMeta, damagedKey(domain, pack))
}
