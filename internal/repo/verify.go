package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// VerifyObject tells whether bytes are those of the object under a key, as far
// as anything in them can tell: hashes, seals and MACs that bind them to the key
// and to the repository. It is for objects that are read whole; packs and index
// files, whose ids are hashes of them, are errs.Invalid here. What is wrong is
// errs.Corrupt or errs.Unsupported; a key of no object is errs.Invalid.
//
// A wrap of the master key for another's unlocker, and a succession, are verified
// by what they say in clear only, and so is what another master key seals than
// the one in force: it is about to be used, or to go. A snapshot's commit record needs the domain's keys, which are read from
// the store unless they are known.
func (r *Repository) VerifyObject(ctx context.Context, key string, raw []byte) error {
	err := r.verifyObject(ctx, key, raw)
	if err != nil {
		return fmt.Errorf("verify object %s: %w", key, err)
	}
	return nil
}

func (r *Repository) verifyObject(ctx context.Context, key string, raw []byte) error {
	kind, _, _ := strings.Cut(key, "/")
	switch kind {
	case DescriptionObject:
		if sha256.Sum256(raw) != r.description.Hash {
			return fmt.Errorf("is not the one that the keys are bound to: %w", errs.Corrupt)
		}
		return nil
	case "keys":
		if n, ok := parseSuccession(key); ok {
			_, _, err := parseSuccessionText(n, raw)
			return err
		}
		if _, _, err := ParseKeyObject(key); err != nil {
			return err
		}
		_, err := seal.WrapKindOf(raw)
		return err
	case "domains":
		_, err := r.OpenDomainRecord(key, raw)
		if errors.Is(err, errOtherMaster) {
			return nil // its structure was looked at
		}
		return err
	case "ca":
		_, master, err := ParseCAObject(key)
		m := r.current()
		if err != nil || master != m.number {
			return err
		}
		_, err = seal.OpenBlob(m.key.CA(), purposeCA, r.aad(key), raw)
		return err
	case "epochs":
		n, err := ParseEpochObject(key)
		if err == nil {
			_, err = r.openEpoch(key, n, raw)
		}
		return err
	case "snapshots":
		return r.verifySnapshot(ctx, key, raw)
	case "catalog":
		if _, _, err := ParseCatalogObject(key); err != nil {
			return err
		}
		_, err := r.openRecord(key, raw)
		return err
	}
	return fmt.Errorf("is not verified as a whole: %w", errs.Invalid)
}

func (r *Repository) verifySnapshot(ctx context.Context, key string, raw []byte) error {
	instance, job, err := ParseSnapshotObject(key)
	if err != nil {
		return err
	}
	h, err := DecodeSnapshotHeader(raw)
	if err != nil {
		return err
	}
	d, err := r.Domain(ctx, h.Domain)
	if err != nil {
		return err
	}
	_, err = d.decode(raw, instance, job)
	return err
}

// SnapshotLogNumber reads, from the end of a snapshot object that a listing gave,
// the number of the catalog log record after which it was made. Nothing vouches
// for it: what must not be wrong is verified by VerifyObject.
func (r *Repository) SnapshotLogNumber(ctx context.Context, key string, size int64) (uint64, error) {
	if size < SnapshotHeaderSize+commitRecordSize || size > MaxSnapshotBytes {
		return 0, fmt.Errorf("object %s: %d bytes: %w", key, size, errs.Corrupt)
	}
	b, err := blob.ReadRange(ctx, r.store, key, size-commitRecordSize, commitRecordSize)
	if err != nil {
		return 0, err
	}
	d := decoder{rest: b}
	if !d.magic(commitMagic) {
		return 0, fmt.Errorf("object %s: no commit record: %w", key, errs.Corrupt)
	}
	d.take(logNumberAt - len(commitMagic))
	return d.u64(), nil
}

// logNumberAt is where a commit record has the number of the log record.
const logNumberAt = 76
