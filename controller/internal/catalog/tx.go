package catalog

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Tx is a transaction; it is worth nothing after the function it was given to
// has returned. One goroutine at a time. Records it gives are copies.
type Tx struct {
	bolt    *bbolt.Tx
	collect bool
	changes []*catalogpb.Change
}

// Order gives a number that grows with each read-write transaction: whoever
// keeps what a transaction wrote in memory can tell which of two is newer.
func (tx *Tx) Order() int { return tx.bolt.ID() }

func (tx *Tx) bucket(b bucket) *bbolt.Bucket {
	found := tx.bolt.Bucket([]byte(b))
	if found == nil {
		// Open made or migrated every bucket: only a program error gets here.
		panic("catalog: no bucket " + string(b))
	}
	return found
}

func (tx *Tx) cursor(b bucket) *bbolt.Cursor { return tx.bucket(b).Cursor() }

// marshal writes maps in a fixed order, so that equal records are equal bytes.
func marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// message is a generated message M by its pointer.
type message[M any] interface {
	*M
	proto.Message
}

// get reads the record under key; name is what it is for people.
func get[M any, P message[M], R any](tx *Tx, b bucket, key []byte, name string, from func(*decoder, P) R) (R, error) {
	var zero R
	v := tx.bucket(b).Get(key)
	if v == nil {
		return zero, fmt.Errorf("%s: %w", name, errs.NotFound)
	}
	r, err := decode(b, key, v, from)
	if err != nil {
		return zero, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func decode[M any, P message[M], R any](b bucket, key, v []byte, from func(*decoder, P) R) (R, error) {
	var zero R
	m := P(new(M))
	if err := proto.Unmarshal(v, m); err != nil {
		return zero, fmt.Errorf("catalog record %s/%x: %w (%w)", b, key, errs.Corrupt, err)
	}
	d := decoder{}
	r := from(&d, m)
	if d.err != nil {
		return zero, fmt.Errorf("catalog record %s/%x: %w", b, key, d.err)
	}
	return r, nil
}

func (tx *Tx) put(b bucket, key []byte, m proto.Message) error {
	v, err := marshal(m)
	if err != nil {
		return fmt.Errorf("encode catalog record %s/%x: %w (%w)", b, key, errs.Invalid, err)
	}
	if err := tx.bucket(b).Put(key, v); err != nil {
		return fmt.Errorf("write catalog record %s/%x: %w", b, key, classify(err))
	}
	if tx.collect && b.exported() {
		tx.changes = append(tx.changes, &catalogpb.Change{Bucket: string(b), Key: key, Value: v})
	}
	return nil
}

func (tx *Tx) delete(b bucket, key []byte) error {
	if err := tx.bucket(b).Delete(key); err != nil {
		return fmt.Errorf("delete catalog record %s/%x: %w", b, key, classify(err))
	}
	if tx.collect && b.exported() {
		tx.changes = append(tx.changes, &catalogpb.Change{Bucket: string(b), Key: key, Deleted: true})
	}
	return nil
}

// index puts or, with a nil value, deletes an entry of an index.
func (tx *Tx) index(b bucket, key, value []byte) error {
	if value == nil {
		return classify(tx.bucket(b).Delete(key))
	}
	return classify(tx.bucket(b).Put(key, value))
}

// move changes the place of a record in an index.
func (tx *Tx) move(b bucket, from, to []byte) error {
	if string(from) == string(to) {
		return nil
	}
	if from != nil {
		if err := tx.index(b, from, nil); err != nil {
			return err
		}
	}
	if to != nil {
		return tx.index(b, to, []byte{})
	}
	return nil
}

func number(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// newest gives 8 bytes that sort later times first, oldest those that sort
// earlier times first. Times before 1970 count as 1970.
func newest(t time.Time) []byte { return numberKey(^nanos(t)) }

func oldest(t time.Time) []byte { return numberKey(nanos(t)) }

func nanos(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// join concatenates parts of a key.
func join(parts ...[]byte) []byte {
	var key []byte
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}

// lastWith puts a cursor on the last key with a prefix, or, when there is none,
// on the key before where it would be.
func lastWith(c *bbolt.Cursor, prefix []byte) (k, v []byte) {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			break
		}
		end = end[:i]
	}
	if len(end) == 0 {
		return c.Last()
	}
	if k, _ := c.Seek(end); k == nil {
		return c.Last()
	}
	return c.Prev()
}
