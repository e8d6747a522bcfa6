package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// CopyState is how far a copy of the repository was when it was last compared.
// It is of the moment and not exported: the next comparison finds it again.
type CopyState struct {
	Name string
	// Location is its store, without credentials.
	Location string
	// Begun is when the repository was begun or found in it, Compared when it was
	// last compared to the end, Complete when it last had everything.
	Begun, Compared, Complete time.Time
	// Objects and Bytes were not copied then, Oldest is the time of the oldest of them.
	Objects, Bytes int64
	Oldest         time.Time
	// Strays are objects in the copy alone that nothing permits to delete, LeftOut
	// those that could not be copied because they are damaged.
	Strays, LeftOut int64
	// Late tells that its lag was told of, and not yet its end.
	Late bool
	// Returned tells that it held objects when this catalog first met it: what is in
	// it alone may have been deleted while nobody looked.
	Returned bool
}

// Permit says that an object was deleted from the store on purpose, so that
// copies may follow.
type Permit struct {
	// Object is a key, or a prefix that ends in "/" and stands for everything under it.
	Object string
	Since  time.Time
}

// keyCopy is followed by the copy's name.
const keyCopy = "copy/"

// Copy gives the state of a copy, NotFound when this catalog never met it.
func (tx *Tx) Copy(name string) (CopyState, error) {
	return get(tx, bucketMeta, []byte(keyCopy+name), "copy "+name, fromCopyState)
}

// Copies gives the state of every copy, by name.
func (tx *Tx) Copies() ([]CopyState, error) {
	var out []CopyState
	c := tx.cursor(bucketMeta)
	for k, v := c.Seek([]byte(keyCopy)); k != nil && bytes.HasPrefix(k, []byte(keyCopy)); k, v = c.Next() {
		s, err := decode(bucketMeta, k, v, fromCopyState)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// PutCopy writes the state of a copy.
func (tx *Tx) PutCopy(s CopyState) error {
	if s.Name == "" || s.Begun.IsZero() {
		return fmt.Errorf("copy %q: without name or time: %w", s.Name, errs.Invalid)
	}
	return tx.put(bucketMeta, []byte(keyCopy+s.Name), toCopyState(s))
}

// DeleteCopy forgets a copy.
func (tx *Tx) DeleteCopy(name string) error { return tx.delete(bucketMeta, []byte(keyCopy+name)) }

// PermitDelete notes, in the transaction that records what will be deleted from
// the store, that copies may follow once it is gone there: keys of objects, or
// prefixes that end in "/". Whoever deletes an object without it raises an alarm,
// and the object comes back from a copy.
func (tx *Tx) PermitDelete(since time.Time, objects ...string) error {
	for _, o := range objects {
		if o == "" || o == "/" || since.IsZero() {
			return fmt.Errorf("permit to delete %q: without object or time: %w", o, errs.Invalid)
		}
		if err := tx.put(bucketPermits, []byte(o), &catalogpb.Permit{Object: o, Since: stamp(since)}); err != nil {
			return err
		}
	}
	return nil
}

// Permitted tells whether an object may be deleted from copies.
func (tx *Tx) Permitted(object string) (bool, error) {
	for at := object; at != ""; {
		_, err := get(tx, bucketPermits, []byte(at), "permit", fromPermit)
		if err == nil || !errors.Is(err, errs.NotFound) {
			return err == nil, err
		}
		// The next longer folder: "a/b/c", "a/b/", "a/".
		at = at[:strings.LastIndexByte(strings.TrimSuffix(at, "/"), '/')+1]
	}
	return false, nil
}

// Permits gives the permits after one, by object. Nothing may be written while it
// goes on.
func (tx *Tx) Permits(after string) iter.Seq2[Permit, error] {
	return func(yield func(Permit, error) bool) {
		c := tx.cursor(bucketPermits)
		k, v := c.Seek([]byte(after))
		if k != nil && string(k) == after {
			k, v = c.Next()
		}
		for ; k != nil; k, v = c.Next() {
			p, err := decode(bucketPermits, k, v, fromPermit)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// DropPermits forgets permits that every copy has followed.
func (tx *Tx) DropPermits(objects ...string) error {
	for _, o := range objects {
		if err := tx.delete(bucketPermits, []byte(o)); err != nil {
			return err
		}
	}
	return nil
}

func toCopyState(s CopyState) *catalogpb.CopyState {
	return &catalogpb.CopyState{Name: s.Name, Location: s.Location, Begun: stamp(s.Begun), Compared: stamp(s.Compared), Complete: stamp(s.Complete),
		Objects: s.Objects, Bytes: s.Bytes, Oldest: stamp(s.Oldest), Strays: s.Strays, LeftOut: s.LeftOut, Late: s.Late, Returned: s.Returned}
}

func fromCopyState(_ *decoder, s *catalogpb.CopyState) CopyState {
	return CopyState{Name: s.GetName(), Location: s.GetLocation(), Begun: moment(s.GetBegun()), Compared: moment(s.GetCompared()), Complete: moment(s.GetComplete()),
		Objects: s.GetObjects(), Bytes: s.GetBytes(), Oldest: moment(s.GetOldest()), Strays: s.GetStrays(), LeftOut: s.GetLeftOut(), Late: s.GetLate(), Returned: s.GetReturned()}
}

func fromPermit(_ *decoder, p *catalogpb.Permit) Permit {
	return Permit{Object: p.GetObject(), Since: moment(p.GetSince())}
}
