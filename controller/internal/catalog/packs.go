package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func packKey(job repo.JobID, id PackID) []byte { return join(job[:], id[:]) }

// openKey gives the place of a pack in the index of those that still need
// something, nil when it needs nothing.
func openKey(p Pack) []byte {
	if p.State == PackIndexed {
		return nil
	}
	return join([]byte{byte(p.State)}, p.Job[:], p.ID[:])
}

// Pack gives the record of a pack that a job put.
func (tx *Tx) Pack(job repo.JobID, id PackID) (Pack, error) {
	return get(tx, bucketPacks, packKey(job, id), fmt.Sprintf("pack %x of job %s", id[:6], job), fromPack)
}

// PutPack writes the record of a pack.
func (tx *Tx) PutPack(p Pack) error {
	if p.Job.IsZero() || p.State < PackIntent || p.State > PackIndexed {
		return fmt.Errorf("pack %x: without job or state: %w", p.ID[:6], errs.Invalid)
	}
	var was []byte
	old, err := tx.Pack(p.Job, p.ID)
	switch {
	case err == nil:
		was = openKey(old)
	case !errors.Is(err, errs.NotFound):
		return err
	}
	if err := tx.move(indexPacksOpen, was, openKey(p)); err != nil {
		return err
	}
	return tx.put(bucketPacks, packKey(p.Job, p.ID), toPack(p))
}

// DeletePack removes the record of a pack; one that does not exist is no error.
func (tx *Tx) DeletePack(job repo.JobID, id PackID) error {
	old, err := tx.Pack(job, id)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	}
	if err := tx.move(indexPacksOpen, openKey(old), nil); err != nil {
		return err
	}
	return tx.delete(bucketPacks, packKey(job, id))
}

// PacksOf gives the packs of a job, of all its attempts. Nothing may be written
// while it goes on.
func (tx *Tx) PacksOf(job repo.JobID) iter.Seq2[Pack, error] {
	return func(yield func(Pack, error) bool) {
		c := tx.cursor(bucketPacks)
		for k, v := c.Seek(job[:]); k != nil && bytes.HasPrefix(k, job[:]); k, v = c.Next() {
			p, err := decode(bucketPacks, k, v, fromPack)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// OpenPacks gives all packs in state PackIntent or PackStored, of all jobs.
// Nothing may be written while it goes on.
func (tx *Tx) OpenPacks(state PackState) iter.Seq2[Pack, error] {
	return func(yield func(Pack, error) bool) {
		c := tx.cursor(indexPacksOpen)
		for k, _ := c.Seek([]byte{byte(state)}); k != nil && k[0] == byte(state); k, _ = c.Next() {
			p, err := get(tx, bucketPacks, k[1:], "pack", fromPack)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// SweepPacks removes the records of a job's indexed packs: once the job has
// ended, nobody asks for them.
func (tx *Tx) SweepPacks(job repo.JobID) error {
	var done []PackID
	for p, err := range tx.PacksOf(job) {
		if err != nil {
			return err
		}
		if p.State == PackIndexed {
			done = append(done, p.ID)
		}
	}
	for _, id := range done {
		if err := tx.DeletePack(job, id); err != nil {
			return err
		}
	}
	return nil
}
