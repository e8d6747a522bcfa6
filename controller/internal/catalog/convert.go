package catalog

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The convert files are the border between records and their stored form:
// one pair of functions a record. An empty id, hash or time is stored as
// nothing; one of a wrong length is damage.

// decoder keeps the first thing that was wrong in a stored record.
type decoder struct{ err error }

func (d *decoder) id(field string, b []byte) (id repo.ID) {
	d.fixed(field, id[:], b)
	return id
}

func (d *decoder) domain(field string, b []byte) (id seal.DomainID) {
	d.fixed(field, id[:], b)
	return id
}

func (d *decoder) hash(field string, b []byte) (h [32]byte) {
	d.fixed(field, h[:], b)
	return h
}

func (d *decoder) fixed(field string, dst, b []byte) {
	switch {
	case len(b) == len(dst):
		copy(dst, b)
	case len(b) != 0 && d.err == nil:
		d.err = fmt.Errorf("field %s has %d bytes: %w", field, len(b), errs.Corrupt)
	}
}

// opaque gives the bytes of an id or hash, nothing when it is zero.
func opaque[A ~[16]byte | ~[32]byte](a A) []byte {
	var zero A
	if a == zero {
		return nil
	}
	b := make([]byte, len(a))
	for i := range b {
		b[i] = a[i]
	}
	return b
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func toFence(f repo.Fence) *catalogpb.Fence {
	if f == (repo.Fence{}) {
		return nil
	}
	return &catalogpb.Fence{Epoch: f.Epoch, Counter: f.Counter}
}

func fromFence(f *catalogpb.Fence) repo.Fence {
	return repo.Fence{Epoch: f.GetEpoch(), Counter: f.GetCounter()}
}

// each converts a list; an empty one stays nil.
func each[A, B any](in []A, convert func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = convert(a)
	}
	return out
}
