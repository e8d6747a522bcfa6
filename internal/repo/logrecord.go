package repo

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of records of the catalog log (docs/FORMAT.md, "Catalog log").
const (
	// MaxLogPayload is the greatest payload of a log record: a batch of changes.
	MaxLogPayload = 16 << 20
	// MaxFullPayload is the greatest payload of a full record: the whole catalog of
	// a large fleet with a month of jobs. Whoever reads one holds it in memory.
	MaxFullPayload = 256 << 20

	logMagic      = "TVC1"
	logVersion    = 1
	logHeaderSize = 64
	purposeLog    = "log"
)

// LogClass says what a record of the catalog log is.
type LogClass byte

// The classes. The numbers are stored.
const (
	// LogSynchronous: the change was not reported as done before the record was in
	// the store.
	LogSynchronous LogClass = 1
	// LogAsynchronous: the record follows the change within seconds.
	LogAsynchronous LogClass = 2
	// LogFull: the whole catalog.
	LogFull LogClass = 3
	// LogRekey: what follows is sealed under another master key. It is the format's
	// own, holds no change of the catalog and is not given to who replays the log.
	LogRekey LogClass = 4
)

// Witness is a position in the catalog log: whoever kept one can tell later that
// the store is not older than it was. Number 0 is the position before the first
// record; its hash is zero.
type Witness struct {
	Repository RepositoryID
	// Epoch of the controller that wrote the record.
	Epoch  uint64
	Number uint64
	// Hash is the SHA-256 of the record.
	Hash [32]byte
}

// String gives "NUMBER/EPOCH/first digits of the hash".
func (w Witness) String() string {
	return fmt.Sprintf("%d/%d/%s", w.Number, w.Epoch, hex.EncodeToString(w.Hash[:4]))
}

// LogRecord is a record of the catalog log, opened.
type LogRecord struct {
	// Number of the record; of a full record, that of the last log record it holds.
	Number uint64
	// Epoch of the controller that wrote it.
	Epoch uint64
	Class LogClass
	// Previous is the hash of the log record before it; of a full record, that of
	// the log record of the same number.
	Previous [32]byte
	// Payload is the caller's.
	Payload []byte
}

func (r *LogRecord) key() string {
	if r.Class == LogFull {
		return FullObject(r.Number)
	}
	return LogObject(r.Number)
}

func (r *LogRecord) maxPayload() int {
	if r.Class == LogFull {
		return MaxFullPayload
	}
	return MaxLogPayload
}

// sealRecord gives the bytes of a record: a clear header and the compressed
// payload, sealed under the catalog key. The header is bound by the seal.
func (r *Repository) sealRecord(rec *LogRecord) ([]byte, error) {
	if len(rec.Payload) > rec.maxPayload() {
		return nil, fmt.Errorf("%s: payload of %d bytes, at most %d: %w", rec.key(), len(rec.Payload), rec.maxPayload(), errs.Invalid)
	}
	encoder, err := r.encoder()
	if err != nil {
		return nil, fmt.Errorf("%s: compress: %w", rec.key(), err)
	}
	packed := encoder.EncodeAll(rec.Payload, nil)
	b := make([]byte, 0, logHeaderSize+sealOverhead+len(packed))
	b = append(b, logMagic...)
	b = append(b, logVersion, byte(rec.Class), 0, 0)
	b = binary.BigEndian.AppendUint64(b, rec.Number)
	b = binary.BigEndian.AppendUint64(b, rec.Epoch)
	b = append(b, rec.Previous[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(packed)+sealOverhead))
	sealed, err := seal.SealBlob(r.current().key.Catalog(), purposeLog, append(r.aad(rec.key()), b...), packed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rec.key(), err)
	}
	return append(b, sealed...), nil
}

// openRecord reads what sealRecord gives. key is where it was found.
func (r *Repository) openRecord(key string, raw []byte) (*LogRecord, error) {
	number, _, err := ParseCatalogObject(key)
	if err != nil {
		return nil, err
	}
	return r.openRecordWith(r.current().opening(number), key, raw)
}

// openRecordWith opens a record by the first of the keys that fits.
func (r *Repository) openRecordWith(keys []seal.Key, key string, raw []byte) (*LogRecord, error) {
	rec, sealed, err := decodeRecordHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if rec.key() != key {
		return nil, fmt.Errorf("%s: holds %s: %w", key, rec.key(), errs.Corrupt)
	}
	aad := append(r.aad(key), raw[:logHeaderSize]...)
	packed, err := openCatalog(keys, purposeLog, aad, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	rec.Payload, err = inflate(packed, int64(rec.maxPayload()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, err, errs.Corrupt)
	}
	return rec, nil
}

func decodeRecordHeader(raw []byte) (*LogRecord, []byte, error) {
	d := decoder{rest: raw}
	if !d.magic(logMagic) {
		return nil, nil, fmt.Errorf("not a record of the catalog log: %w", errs.Corrupt)
	}
	version, class, reserved := d.u8(), d.u8(), d.u16()
	if version > logVersion {
		return nil, nil, fmt.Errorf("record of version %d: %w", version, errs.Unsupported)
	}
	rec := &LogRecord{Class: LogClass(class), Number: d.u64(), Epoch: d.u64()}
	d.fill(rec.Previous[:])
	length := d.u64()
	if d.failed || version != logVersion || reserved != 0 || class < byte(LogSynchronous) || class > byte(LogRekey) ||
		rec.Number == 0 || rec.Epoch == 0 || length != uint64(len(d.rest)) {
		return nil, nil, fmt.Errorf("header of record %d (class %d, epoch %d, %d bytes): %w", rec.Number, class, rec.Epoch, length, errs.Corrupt)
	}
	return rec, d.rest, nil
}

func (r *Repository) witness(rec *LogRecord, raw []byte) Witness {
	return Witness{Repository: r.ID(), Epoch: rec.Epoch, Number: rec.Number, Hash: sha256.Sum256(raw)}
}
