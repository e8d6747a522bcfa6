package repo

import (
	"context"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// What a check of a repository needs beyond what its users do: to look at one
// object as it is, with keys or without.

// ParseKeyObject takes the key of a wrap of the master key apart.
func ParseKeyObject(key string) (ID, error) {
	var id ID
	if rest, ok := strings.CutPrefix(key, KeysPrefix); !ok || !fromHex(id[:], rest) {
		return id, notAKey(key, "key")
	}
	return id, nil
}

// ParseCAObject takes the key of a certificate authority apart.
func ParseCAObject(key string) (serial string, err error) {
	serial, ok := strings.CutPrefix(key, CAPrefix)
	if !ok || !serialPattern.MatchString(serial) {
		return "", notAKey(key, "ca")
	}
	return serial, nil
}

// MaxObjectBytes is the greatest size of the small objects whose key starts with
// one of the prefixes, in bytes; 0 for prefixes of others (docs/FORMAT.md,
// "Objects").
func MaxObjectBytes(key string) int64 {
	switch {
	case key == DescriptionObject:
		return maxDescriptionBytes
	case strings.HasPrefix(key, KeysPrefix):
		return maxKeyBytes
	case strings.HasPrefix(key, DomainsPrefix):
		return maxDomainBytes
	case strings.HasPrefix(key, CAPrefix):
		return maxCABytes
	case strings.HasPrefix(key, EpochsPrefix):
		return maxEpochBytes
	case strings.HasPrefix(key, SnapshotsPrefix):
		return MaxSnapshotBytes
	case strings.HasSuffix(key, fullSuffix):
		return maxFullBytes
	case strings.HasSuffix(key, logSuffix):
		return maxRecordBytes
	}
	return 0
}

// DomainRecord is what one generation of a domain's record says in clear.
type DomainRecord struct {
	Domain     seal.DomainID
	Generation uint64
	Cut        chunk.Params
	SealEpoch  uint32
}

// InspectDomain reads the clear part of a domain's record that was found under
// key. It needs no key. What is wrong is errs.Corrupt or errs.Unsupported.
func InspectDomain(key string, text []byte) (DomainRecord, error) {
	id, generation, err := ParseDomainObject(key)
	if err != nil {
		return DomainRecord{}, err
	}
	_, c, err := parseDomain(text)
	if err == nil {
		err = c.check(id, generation)
	}
	if err != nil {
		return DomainRecord{}, fmt.Errorf("%s: %w", key, err)
	}
	return DomainRecord{Domain: id, Generation: generation, Cut: chunk.Params(c.Cut), SealEpoch: c.SealEpoch}, nil
}

// OpenDomainRecord opens the roots in a domain's record that was found under
// key, whatever generation it is.
func (r *Repository) OpenDomainRecord(key string, text []byte) (seal.DomainKeys, error) {
	id, generation, err := ParseDomainObject(key)
	if err != nil {
		return seal.DomainKeys{}, err
	}
	d, err := r.decodeDomain(id, generation, text)
	if err != nil {
		return seal.DomainKeys{}, fmt.Errorf("%s: %w", key, err)
	}
	return d.keys, nil
}

// InspectLogRecord reads the clear header of a record of the catalog log that
// was found under key. It needs no key; the payload stays sealed and is not in
// the record. What is wrong is errs.Corrupt or errs.Unsupported.
func InspectLogRecord(key string, raw []byte) (*LogRecord, error) {
	rec, _, err := decodeRecordHeader(raw)
	if err == nil && rec.key() != key {
		err = fmt.Errorf("holds %s: %w", rec.key(), errs.Corrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return rec, nil
}

// OpenLogRecord authenticates and opens a record of the catalog log that was
// found under key.
func (r *Repository) OpenLogRecord(key string, raw []byte) (*LogRecord, error) {
	return r.openRecord(key, raw)
}

// VerifyKey tells whether a key of the repository opens to its master key:
// errs.Denied when none of the unlockers is for it, errs.Corrupt when it is
// damaged, was put in another's place, or opens to something else.
func (r *Repository) VerifyKey(ctx context.Context, id ID, unlockers []seal.Unlocker) error {
	master, err := r.unwrap(ctx, id, unlockers)
	if err != nil {
		return err
	}
	if master != r.master {
		return fmt.Errorf("key %s: opens to another master key: %w", id.Short(), errs.Corrupt)
	}
	return nil
}

// InspectKey checks the structure of a key object without its secret.
func InspectKey(ctx context.Context, store blob.Store, key string) error {
	if _, err := ParseKeyObject(key); err != nil {
		return err
	}
	wrapped, err := blob.ReadAll(ctx, store, key, maxKeyBytes)
	if err != nil {
		return err
	}
	if _, err := seal.WrapKindOf(wrapped); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
