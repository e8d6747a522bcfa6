package api_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

// mostForAByte bounds the memory that one byte of a message becomes, so that the
// largest message of the wire cannot take more than mostForAByte times
// rpc.MaxMessage (4 MiB): two bytes name an empty message in a list.
const mostForAByte = 192

// within measures fn, and again if that was too much: the first time also makes
// what a type of message needs once, and what other tests have left running
// allocates now and then.
func within(bound int64, fn func()) (got int64, ok bool) {
	for range 3 {
		if got = repotest.Allocated(fn); got <= bound {
			return got, true
		}
	}
	return got, false
}

// TestAMessageAllocatesByWhatArrives decodes for every field of every message of
// the wire and of the catalog: a length of 2 GiB that is not there, and as many
// empty elements as a small message has room for.
func TestAMessageAllocatesByWhatArrives(t *testing.T) {
	const room = 8 << 10
	messages, fields, most := 0, 0, int64(0)
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		d := mt.Descriptor()
		if !strings.HasPrefix(string(d.FullName()), "tuskvault.") || d.IsMapEntry() {
			return true
		}
		messages++
		fields += d.Fields().Len()
		got, ok := within(64<<10, func() {
			for i := range d.Fields().Len() {
				f := d.Fields().Get(i)
				claim := append(protowire.AppendVarint(protowire.AppendTag(nil, f.Number(), protowire.BytesType), 1<<31-1), make([]byte, 8)...)
				if proto.Unmarshal(claim, mt.New().Interface()) == nil {
					t.Errorf("%s: a length of 2 GiB that is not there was taken", f.FullName())
				}
			}
		})
		if !ok {
			t.Errorf("%s: lengths of 2 GiB: %d bytes allocated", d.FullName(), got)
		}
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if !f.IsList() && !f.IsMap() {
				continue
			}
			element := protowire.AppendVarint(protowire.AppendTag(nil, f.Number(), protowire.BytesType), 0)
			many := bytes.Repeat(element, room/len(element))
			got, ok := within(mostForAByte*room, func() { _ = proto.Unmarshal(many, mt.New().Interface()) })
			if most = max(most, got); !ok {
				t.Errorf("%s: %d bytes allocated for %d that arrived", f.FullName(), got, room)
			}
		}
		return true
	})
	t.Logf("%d messages, %d fields; at most %d bytes for a byte, %d MiB for the largest message", messages, fields, most/room, most/room*rpc.MaxMessage>>20)
	if messages < 100 {
		t.Errorf("only %d messages are looked at", messages)
	}
}
