package repo_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The objects that docs/FORMAT.md prints were written once. A difference means
// that repositories written before can no longer be read: change them only
// together with the format number.

// block gives the fenced block of that title in the document.
func block(t testing.TB, title string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```" + regexp.QuoteMeta(title) + "\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("docs/FORMAT.md has no block %q", title)
	}
	return string(m[1])
}

// dump decodes a hex dump of the document.
func dump(t testing.TB, name string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(block(t, "hexdump "+name)) {
		at, rest, _ := strings.Cut(line, "  ")
		columns, _, _ := strings.Cut(rest, "|")
		b, err := hex.DecodeString(strings.ReplaceAll(columns, " ", ""))
		if err != nil || len(b) == 0 {
			t.Fatalf("line %q: %v", line, err)
		}
		if n, err := strconv.ParseInt(at, 16, 64); err != nil || int(n) != len(out) {
			t.Fatalf("line %q: at %d, %v", line, len(out), err)
		}
		out = append(out, b...)
	}
	return out
}

// numbered gives n bytes counted up from first.
func numbered[T ~[16]byte | ~[32]byte](first byte) T {
	var v T
	for i := range len(v) {
		v[i] = first + byte(i)
	}
	return v
}

var (
	documentDomain   = seal.DomainID{1, 2, 3}
	documentInstance = numbered[repo.ID](0xb0)
	documentJob      = numbered[repo.ID](0xa0)
)

// documentUnlocker stands for one whose wrap holds the document's master key.
type documentUnlocker struct{}

func (documentUnlocker) Wrap(seal.MasterKey, []byte) ([]byte, error) { return []byte("wrap"), nil }
func (documentUnlocker) Unwrap([]byte, []byte) (seal.MasterKey, error) {
	return numbered[seal.MasterKey](200), nil
}

// documentRepository opens a store that holds what the document prints.
func documentRepository(t *testing.T) *repo.Repository {
	t.Helper()
	store := mem.New()
	for key, data := range map[string][]byte{
		repo.DescriptionObject:                                  []byte(block(t, "json repository.json")),
		repo.KeyObject(documentJob):                             []byte("wrap"),
		repo.DomainObject(documentDomain, 1):                    []byte(block(t, "json domain")),
		repo.LogObject(1):                                       dump(t, "log-record"),
		repo.SnapshotObject(documentInstance, documentJob):      dump(t, "snapshot"),
		repo.SnapshotObject(documentInstance, repo.JobID{0xff}): dump(t, "abort-marker"),
	} {
		if err := store.Create(t.Context(), key, blob.Bytes(data)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := repo.Open(t.Context(), store, documentUnlocker{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheRepositoryInTheDocumentOpens(t *testing.T) {
	r := documentRepository(t)
	if d := r.Description(); d.ID != numbered[repo.ID](0x10) || d.Name != "example" || d.Cut != chunk.DefaultParams {
		t.Errorf("%+v", d)
	}
	d, err := r.Domain(t.Context(), documentDomain)
	if err != nil {
		t.Fatal(err)
	}
	if d.Keys() != (seal.DomainKeys{Data: numbered[seal.Key](0), Control: numbered[seal.Key](100)}) || d.SealEpoch() != 7 {
		t.Errorf("other keys, or epoch %d", d.SealEpoch())
	}
	var got []string
	w, err := r.ReplayLog(t.Context(), func(rec *repo.LogRecord) error {
		got = append(got, string(rec.Payload))
		return nil
	})
	if err != nil || w.Number != 1 || w.Epoch != 3 || len(got) != 1 || got[0] != "a batch of changes" {
		t.Errorf("%q, %v, %v", got, w, err)
	}
}

func TestTheSnapshotInTheDocumentIsRead(t *testing.T) {
	r := documentRepository(t)
	s, err := r.ReadSnapshot(t.Context(), documentInstance, documentJob)
	if err != nil {
		t.Fatal(err)
	}
	wantHeader := repo.SnapshotHeader{State: repo.SnapshotCommitted, Kind: repo.KindLogical, Complete: true, Domain: documentDomain,
		Instance: documentInstance, Job: documentJob, Fence: repo.Fence{Epoch: 4, Counter: 17}, SealEpoch: 7,
		ReferencesBytes: s.Header.ReferencesBytes, ContentBytes: s.Header.ContentBytes}
	if diff := cmp.Diff(wantHeader, s.Header); diff != "" {
		t.Error(diff)
	}
	wantCommit := repo.Commit{Repository: r.ID(), Agent: numbered[repo.ID](0xc0), Certificate: numbered[[32]byte](0xd0),
		Time: time.UnixMicro(1790000000000000).UTC(), LogNumber: 1}
	if diff := cmp.Diff(wantCommit, s.Commit); diff != "" {
		t.Error(diff)
	}
	d, err := r.Domain(t.Context(), documentDomain)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := s.OpenReferences(d.Keys().Refs())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := repo.EncodeReferences(refs)
	if diff := cmp.Diff(dump(t, "references"), plain); diff != "" || err != nil {
		t.Errorf("the references printed are not those of the snapshot: %v %s", err, diff)
	}
	content, err := s.OpenContent(d.Keys().Seal(7), refs)
	if err != nil || len(content.Logical.Databases) != 1 || content.Logical.Databases[0].Tables[0].Rows != 3 {
		t.Errorf("%+v, %v", content, err)
	}
	_, err = r.ReadSnapshot(t.Context(), documentInstance, repo.JobID{0xff})
	wantKind(t, "abort marker", err, errs.NotFound)
	wantWords(t, err, "given up")
}

func TestTheChunkListInTheDocumentIsRead(t *testing.T) {
	plain := dump(t, "list")
	list, err := repo.DecodeList(plain)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	name := seal.NewNamer(seal.DomainKeys{Data: numbered[seal.Key](0)}.Name())
	rows := "1\tone\n2\ttwo\n3\tthree\n"
	var sum repo.Fingerprint
	for row := range strings.Lines(rows) {
		sum.Add(chunk.HashRow([]byte(row)))
	}
	want := []repo.ListEntry{
		{Kind: seal.KindArchive, Name: name.Name(seal.KindArchive, []byte("PGDMP")), Length: 5},
		{Kind: seal.KindRowsText, Name: name.Name(seal.KindRowsText, []byte(rows)), Length: uint32(len(rows)), Rows: 3, Fingerprint: sum},
	}
	if diff := cmp.Diff(want, list, compareFingerprints); diff != "" {
		t.Error(diff)
	}
	refs, err := repo.DecodeReferences(dump(t, "references"))
	if err != nil || refs.Lists[0].Name != name.Name(seal.KindList, plain) {
		t.Errorf("the references do not name the list: %v", err)
	}
}
