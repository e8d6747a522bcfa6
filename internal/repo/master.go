package repo

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// firstMaster is the number of the master key that Init makes. Objects sealed
	// under it do not say so.
	firstMaster = 1
	// maxSuccessions bounds the master keys that may have a succession at once: each
	// is looked at when the repository is opened.
	maxSuccessions = 64
	// maxCatalogKeys bounds the older catalog keys that are kept: log records are, for
	// 30 days and three full records, and nobody changes master keys that often.
	maxCatalogKeys = 256

	purposeSuccession = "succession"
)

// masters are the keys that a repository is read and written with.
type masters struct {
	// number and key of the master key in force.
	number uint64
	key    seal.MasterKey
	// catalogs are the catalog keys of those before it, oldest first.
	catalogs []catalogKey
}

// catalogKey is the catalog key of a master key that was replaced. Log records up
// to the number through may be sealed under it; none after it may, or whoever has
// an old master key could go on with the log.
type catalogKey struct {
	through uint64
	key     seal.Key
}

// opening gives the keys that a record of this number may be sealed under, the
// likeliest first.
func (m *masters) opening(number uint64) []seal.Key {
	keys := []seal.Key{m.key.Catalog()}
	for _, c := range slices.Backward(m.catalogs) {
		if number <= c.through {
			keys = append(keys, c.key)
		}
	}
	return keys
}

// all gives every catalog key.
func (m *masters) all() []seal.Key { return m.opening(0) }

// openCatalog opens a blob under the first of the keys that fits.
func openCatalog(keys []seal.Key, purpose string, aad, sealed []byte) (plain []byte, err error) {
	for i, k := range keys {
		var keyErr error
		if plain, keyErr = seal.OpenBlob(k, purpose, aad, sealed); keyErr == nil {
			return plain, nil
		}
		if i == 0 {
			err = keyErr
		}
	}
	return nil, err
}

// succession is the object with which a master key takes over from another one:
// it gives whoever has the new key the older catalog keys, and names the log
// record that makes the change true.
type succession struct {
	successionClear
	catalogs []catalogKey
	// hash is the SHA-256 of the object.
	hash [32]byte
}

// successionClear is the part that needs no key; the seal binds it.
type successionClear struct {
	Version int `json:"version"`
	// Master is the number of the new key, Previous that of the one it replaces.
	Master   uint64 `json:"master"`
	Previous uint64 `json:"previous"`
	// Log is the number of the record of the catalog log that makes it true.
	Log uint64 `json:"log"`
	// Time by the clock of whoever made it.
	Time time.Time `json:"time"`
}

type successionJSON struct {
	Clear json.RawMessage `json:"clear"`
	// Sealed are the older catalog keys: for each the last number, u64, and the key.
	Sealed []byte `json:"sealed"`
}

// rekeyJSON is the payload of the log record that makes a succession true.
type rekeyJSON struct {
	Version int    `json:"version"`
	Master  uint64 `json:"master"`
	// Object is the SHA-256 of the succession object.
	Object string `json:"object"`
}

func (s *succession) rekey() ([]byte, error) {
	return json.Marshal(rekeyJSON{Version: 1, Master: s.Master, Object: hex.EncodeToString(s.hash[:])})
}

// seal gives the object's bytes, under the new master key.
func (s *succession) seal(r *Repository, m seal.MasterKey) ([]byte, error) {
	key := SuccessionObject(s.Master)
	clearText, err := json.Marshal(s.successionClear)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	var plain []byte
	for _, c := range s.catalogs {
		plain = append(binary.BigEndian.AppendUint64(plain, c.through), c.key[:]...)
	}
	sealed, err := seal.SealBlob(m.Catalog(), purposeSuccession, append(r.aad(key), clearText...), plain)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(successionJSON{Clear: clearText, Sealed: sealed})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	s.hash = sha256.Sum256(text)
	return text, nil
}

// readSuccession reads what needs no key.
func (r *Repository) readSuccession(ctx context.Context, number uint64) (*succession, []byte, successionJSON, error) {
	text, err := blob.ReadAll(ctx, r.store, SuccessionObject(number), maxKeyBytes)
	if err != nil {
		return nil, nil, successionJSON{}, err
	}
	s, j, err := parseSuccessionText(number, text)
	return s, text, j, err
}

// parseSuccessionText reads what a succession says in clear.
func parseSuccessionText(number uint64, text []byte) (*succession, successionJSON, error) {
	key := SuccessionObject(number)
	var j successionJSON
	s := &succession{hash: sha256.Sum256(text)}
	err := strictJSON(text, &j)
	if err == nil {
		err = strictJSON(j.Clear, &s.successionClear)
	}
	if err != nil || s.Version != 1 || s.Master != number || s.Previous == 0 || s.Previous >= number || s.Log == 0 {
		return nil, j, fmt.Errorf("%s: succession of master key %d by %d: %w", key, s.Previous, s.Master, errors.Join(err, errs.Corrupt))
	}
	return s, j, nil
}

// openSuccession reads a succession and opens it by the new master key.
func (r *Repository) openSuccession(ctx context.Context, number uint64, m seal.MasterKey) (*succession, error) {
	s, _, j, err := r.readSuccession(ctx, number)
	if err != nil {
		return nil, err
	}
	key := SuccessionObject(number)
	plain, err := seal.OpenBlob(m.Catalog(), purposeSuccession, append(r.aad(key), j.Clear...), j.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	d := decoder{rest: plain}
	for len(d.rest) > 0 && !d.failed {
		c := catalogKey{through: d.u64()}
		d.fill(c.key[:])
		s.catalogs = append(s.catalogs, c)
	}
	if err := d.finish(); err != nil || len(s.catalogs) == 0 || len(s.catalogs) > maxCatalogKeys {
		return nil, fmt.Errorf("%s: %d older keys: %w", key, len(s.catalogs), errs.Corrupt)
	}
	return s, nil
}

// errNotInForce is what a master key is that was prepared and never took over.
var errNotInForce = errors.New("it was prepared and never came into force")

// accede tells whether a master key that a wrap gave is the one in force, and
// gives all that is read with it. errNotInForce when its succession was broken
// off; errs.Denied when another one has replaced it.
func (r *Repository) accede(ctx context.Context, number uint64, m seal.MasterKey, successions []uint64) (*masters, error) {
	out := &masters{number: number, key: m}
	if number > firstMaster {
		s, err := r.openSuccession(ctx, number, m)
		if errors.Is(err, errs.NotFound) {
			return nil, errNotInForce
		}
		if err != nil {
			return nil, err
		}
		out.catalogs = s.catalogs
		done, err := r.succeeded(ctx, s, out.catalogs[len(out.catalogs)-1].key, func(err error) bool { return err == nil }, m)
		if err != nil {
			return nil, err
		}
		if !done {
			return nil, errNotInForce
		}
	}
	for _, n := range successions {
		if n <= number {
			continue
		}
		s, _, _, err := r.readSuccession(ctx, n)
		if harmful(err) {
			continue // anybody who can write to the store can put rubbish there
		}
		if err != nil {
			return nil, err
		}
		done := false
		if s.Previous == number {
			done, err = r.succeeded(ctx, s, m.Catalog(), func(err error) bool { return errors.Is(err, errs.Corrupt) }, m)
		}
		if err != nil {
			return nil, err
		}
		if done {
			return nil, fmt.Errorf("it opens to master key %d, which was replaced on %s: %w", number, s.Time.UTC().Format(time.DateOnly), errs.Denied)
		}
	}
	return out, nil
}

// succeeded tells whether the log made a succession true: its record is there,
// sealed under the catalog key before. Where the log has been shortened, the newest full
// record after it tells instead, by what becomes of it under the key m.
func (r *Repository) succeeded(ctx context.Context, s *succession, before seal.Key, full func(error) bool, m seal.MasterKey) (bool, error) {
	key := LogObject(s.Log)
	raw, err := blob.ReadAll(ctx, r.store, key, maxRecordBytes)
	if err == nil {
		rec, err := r.openRecordWith([]seal.Key{before}, key, raw)
		if err != nil || rec.Class != LogRekey {
			return false, nil
		}
		want, err := s.rekey()
		return err == nil && string(rec.Payload) == string(want), err
	}
	if !errors.Is(err, errs.NotFound) {
		return false, err
	}
	k, err := r.logKeys(ctx)
	if err != nil || k.full <= s.Log {
		return false, err
	}
	key = FullObject(k.full)
	raw, err = blob.ReadAll(ctx, r.store, key, maxFullBytes)
	if err == nil {
		_, err = r.openRecordWith([]seal.Key{m.Catalog()}, key, raw)
	}
	if err != nil && !harmful(err) {
		return false, err
	}
	return full(err), nil
}

// wrap is where a wrap of a master key is.
type wrap struct {
	id     ID
	master uint64
}

func (w wrap) object() string { return keyObjectOf(w.id, w.master) }

// keyList is what there is under keys/.
type keyList struct {
	wraps       []wrap   // in order of their keys
	successions []uint64 // ascending
}

// newest is the greatest number that anything says.
func (l *keyList) newest() (n uint64) {
	for _, w := range l.wraps {
		n = max(n, w.master)
	}
	for _, s := range l.successions {
		n = max(n, s)
	}
	return n
}

func (r *Repository) listKeys(ctx context.Context) (*keyList, error) {
	l := &keyList{}
	err := r.store.List(ctx, KeysPrefix, "", func(info blob.Info) error {
		if n, ok := parseSuccession(info.Key); ok {
			if l.successions = append(l.successions, n); len(l.successions) > maxSuccessions {
				return fmt.Errorf("more than %d successions: %w", maxSuccessions, errs.Corrupt)
			}
			return nil
		}
		id, master, err := ParseKeyObject(info.Key)
		if err != nil {
			return err
		}
		// Those that were replaced stay until they may be deleted.
		if l.wraps = append(l.wraps, wrap{id, master}); len(l.wraps) > maxKeys*maxSuccessions {
			return fmt.Errorf("more than %d keys: %w", maxKeys*maxSuccessions, errs.Corrupt)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return l, nil
}

// masterSuffix is what the key of an object ends with that is sealed under a
// master key other than the first.
func masterSuffix(number uint64) string {
	if number == firstMaster {
		return ""
	}
	return "-" + digits(number)
}

// cutMaster takes that apart.
func cutMaster(name string) (rest string, number uint64, ok bool) {
	rest, suffix, cut := strings.Cut(name, "-")
	if !cut {
		return name, firstMaster, true
	}
	number, ok = fromDigits(suffix)
	return rest, number, ok && number > firstMaster
}

// current gives the keys in force.
func (r *Repository) current() *masters {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}

// Master is the number of the master key in force: 1, and greater by at least one after
// each RotateMaster.
func (r *Repository) Master() uint64 { return r.current().number }
