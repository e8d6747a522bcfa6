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

// ParseKeyObject takes the key of a wrap of a master key apart; master is that
// key's number.
func ParseKeyObject(key string) (id ID, master uint64, err error) {
	rest, ok := strings.CutPrefix(key, KeysPrefix)
	name, master, numbered := cutMaster(rest)
	if !ok || !numbered || !fromHex(id[:], name) {
		return id, 0, notAKey(key, "key")
	}
	return id, master, nil
}

// ParseSuccessionObject takes the key of a succession of master keys apart.
func ParseSuccessionObject(key string) (master uint64, err error) {
	n, ok := parseSuccession(key)
	if !ok {
		return 0, notAKey(key, "succession")
	}
	return n, nil
}

// ParseCAObject takes the key of a certificate authority apart; master is the
// number of the master key under which it is sealed.
func ParseCAObject(key string) (serial string, master uint64, err error) {
	rest, ok := strings.CutPrefix(key, CAPrefix)
	serial, master, numbered := cutMaster(rest)
	if !ok || !numbered || !serialPattern.MatchString(serial) {
		return "", 0, notAKey(key, "ca")
	}
	return serial, master, nil
}

// InspectSuccession checks the structure of a succession of master keys. The one
// in force is opened too, where a key is at hand.
func (r *Repository) InspectSuccession(ctx context.Context, master uint64) error {
	if current := r.current(); current.number == master {
		_, err := r.openSuccession(ctx, master, current.key)
		return err
	}
	return InspectSuccession(ctx, r.store, master)
}

// InspectSuccession checks the structure of a succession without a key.
func InspectSuccession(ctx context.Context, store blob.Store, master uint64) error {
	_, _, _, err := (&Repository{store: store}).readSuccession(ctx, master)
	return err
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
	// Master is the number of the master key under which its roots are sealed.
	Master uint64
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
	return DomainRecord{Domain: id, Generation: generation, Cut: chunk.Params(c.Cut), SealEpoch: c.SealEpoch, Master: c.master()}, nil
}

// OpenDomainRecord opens the roots in a domain's record that was found under
// key, whatever generation it is, if it is sealed under the master key in force.
func (r *Repository) OpenDomainRecord(key string, text []byte) (seal.DomainKeys, error) {
	id, generation, err := ParseDomainObject(key)
	if err != nil {
		return seal.DomainKeys{}, err
	}
	d, err := r.decodeDomain(r.current(), id, generation, text)
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
	current := r.current()
	master, err := r.unwrap(ctx, wrap{id, current.number}, unlockers)
	if err != nil {
		return err
	}
	if master != current.key {
		return fmt.Errorf("key %s: opens to another master key: %w", id.Short(), errs.Corrupt)
	}
	return nil
}

// InspectKey checks the structure of a key object without its secret.
func InspectKey(ctx context.Context, store blob.Store, key string) error {
	if _, _, err := ParseKeyObject(key); err != nil {
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
