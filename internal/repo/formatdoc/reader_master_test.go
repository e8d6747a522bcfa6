package formatdoc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// older is a catalog key of an older master key, and the last log record that may
// be sealed under it: Master keys.
type older struct {
	last    uint64
	catalog []byte
}

// findMaster follows Unlockers and Master keys: of the master keys that a key file
// opens, the one in force.
func (o *opened) findMaster(root []byte, description [32]byte, keys []string) error {
	found := map[uint64][]byte{}
	for _, key := range keys {
		id, digits, later := strings.Cut(strings.TrimPrefix(key, "keys/"), "-")
		if id == "master" {
			continue // a succession
		}
		number := uint64(1)
		if later {
			var err error
			if number, err = strconv.ParseUint(digits, 10, 64); err != nil || len(digits) != 20 {
				return fmt.Errorf("key %s: %w", key, err)
			}
		}
		master, err := o.unwrap(root, description, key)
		if err != nil {
			return err
		}
		if master != nil {
			found[number] = master
		}
	}
	for number, master := range found {
		succession, ok, err := o.inForce(number, master)
		if err != nil {
			return err
		}
		if ok && number > o.number {
			o.number, o.master, o.succession = number, master, succession
		}
	}
	if o.number == 0 {
		return errors.New("no key is for this key file")
	}
	return nil
}

// unwrap gives the master key of a wrap, nil when that is for another unlocker.
func (o *opened) unwrap(root []byte, description [32]byte, key string) ([]byte, error) {
	wrap, err := o.read(key)
	if err != nil {
		return nil, err
	}
	if string(wrap[:4]) != "TVKW" || wrap[4] != formatNumber || wrap[6] != 0 || wrap[7] != 0 {
		return nil, fmt.Errorf("%s is no wrap", key)
	}
	if sum := sha256.Sum256(slices.Concat(wrap[:144], wrap[176:])); !bytes.Equal(sum[:], wrap[144:176]) {
		return nil, fmt.Errorf("%s is damaged", key)
	}
	salt := wrap[20:52]
	if wrap[5] != 1 || !bytes.Equal(derive(root, []byte("unlock-commit"), salt), wrap[112:144]) {
		return nil, nil
	}
	return unseal(derive(root, []byte("unlock-seal"), salt), wrap[52:112], slices.Concat(wrap[:52], description[:], []byte(key)))
}

// inForce follows Master keys: whether a log record has put the key in force.
func (o *opened) inForce(number uint64, master []byte) ([]older, bool, error) {
	if number == 1 {
		return nil, true, nil
	}
	key := fmt.Sprintf("keys/master-%020d", number)
	text, err := o.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var object struct {
		Clear  json.RawMessage
		Sealed []byte
	}
	var clear struct{ Version, Master, Previous, Log uint64 }
	if err := errors.Join(json.Unmarshal(text, &object), json.Unmarshal(object.Clear, &clear)); err != nil {
		return nil, false, err
	}
	catalog := derive(master, []byte("catalog"))
	plain, err := unsealBlob(catalog, "succession", object.Sealed, slices.Concat(o.id, []byte(key), object.Clear))
	if err != nil || clear.Version != 1 || clear.Master != number || len(plain)%40 != 0 || len(plain) == 0 {
		return nil, false, fmt.Errorf("%s: %w", key, err)
	}
	var keys []older
	for ; len(plain) > 0; plain = plain[40:] {
		keys = append(keys, older{u64(plain), plain[8:40]})
	}
	before := keys[len(keys)-1]
	if before.last != clear.Log {
		return nil, false, fmt.Errorf("%s: its last key ends at record %d, not %d", key, before.last, clear.Log)
	}
	r, err := o.record(fmt.Sprintf("catalog/%020d.log", clear.Log), before.catalog)
	if err != nil {
		// Shortened: the newest full record says it.
		fulls, listErr := o.keys("catalog/")
		fulls = slices.DeleteFunc(fulls, func(k string) bool { return !strings.HasSuffix(k, ".full") })
		if listErr != nil || len(fulls) == 0 || !errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil
		}
		_, err = o.record(fulls[len(fulls)-1], catalog)
		return keys, err == nil, nil
	}
	var named struct {
		Master uint64
		Object string
	}
	sum := sha256.Sum256(text)
	if r.class != 4 || json.Unmarshal(r.payload, &named) != nil {
		return nil, false, nil
	}
	return keys, named.Master == number && named.Object == hex.EncodeToString(sum[:]), nil
}

// record is a record of the log.
type record struct {
	class         byte
	number, epoch uint64
	before, hash  [32]byte
	payload       []byte
}

// record follows Catalog log: it opens one record under one catalog key.
func (o *opened) record(key string, catalog []byte) (*record, error) {
	b, err := o.read(key)
	if err != nil {
		return nil, err
	}
	if len(b) < 64 || string(b[:4]) != "TVC1" || b[4] != 1 || u64(b[56:]) != uint64(len(b)-64) {
		return nil, fmt.Errorf("%s is no record", key)
	}
	r := &record{class: b[5], number: u64(b[8:]), epoch: u64(b[16:]), before: [32]byte(b[24:56]), hash: sha256.Sum256(b)}
	packed, err := unsealBlob(catalog, "log", b[64:], slices.Concat(o.id, []byte(key), b[:64]))
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	r.payload, err = decoder.DecodeAll(packed, nil)
	return r, err
}

// catalogKey is the one under which a log record of that number is sealed.
func (o *opened) catalogKey(number uint64) []byte {
	for _, k := range o.succession {
		if number <= k.last {
			return k.catalog
		}
	}
	return derive(o.master, []byte("catalog"))
}

// log reads the whole log, from record 1, and holds its records together.
func (o *opened) log() (all []*record, full *record, err error) {
	keys, err := o.keys("catalog/")
	if err != nil {
		return nil, nil, err
	}
	for _, key := range keys {
		name, isFull := strings.CutSuffix(strings.TrimPrefix(key, "catalog/"), ".full")
		number, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 64)
		if err != nil {
			return nil, nil, err
		}
		r, err := o.record(key, o.catalogKey(number))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", key, err)
		}
		if r.number != number || isFull != (r.class == 3) {
			return nil, nil, fmt.Errorf("%s holds record %d of class %d", key, r.number, r.class)
		}
		if isFull {
			full = r
			continue
		}
		var before record
		if len(all) > 0 {
			before = *all[len(all)-1]
		}
		if r.number != before.number+1 || r.before != before.hash || r.epoch < before.epoch {
			return nil, nil, fmt.Errorf("%s does not follow record %d", key, before.number)
		}
		all = append(all, r)
	}
	return all, full, nil
}

// authorities follows CA: those under the master key in force, by serial number.
func (o *opened) authorities() (map[string]string, error) {
	keys, err := o.keys("ca/")
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, key := range keys {
		serial, digits, later := strings.Cut(strings.TrimPrefix(key, "ca/"), "-")
		if later != (o.number > 1) || later && digits != fmt.Sprintf("%020d", o.number) {
			continue
		}
		b, err := o.read(key)
		if err != nil {
			return nil, err
		}
		plain, err := unsealBlob(derive(o.master, []byte("ca")), "ca", b, slices.Concat(o.id, []byte(key)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all[serial] = string(plain)
	}
	return all, nil
}
