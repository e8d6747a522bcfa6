package chunk_test

import (
	"crypto/aes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// cut gives the lengths of chunks, and the rows in each, as a caller cuts them.
func cut(t testing.TB, key [32]byte, p chunk.Params, rows [][]byte) (sizes []int, chunks [][][]byte) {
	t.Helper()
	c, err := chunk.NewCutter(key, p)
	if err != nil {
		t.Fatal(err)
	}
	var open [][]byte
	filled := 0
	end := func() {
		sizes, chunks = append(sizes, filled), append(chunks, open)
		open, filled = nil, 0
	}
	for _, r := range rows {
		if c.Before(len(r), filled) {
			end()
		}
		open, filled = append(open, r), filled+len(r)
		if c.After(chunk.HashRow(r), len(r), filled) {
			end()
		}
	}
	if filled > 0 {
		end()
	}
	return sizes, chunks
}

// sums identifies chunks by their content.
func sums(chunks [][][]byte) []string {
	var out []string
	for _, rows := range chunks {
		s := sha256.Sum256(slices.Concat(rows...))
		out = append(out, string(s[:]))
	}
	return out
}

// orders are rows as COPY text gives them: numbers, a time, words.
func orders(r *rand.Rand, n int) [][]byte {
	words := []string{"pending", "shipped", "returned", "Lorem ipsum", "Zürich", "\\N", "a rather longer remark about the parcel"}
	rows := make([][]byte, n)
	var all []byte // one array for all rows: a million small ones are slow under the race detector
	for i := range rows {
		start := len(all)
		all = strconv.AppendInt(all, int64(i), 10)
		all = strconv.AppendInt(append(all, '\t'), r.Int64N(1e6), 10)
		all = strconv.AppendInt(append(all, "\t2026-03-14 12:45:"...), 10+r.Int64N(50), 10)
		all = strconv.AppendInt(append(all, '.'), 100_000+r.Int64N(900_000), 10)
		all = append(append(all, "+00\t"...), words[r.IntN(len(words))]...)
		all = strconv.AppendFloat(append(all, '\t'), r.Float64()*1e4, 'f', 2, 64)
		all = append(all, '\n')
		rows[i] = all[start:len(all):len(all)]
	}
	return rows
}

func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestNoChunkIsLargerThanMaxNorCutByContentBelowMin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := chunk.Params{Min: rapid.IntRange(1, 200).Draw(t, "min")}
		p.Target = rapid.IntRange(p.Min, 2000).Draw(t, "target")
		p.Max = rapid.IntRange(p.Target, 4000).Draw(t, "max")
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, p.Max), 0, 60).Draw(t, "rows")
		c, err := chunk.NewCutter([32]byte{1}, p)
		if err != nil {
			t.Fatal(err)
		}
		filled, total := 0, 0
		for _, r := range rows {
			if c.Before(len(r), filled) {
				if filled+len(r) <= p.Max {
					t.Fatalf("cut before a row that fits: %d + %d of %d", filled, len(r), p.Max)
				}
				filled = 0
			}
			filled += len(r)
			total += len(r)
			if filled > p.Max {
				t.Fatalf("chunk of %d bytes, max %d", filled, p.Max)
			}
			if c.After(chunk.HashRow(r), len(r), filled) {
				if filled < p.Min {
					t.Fatalf("cut at %d bytes, min %d", filled, p.Min)
				}
				filled = 0
			} else if filled >= p.Max {
				t.Fatalf("no cut at %d bytes, max %d", filled, p.Max)
			}
		}
	})
}

func TestARowAboveMaxHasNoPlaceBesideOthers(t *testing.T) {
	c, err := chunk.NewCutter([32]byte{}, chunk.DefaultParams)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Before(chunk.DefaultParams.Max+1, 1) {
		t.Error("a row above max was let into a chunk that has rows")
	}
	if c.Before(chunk.DefaultParams.Max+1, 0) {
		t.Error("an empty chunk was to be closed")
	}
}

func TestTheDecisionIsThatOfTheFormat(t *testing.T) {
	key := [32]byte{7, 7, 7}
	p := chunk.Params{Target: 5000, Min: 100, Max: 50000}
	c, err := chunk.NewCutter(key, p)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for _, row := range orders(seeded(t, 1), 20000) {
		h := chunk.HashRow(row).Bytes()
		var out [16]byte
		block.Encrypt(out[:], h[:])
		// t · target / 2^64 < n, in numbers that cannot overflow.
		left := new(big.Int).SetUint64(binary.BigEndian.Uint64(out[:8]))
		left.Mul(left, big.NewInt(int64(p.Target))).Rsh(left, 64)
		want := left.Cmp(big.NewInt(int64(len(row)))) < 0
		if got := c.After(chunk.HashRow(row), len(row), p.Min); got != want {
			t.Fatalf("row %q: cut %v, want %v", row, got, want)
		}
		if want {
			cuts++
		}
	}
	if cuts < 100 {
		t.Fatalf("only %d cuts: the test shows nothing", cuts)
	}
}

func TestChunksComeBackAfterAnInsertion(t *testing.T) {
	r := seeded(t, 2)
	rows := orders(r, 300_000)
	_, before := cut(t, [32]byte{3}, chunk.DefaultParams, rows)
	at := len(rows) / 2
	_, after := cut(t, [32]byte{3}, chunk.DefaultParams, slices.Insert(slices.Clone(rows), at, []byte("a row that was not there\n")))
	old := sums(before)
	fresh := 0
	for _, s := range sums(after) {
		if !slices.Contains(old, s) {
			fresh++
		}
	}
	if fresh == 0 || fresh > 6 {
		t.Errorf("%d of %d chunks are new after one inserted row", fresh, len(after))
	}
	if old[0] != sums(after)[0] || old[len(old)-1] != sums(after)[len(after)-1] {
		t.Error("the first and the last chunk should be unchanged")
	}
}

func TestChunksOfUsualRowsAre253KiBOnAverage(t *testing.T) {
	r := seeded(t, 3)
	rows := orders(r, 1_000_000)
	sizes, _ := cut(t, [32]byte{9}, chunk.DefaultParams, rows)
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	mean := float64(sum) / float64(len(sizes)) / 1024
	t.Logf("%d chunks, mean %.1f KiB", len(sizes), mean)
	if mean < 225 || mean > 280 {
		t.Errorf("mean of %d chunks is %.1f KiB", len(sizes), mean)
	}
}

func TestTheMeanDoesNotDependOnTheLengthOfRows(t *testing.T) {
	r := seeded(t, 4)
	p := chunk.Params{Target: 3000, Min: 1000, Max: 100_000}
	for _, n := range []int{20, 100, 400} {
		rows := make([][]byte, 2_000_000/n)
		for i := range rows {
			rows[i] = make([]byte, n)
			binary.BigEndian.PutUint64(rows[i], r.Uint64())
		}
		sizes, _ := cut(t, [32]byte{5}, p, rows)
		mean := 2_000_000 / len(sizes)
		if mean < 3600 || mean > 4500 {
			t.Errorf("rows of %d bytes: mean %d", n, mean)
		}
	}
}

func TestAnotherKeyCutsElsewhere(t *testing.T) {
	rows := orders(seeded(t, 5), 100_000)
	a, _ := cut(t, [32]byte{1}, chunk.DefaultParams, rows)
	b, _ := cut(t, [32]byte{2}, chunk.DefaultParams, rows)
	if slices.Equal(a, b) {
		t.Error("two keys cut at the same places")
	}
}

func TestCutsDoNotChangeByAccident(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	// Rows that do not depend on a random generator's version.
	rows := make([][]byte, 50_000)
	for i := range rows {
		rows[i] = fmt.Appendf(nil, "%d\t%d\t%x\n", i, i*i, i*7919)
	}
	sizes, _ := cut(t, key, chunk.Params{Target: 12 << 10, Min: 4 << 10, Max: 64 << 10}, rows)
	h := sha256.New()
	for _, n := range sizes {
		_, _ = fmt.Fprintln(h, n)
	}
	got := fmt.Sprintf("%d %s", len(sizes), hex.EncodeToString(h.Sum(nil)[:8]))
	if want := "74 588ef0ed9f854fae"; got != want {
		t.Errorf("cuts %s, want %s: every domain would send everything again", got, want)
	}
}

func TestParametersThatCannotWorkAreRefused(t *testing.T) {
	for _, p := range []chunk.Params{
		{}, {Target: 10, Min: 0, Max: 10}, {Target: 10, Min: 11, Max: 20}, {Target: 21, Min: 1, Max: 20},
		{Target: 10, Min: 10, Max: chunk.LargestMax + 1}, {Target: -1, Min: -1, Max: -1},
	} {
		if err := p.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", p, err)
		}
		if _, err := chunk.NewCutter([32]byte{}, p); !errors.Is(err, errs.Invalid) {
			t.Errorf("cutter of %+v: %v", p, err)
		}
	}
	for _, p := range []chunk.Params{chunk.DefaultParams, {Target: 1, Min: 1, Max: 1}, {Target: chunk.LargestMax, Min: 1, Max: chunk.LargestMax}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestACutterDoesNotShowItsKey(t *testing.T) {
	key := [32]byte([]byte("0123456789abcdef0123456789ABCDEF"))
	c, err := chunk.NewCutter(key, chunk.DefaultParams)
	if err != nil {
		t.Fatal(err)
	}
	want := "cutter {Target:196608 Min:65536 Max:1048576}"
	if got := fmt.Sprint(c); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCuttingAllocatesNothing(t *testing.T) {
	c, err := chunk.NewCutter([32]byte{1}, chunk.DefaultParams)
	if err != nil {
		t.Fatal(err)
	}
	row := []byte("1\t2\tthree\n")
	var hasher chunk.RowHasher
	got := testing.AllocsPerRun(100, func() {
		c.Before(len(row), 100_000)
		c.After(chunk.HashRow(row), len(row), 100_000)
		hasher.Reset()
		_, _ = hasher.Write(row)
		hasher.Sum()
	})
	if got != 0 {
		t.Errorf("%v allocations a row", got)
	}
}

func BenchmarkCut(b *testing.B) {
	for _, n := range []int{40, 150, 1000} {
		b.Run(fmt.Sprintf("row=%d", n), func(b *testing.B) {
			c, err := chunk.NewCutter([32]byte{1}, chunk.DefaultParams)
			if err != nil {
				b.Fatal(err)
			}
			row := make([]byte, n)
			var sum chunk.Fingerprint
			b.SetBytes(int64(n))
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				i++
				binary.LittleEndian.PutUint64(row, i)
				h := chunk.HashRow(row)
				sum.Add(h)
				c.After(h, n, 100_000)
			}
		})
	}
}
