package repo

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The places of objects in a store (docs/FORMAT.md, "Objects"). Keys hold ids
// and numbers only, never names of hosts or databases.
const (
	// DescriptionObject is the key of repository.json.
	DescriptionObject = "repository.json"
	// KeysPrefix holds one object an unlocker.
	KeysPrefix = "keys/"
	// DomainsPrefix holds one folder a domain.
	DomainsPrefix = "domains/"
	// CAPrefix holds the sealed certificate authorities.
	CAPrefix = "ca/"
	// EpochsPrefix holds one claim a controller epoch.
	EpochsPrefix = "epochs/"
	// PacksPrefix holds one folder a domain.
	PacksPrefix = "packs/"
	// IndexesPrefix holds one folder a domain.
	IndexesPrefix = "index/"
	// SnapshotsPrefix holds one folder an instance.
	SnapshotsPrefix = "snapshots/"
	// CatalogPrefix holds the catalog log.
	CatalogPrefix = "catalog/"
	// BallastPrefix holds random bytes that go first when the store is full.
	BallastPrefix = "ballast/"
	// QuarantinePrefix keeps damaged objects that were replaced by good ones: below
	// it, the SHA-256 of what was kept, then the object's key.
	QuarantinePrefix = "quarantine/"
)

// The ends of keys of the catalog log.
const (
	logSuffix  = ".log"
	fullSuffix = ".full"
)

// KeyObject is the key of the wrap of the first master key with the given id.
func KeyObject(id ID) string { return keyObjectOf(id, firstMaster) }

// keyObjectOf is the key of the wrap of a master key by its number.
func keyObjectOf(id ID, master uint64) string { return KeysPrefix + id.String() + masterSuffix(master) }

// successionName begins the name of a succession, which no id does.
const successionName = KeysPrefix + "master-"

// SuccessionObject is the key of the object with which the master key of this
// number takes over.
func SuccessionObject(master uint64) string { return successionName + digits(master) }

func parseSuccession(key string) (uint64, bool) {
	rest, ok := strings.CutPrefix(key, successionName)
	n, numeric := fromDigits(rest)
	return n, ok && numeric && n > firstMaster
}

// DomainPrefix is where all generations of a domain's record are.
func DomainPrefix(d seal.DomainID) string { return DomainsPrefix + hexDomain(d) + "/" }

// DomainObject is the key of one generation of a domain's record.
func DomainObject(d seal.DomainID, generation uint64) string {
	return DomainPrefix(d) + digits(generation)
}

// CAObject is the key of the certificate authority with the given serial
// number, which is 1 to 40 lower-case hex digits, sealed under the first master key.
func CAObject(serial string) string { return caObjectOf(serial, firstMaster) }

// caObjectOf is the key of one that is sealed under the master key of this number.
func caObjectOf(serial string, master uint64) string { return CAPrefix + serial + masterSuffix(master) }

// EpochObject is the key of the claim of a controller epoch.
func EpochObject(epoch uint64) string { return EpochsPrefix + digits(epoch) }

// PackPrefix is where all packs of a domain are.
func PackPrefix(d seal.DomainID) string { return PacksPrefix + hexDomain(d) + "/" }

// PackObject is the key of a pack. The folder between is the first byte of the
// pack's id, so that no folder of a store on disk becomes huge.
func PackObject(d seal.DomainID, p pack.ID) string {
	id := p.String()
	return PackPrefix(d) + id[:2] + "/" + id
}

// IndexPrefix is where all index files of a domain are.
func IndexPrefix(d seal.DomainID) string { return IndexesPrefix + hexDomain(d) + "/" }

// IndexObject is the key of an index file; its id is the SHA-256 of its bytes.
func IndexObject(d seal.DomainID, file [32]byte) string {
	return IndexPrefix(d) + hex.EncodeToString(file[:])
}

// SnapshotPrefix is where all snapshots of an instance are.
func SnapshotPrefix(instance InstanceID) string { return SnapshotsPrefix + instance.String() + "/" }

// SnapshotObject is the key of the snapshot that a job made, or of the abort
// marker in its place.
func SnapshotObject(instance InstanceID, job JobID) string {
	return SnapshotPrefix(instance) + job.String()
}

// LogObject is the key of a record of the catalog log.
func LogObject(number uint64) string { return CatalogPrefix + digits(number) + logSuffix }

// FullObject is the key of the full record that holds the catalog as it was
// after the log record of the same number.
func FullObject(number uint64) string { return CatalogPrefix + digits(number) + fullSuffix }

// BallastObject is the key of a piece of ballast.
func BallastObject(n uint64) string { return BallastPrefix + digits(n) }

// ParseBallastObject takes the key of a piece of ballast apart.
func ParseBallastObject(key string) (uint64, error) {
	text, ok := strings.CutPrefix(key, BallastPrefix)
	n, digits := fromDigits(text)
	if !ok || !digits {
		return 0, notAKey(key, "a piece of ballast")
	}
	return n, nil
}

// ParsePackObject takes the key of a pack apart.
func ParsePackObject(key string) (seal.DomainID, pack.ID, error) {
	var id pack.ID
	d, rest, err := cutDomain(key, PacksPrefix)
	if err != nil {
		return d, id, err
	}
	folder, name, ok := strings.Cut(rest, "/")
	if !ok || len(name) != 64 || folder != name[:2] || !fromHex(id[:], name) {
		return d, id, notAKey(key, "pack")
	}
	return d, id, nil
}

// ParseIndexObject takes the key of an index file apart.
func ParseIndexObject(key string) (seal.DomainID, [32]byte, error) {
	var file [32]byte
	d, rest, err := cutDomain(key, IndexesPrefix)
	if err != nil {
		return d, file, err
	}
	if !fromHex(file[:], rest) {
		return d, file, notAKey(key, "index file")
	}
	return d, file, nil
}

// ParseDomainObject takes the key of a domain's record apart.
func ParseDomainObject(key string) (seal.DomainID, uint64, error) {
	d, rest, err := cutDomain(key, DomainsPrefix)
	if err != nil {
		return d, 0, err
	}
	n, ok := fromDigits(rest)
	if !ok {
		return d, 0, notAKey(key, "domain record")
	}
	return d, n, nil
}

// ParseSnapshotObject takes the key of a snapshot apart.
func ParseSnapshotObject(key string) (InstanceID, JobID, error) {
	var instance, job ID
	first, second, ok := strings.Cut(strings.TrimPrefix(key, SnapshotsPrefix), "/")
	if !strings.HasPrefix(key, SnapshotsPrefix) || !ok || !fromHex(instance[:], first) || !fromHex(job[:], second) {
		return instance, job, notAKey(key, "snapshot")
	}
	return instance, job, nil
}

// ParseCatalogObject takes the key of a record of the catalog log apart; full
// tells a full record from one of the log.
func ParseCatalogObject(key string) (number uint64, full bool, err error) {
	rest, ok := strings.CutPrefix(key, CatalogPrefix)
	name, isLog := strings.CutSuffix(rest, logSuffix)
	if !isLog {
		name, full = strings.CutSuffix(rest, fullSuffix)
	}
	number, numeric := fromDigits(name)
	if !ok || !isLog && !full || !numeric {
		return 0, false, notAKey(key, "catalog record")
	}
	return number, full, nil
}

// ParseEpochObject takes the key of an epoch's claim apart.
func ParseEpochObject(key string) (uint64, error) {
	rest, ok := strings.CutPrefix(key, EpochsPrefix)
	n, numeric := fromDigits(rest)
	if !ok || !numeric {
		return 0, notAKey(key, "epoch")
	}
	return n, nil
}

// numberWidth is enough for every uint64, so that byte order is number order.
const numberWidth = 20

func digits(n uint64) string { return fmt.Sprintf("%0*d", numberWidth, n) }

func fromDigits(s string) (uint64, bool) {
	if len(s) != numberWidth || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func hexDomain(d seal.DomainID) string { return hex.EncodeToString(d[:]) }

func cutDomain(key, prefix string) (seal.DomainID, string, error) {
	var d seal.DomainID
	name, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	if !strings.HasPrefix(key, prefix) || !ok || !fromHex(d[:], name) {
		return d, "", notAKey(key, strings.TrimSuffix(prefix, "/"))
	}
	return d, rest, nil
}

// fromHex reads exactly len(dst) bytes as lower-case hex digits: an id has one
// spelling, else two keys could mean one object.
func fromHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

func notAKey(key, what string) error {
	return fmt.Errorf("object %q: not the key of a %s: %w", key, what, errs.Invalid)
}
