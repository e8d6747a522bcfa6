package pack_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The values that docs/FORMAT.md prints were written once. A difference means
// that repositories written before can no longer be read: change them only
// together with the format number.

func document(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dump decodes the hex dump of that name in the document.
func dump(t testing.TB, name string) []byte {
	t.Helper()
	m := regexp.MustCompile("(?s)```hexdump " + name + "\n(.*?)```").FindStringSubmatch(document(t))
	if m == nil {
		t.Fatalf("docs/FORMAT.md has no dump %q", name)
	}
	var out []byte
	for line := range strings.Lines(m[1]) {
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

func documentKeys() seal.DomainKeys {
	var k seal.DomainKeys
	for i := range k.Data {
		k.Data[i], k.Control[i] = byte(i), byte(100+i)
	}
	return k
}

const documentRows = "1\tone\n2\ttwo\n3\tthree\n"

func TestTheFrameInTheDocumentOpens(t *testing.T) {
	k, domain, frame := documentKeys(), seal.DomainID{1, 2, 3}, dump(t, "frame")
	name := seal.NewNamer(k.Name()).Name(seal.KindRowsText, []byte(documentRows))
	o := seal.NewOpener(domain, k.Name(), k.Refs(), map[uint32]seal.Key{7: k.Seal(7)}, 1<<20)
	if got, err := o.Open(nil, frame, seal.KindRowsText, name); err != nil || string(got) != documentRows {
		t.Errorf("%q, %v", got, err)
	}
}

func TestThePackInTheDocumentIsRead(t *testing.T) {
	b, frame := dump(t, "pack"), dump(t, "frame")
	m := regexp.MustCompile("This is the whole pack `([0-9a-f]{64})`").FindStringSubmatch(document(t))
	if m == nil {
		t.Fatal("docs/FORMAT.md names no pack")
	}
	id, err := pack.ParseID(m[1])
	if err != nil {
		t.Fatal(err)
	}
	d, err := pack.ReadDirectory(t.Context(), reader(b), int64(len(b)), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.VerifyMAC(d, documentKeys().Pack()); err != nil {
		t.Error(err)
	}
	want := pack.Meta{Domain: seal.DomainID{1, 2, 3}, Epoch: 4, AttemptEpoch: 4, AttemptCounter: 17,
		Created: time.Date(2026, 11, 23, 2, 30, 0, 0, time.UTC)}
	for i := range want.Job {
		want.Job[i], want.Uploader[i] = 0xa0+byte(i), 0xb0+byte(i)
	}
	if diff := cmp.Diff(want, d.Meta); diff != "" {
		t.Error(diff)
	}
	got, err := pack.ReadFrame(t.Context(), reader(b), d.Entries[0], nil)
	if err != nil || !bytes.Equal(got, frame) {
		t.Errorf("its frame: %v", err)
	}
	// What is written today is the same.
	w, err := pack.Create(t.TempDir(), want)
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, frame)
	s, err := w.Finish(documentKeys().Pack())
	if err != nil || s.ID() != id {
		t.Errorf("today's pack is %s, %v", s.ID(), err)
	}
}

// TestTheTablesInTheDocumentHaveNoGaps adds up the widths of every byte table
// that has numbers for them.
func TestTheTablesInTheDocumentHaveNoGaps(t *testing.T) {
	const head = "| offset | bytes | field |\n|---|---|---|\n"
	tables := strings.Split(document(t), head)[1:]
	if len(tables) < 9 {
		t.Fatalf("%d tables: the test shows nothing", len(tables))
	}
	for _, table := range tables {
		next, known := int64(0), true
		for line := range strings.Lines(table) {
			if !strings.HasPrefix(line, "|") {
				break
			}
			cells := strings.Split(line, "|")
			at, atErr := strconv.ParseInt(strings.TrimSpace(cells[1]), 10, 64)
			width, widthErr := strconv.ParseInt(strings.TrimSpace(cells[2]), 10, 64)
			if atErr == nil && known && at != next {
				t.Errorf("%s: should be at %d", strings.TrimSpace(line), next)
			}
			next, known = at+width, atErr == nil && widthErr == nil
		}
	}
}
