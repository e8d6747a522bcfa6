package api_test

import (
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

// TestAMessageAllocatesByWhatArrives decodes for every field of every message of
// the wire and of the catalog: a length of 2 GiB that is not there, and as many
// empty elements as a small message has room for.
func TestAMessageAllocatesByWhatArrives(t *testing.T) {
	const room = 16 << 10
	messages, fields, most := 0, 0, 0.0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		d := mt.Descriptor()
		if !strings.HasPrefix(string(d.FullName()), "tuskvault.") || d.IsMapEntry() {
			return true
		}
		messages++
		all := d.Fields()
		for i := range all.Len() {
			f := all.Get(i)
			fields++
			tag := protowire.AppendTag(nil, f.Number(), protowire.BytesType)
			claim := append(protowire.AppendVarint(tag, 1<<31-1), make([]byte, 8)...)
			var err error
			if got := repotest.Allocated(func() { err = proto.Unmarshal(claim, mt.New().Interface()) }); err == nil || got > 64<<10 {
				t.Errorf("%s: a length of 2 GiB: %d bytes allocated, %v", f.FullName(), got, err)
			}
			if !f.IsList() && !f.IsMap() {
				continue
			}
			element := protowire.AppendVarint(protowire.AppendTag(nil, f.Number(), protowire.BytesType), 0)
			var many []byte
			for len(many) < room {
				many = append(many, element...)
			}
			got := float64(repotest.Allocated(func() { _ = proto.Unmarshal(many, mt.New().Interface()) })) / room
			if most = max(most, got); got > mostForAByte {
				t.Errorf("%s: %.0f bytes allocated for each byte that arrived", f.FullName(), got)
			}
		}
		return true
	})
	t.Logf("%d messages, %d fields; at most %.0f bytes for a byte, %.0f MiB for the largest message", messages, fields, most, most*rpc.MaxMessage/(1<<20))
	if messages < 100 {
		t.Errorf("only %d messages are looked at", messages)
	}
}
