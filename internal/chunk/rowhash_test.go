package chunk_test

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tuskvault/tuskvault/internal/chunk"
)

func TestARowInPiecesHasTheHashOfTheWholeRow(t *testing.T) {
	var h chunk.RowHasher // used again and again: nothing may be left of earlier rows
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 3000), 0, 6).Draw(t, "pieces")
		h.Reset()
		var whole []byte
		for i, p := range pieces {
			if n, err := h.Write(p); n != len(p) || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
			whole = append(whole, p...)
			if i%2 == 0 && h.Sum() != chunk.HashRow(whole) {
				t.Fatal("the hash so far differs")
			}
		}
		if h.Sum() != chunk.HashRow(whole) {
			t.Fatalf("%d bytes in %d pieces: hash differs", len(whole), len(pieces))
		}
	})
}

func TestTheZeroRowHasherIsReady(t *testing.T) {
	var h chunk.RowHasher
	if h.Sum() != chunk.HashRow(nil) {
		t.Error("hash of nothing differs")
	}
	_, _ = h.Write([]byte("x"))
	if h.Sum() != chunk.HashRow([]byte("x")) {
		t.Error("hash differs")
	}
}

func TestAFingerprintForgetsOrderAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 8), 1, 30).Draw(t, "rows")
		split := rapid.IntRange(0, len(rows)).Draw(t, "split")
		shuffled := rapid.Permutation(rows).Draw(t, "shuffled")
		var a, b, left, right chunk.Fingerprint
		for _, r := range rows {
			a.Add(chunk.HashRow(r))
		}
		for _, r := range shuffled {
			b.Add(chunk.HashRow(r))
		}
		for _, r := range rows[:split] {
			left.Add(chunk.HashRow(r))
		}
		for _, r := range rows[split:] {
			right.Add(chunk.HashRow(r))
		}
		left.Merge(right)
		if a != b || a != left {
			t.Fatalf("%s, shuffled %s, merged %s", a, b, left)
		}
		b.Add(chunk.HashRow(slices.Concat(rows...)))
		if a == b {
			t.Fatal("one more row makes no difference")
		}
	})
}

func TestAFingerprintIsAddedModulo128Bits(t *testing.T) {
	var f chunk.Fingerprint
	f.Add(chunk.RowHash{Hi: ^uint64(0), Lo: ^uint64(0)})
	f.Add(chunk.RowHash{Lo: 3})
	if got := f.String(); got != "00000000000000000000000000000002" {
		t.Errorf("got %s", got)
	}
	f.Add(chunk.RowHash{Hi: 1, Lo: ^uint64(0)})
	if got := f.String(); got != "00000000000000020000000000000001" {
		t.Errorf("got %s", got)
	}
}

func TestAFingerprintSurvivesBytesAndText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f, g chunk.Fingerprint
		f.Add(chunk.RowHash{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")})
		if chunk.FingerprintFrom(f.Bytes()) != f {
			t.Fatal("bytes differ")
		}
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &g); err != nil || f != g {
			t.Fatalf("%s, %v, from %s", g, err, text)
		}
	})
	var f chunk.Fingerprint
	for _, bad := range []string{"", "00", "0000000000000000000000000000000g", "000000000000000000000000000000000"} {
		if err := f.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
