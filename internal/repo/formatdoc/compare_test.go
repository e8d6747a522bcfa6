package formatdoc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// byDocument reads all rows of all snapshots by the document alone: snapshot,
// database and table to rows.
func byDocument(t *testing.T, folder string, key []byte) map[string][]byte {
	t.Helper()
	o, err := open(folder, string(key))
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := o.snapshots()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, s := range snapshots {
		for _, db := range s.content.Logical.Databases {
			at := fmt.Sprintf("%x/%s", s.job, db.Name)
			if all[at], err = s.bytesOf(db.Archive.Stream); err != nil {
				t.Fatalf("archive of %s: %v", at, err)
			}
			for _, table := range db.Tables {
				all[at+"/"+table.Schema+"."+table.Name] = []byte{}
				text := int64(0)
				for i, run := range table.Runs {
					b, err := s.bytesOf(run.Stream)
					if err != nil {
						t.Fatalf("run %d of %s.%s of %s: %v", i, table.Schema, table.Name, at, err)
					}
					n := int64(bytes.Count(b, []byte("\n")))
					if run.Binary {
						n = copyRows(t, b)
					} else {
						text += n
					}
					if n != run.Rows {
						t.Errorf("run %d of %s.%s of %s: %d rows, not %d", i, table.Schema, table.Name, at, n, run.Rows)
					}
					all[at+"/"+table.Schema+"."+table.Name] = append(all[at+"/"+table.Schema+"."+table.Name], b...)
				}
				if text != table.Rows {
					t.Errorf("%s.%s of %s: %d rows of text, not %d", table.Schema, table.Name, at, text, table.Rows)
				}
			}
			if l := db.LargeObjects; l != nil {
				if all[at+"/data"], err = s.bytesOf(l.Data); err != nil {
					t.Fatalf("large objects of %s: %v", at, err)
				}
				if all[at+"/meta"], err = s.bytesOf(l.Meta); err != nil {
					t.Fatalf("large objects of %s: %v", at, err)
				}
			}
		}
	}
	return all
}

// copyRows counts rows of COPY binary, as PostgreSQL's documentation gives them.
func copyRows(t *testing.T, b []byte) (n int64) {
	t.Helper()
	for ; len(b) > 0; n++ {
		fields := int(binary.BigEndian.Uint16(b))
		b = b[2:]
		for range fields {
			b = b[4+binary.BigEndian.Uint32(b):]
		}
	}
	return n
}

// byProduct reads the same as the product does.
func byProduct(t *testing.T, folder string, key *seal.KeyFile) map[string][]byte {
	t.Helper()
	store, err := dir.Open(folder)
	must(t, err)
	r, err := offline.Open(t.Context(), store, t.TempDir(), key)
	must(t, err)
	defer func() { must(t, r.Close()) }()
	all := map[string][]byte{}
	must(t, r.List(t.Context(), func(s *offline.Snapshot) error {
		if s.Err != nil {
			return s.Err
		}
		source, err := r.Source(t.Context(), s)
		if err != nil {
			return err
		}
		read := func(at string, streams ...repo.Stream) {
			all[at] = []byte{}
			for _, stream := range streams {
				for c, err := range source.Stream(t.Context(), stream) {
					must(t, err)
					all[at] = append(all[at], c.Plain...)
				}
			}
		}
		for _, db := range s.Content.Logical.Databases {
			at := s.ID.String() + "/" + string(db.Name)
			read(at, db.Archive.Stream)
			for _, table := range db.Tables {
				var streams []repo.Stream
				for _, run := range table.Runs {
					streams = append(streams, run.Stream)
				}
				read(at+"/"+string(table.Schema)+"."+string(table.Name), streams...)
			}
			if l := db.LargeObjects; l != nil {
				read(at+"/data", l.Data)
				read(at+"/meta", l.Meta)
			}
		}
		return nil
	}))
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare reads both ways, with and without index files.
func compare(t *testing.T, folder string, key *seal.KeyFile) {
	t.Helper()
	want := byProduct(t, folder, key)
	if len(want) < 10 {
		t.Fatalf("only %d streams to compare", len(want))
	}
	for _, what := range []string{"with index files", "without"} {
		got := byDocument(t, folder, key.Text())
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			t.Fatalf("%s: the document finds %q, the product %q", what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for at, rows := range want {
			if !bytes.Equal(got[at], rows) {
				t.Errorf("%s: %s: %d bytes by the document, %d by the product, which differ", what, at, len(got[at]), len(rows))
			}
		}
		must(t, os.RemoveAll(filepath.Join(folder, "index")))
	}
}

// TestAReaderWrittenFromTheDocumentReadsWhatTheProductReads on a repository made
// just now.
func TestAReaderWrittenFromTheDocumentReadsWhatTheProductReads(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "repository")
	store, err := dir.Create(folder)
	must(t, err)
	_, key := repotest.Whole(t, store)
	compare(t, folder, key)
}

// TestTheReaderSeesDamage: what it compares is really read.
func TestTheReaderSeesDamage(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "repository")
	store, err := dir.Create(folder)
	must(t, err)
	_, key := repotest.Whole(t, store)
	packs, err := filepath.Glob(filepath.Join(folder, "packs", "*", "*", "*"))
	must(t, err)
	b, err := os.ReadFile(packs[0])
	must(t, err)
	b[100] ^= 1
	must(t, os.WriteFile(packs[0], b, 0o600))
	o, err := open(folder, string(key.Text()))
	must(t, err)
	all, err := o.snapshots()
	must(t, err)
	failed := 0
	for _, s := range all {
		for _, db := range s.content.Logical.Databases {
			if _, err := s.bytesOf(db.Archive.Stream); err != nil {
				failed++
			}
		}
	}
	if failed == 0 {
		t.Error("a changed byte was not noticed")
	}
	if _, err := open(folder, string(seal.NewKeyFile().Text())); err == nil {
		t.Error("another key file opened the repository")
	}
}
