package index_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func builtFile(t *testing.T, entries int) ([]byte, index.FileID) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(entries)))
	b := index.NewBuilder(seal.DomainID{1})
	for i := range entries {
		var name seal.Name
		for j := range name {
			name[j] = byte(rng.Uint32())
		}
		b.Add(name, index.Location{Pack: pack.ID{byte(i % 5)}, Offset: int64(24 + i), Length: 100})
	}
	var buf bytes.Buffer
	if err := b.Build(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), index.FileID(buf.Bytes()[buf.Len()-32:])
}

func TestScanGivesEveryEntryInOrder(t *testing.T) {
	for _, n := range []int{1, 2, 51, 52, 1000} {
		file, id := builtFile(t, n)
		var last [16]byte
		seen := 0
		err := index.Scan(bytes.NewReader(file), int64(len(file)), seal.DomainID{1}, id, func(e *index.Scanned) error {
			if bytes.Compare(e.Prefix[:], last[:]) < 0 || e.Length != 100 || e.Pack[0] > 4 {
				t.Errorf("%d entries: %+v after %x", n, e, last)
			}
			last = e.Prefix
			seen++
			return nil
		})
		if err != nil || seen != n {
			t.Errorf("%d entries: %d seen, %v", n, seen, err)
		}
	}
}

func TestScanFindsEveryChangedByteAndEveryCut(t *testing.T) {
	file, id := builtFile(t, 60)
	scan := func(b []byte, size int) error {
		return index.Scan(bytes.NewReader(b), int64(size), seal.DomainID{1}, id, func(*index.Scanned) error { return nil })
	}
	for i := range file {
		b := bytes.Clone(file)
		b[i] ^= 1
		if err := scan(b, len(b)); !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range file {
		if err := scan(file[:n], n); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("cut to %d: %v", n, err)
		}
		if err := scan(file[:n], len(file)); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("cut to %d of a claimed %d: %v", n, len(file), err)
		}
	}
}

// TestScanRefusesAWrongFilter makes a file whose id is right and whose filter
// would hide a chunk.
func TestScanRefusesAWrongFilter(t *testing.T) {
	file, _ := builtFile(t, 60)
	file[len(file)-33] ^= 1
	id := index.FileID(sha256.Sum256(file[:len(file)-32]))
	copy(file[len(file)-32:], id[:])
	err := index.Scan(bytes.NewReader(file), int64(len(file)), seal.DomainID{1}, id, func(*index.Scanned) error { return nil })
	if !errors.Is(err, errs.Corrupt) {
		t.Error(err)
	}
}

func FuzzScan(f *testing.F) {
	b := index.NewBuilder(seal.DomainID{1})
	for i := range byte(60) {
		b.Add(seal.Name{i, 1: i * 7, 9: i}, index.Location{Pack: pack.ID{i % 5}, Offset: int64(24 + int(i)), Length: 100})
	}
	var file bytes.Buffer
	if err := b.Build(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.Clone(raw) // the engine's own must not be changed
		var id index.FileID
		if len(raw) >= 32 {
			id = sha256.Sum256(raw[:len(raw)-32])
			copy(raw[len(raw)-32:], id[:])
		}
		entries := 0
		err := index.Scan(bytes.NewReader(raw), int64(len(raw)), seal.DomainID{1}, id, func(*index.Scanned) error { entries++; return nil })
		if err != nil && errs.KindOf(err) == nil {
			t.Fatal(err)
		}
		if n, headErr := index.CountEntries(raw[:min(len(raw), index.HeaderSize)], int64(len(raw))); err == nil && (headErr != nil || int(n) != entries) {
			t.Fatalf("%d entries were given, the header says %d, %v", entries, n, headErr)
		}
	})
}
