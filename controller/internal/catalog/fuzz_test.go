package catalog_test

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// FuzzImport makes a catalog from any payload, as a rebuild does: it is refused
// with a kind, or gives a catalog that opens.
func FuzzImport(f *testing.F) {
	id := make([]byte, 16)
	for _, value := range map[string]proto.Message{
		"agents": &catalogpb.Agent{Name: "db1"}, "instances": &catalogpb.Instance{Name: "main"}, "snapshots": &catalogpb.Snapshot{}, "jobs": &catalogpb.Job{},
		"operators": &catalogpb.Operator{}, "tokens": &catalogpb.Token{},
	} {
		v, err := proto.Marshal(value)
		if err != nil {
			f.Fatal(err)
		}
		for bucket := range map[string]bool{"agents": true, "instances": true, "snapshots": true, "jobs": true, "operators": true, "tokens": true, "audit": true, "meta": true} {
			b, err := proto.Marshal(&catalogpb.LogRecord{Schema: catalog.SchemaVersion, Batches: []*catalogpb.Batch{{Sequence: 1, Changes: []*catalogpb.Change{{Bucket: bucket, Key: id, Value: v}, {Bucket: bucket, Key: id}}}}})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add(catalog.TakeOver())
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, payload []byte) {
		path := filepath.Join(t.TempDir(), "catalog.db")
		i, err := catalog.NewImport(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Apply(payload); err != nil {
			if errs.KindOf(err) == nil {
				t.Errorf("an error without a kind: %v", err)
			}
			if err := i.Abandon(); err != nil {
				t.Error(err)
			}
			return
		}
		c, err := i.Finish(t.Context(), catalog.Meta{Epoch: 2, Name: "x", Created: time.Unix(1, 0)})
		if err != nil {
			if errs.KindOf(err) == nil {
				t.Errorf("an error without a kind: %v", err)
			}
			_ = i.Abandon() // there is nothing left to give up
			return
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if c, err = catalog.Open(t.Context(), path, catalog.Options{Detached: true}); err != nil {
			t.Fatalf("a catalog that was made does not open: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
