package index_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/tuskvault/tuskvault/internal/index"
)

// filled opens a Set of n entries in one file and tells the heap it holds.
func filled(b *testing.B, n uint64) *index.Set {
	b.Helper()
	dir := b.TempDir()
	s := open(b, dir)
	add(b, s, built(0, n))
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s = open(b, dir)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("%d entries: %d bytes in file, %d bytes of heap", n, s.Files()[0].Size, int64(after.HeapAlloc)-int64(before.HeapAlloc))
	return s
}

var sizes = []uint64{1_000_000, 10_000_000}

func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("hit/entries=%d", n), func(b *testing.B) {
			s := filled(b, n)
			var dst []index.Location
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				i = (i + 7919) % n
				var err error
				if dst, err = s.Lookup(dst[:0], name(i)); err != nil || len(dst) != 1 {
					b.Fatal(len(dst), err)
				}
			}
		})
		b.Run(fmt.Sprintf("miss/entries=%d", n), func(b *testing.B) {
			s := filled(b, n)
			i := n
			for b.Loop() {
				i++
				if ok, err := s.Has(name(i)); err != nil || ok {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	const n = 1_000_000
	build := built(0, n)
	b.SetBytes(n * 28)
	for b.Loop() {
		if err := build.Build(discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkMerge(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := open(b, b.TempDir())
		for i := range uint64(9) {
			add(b, s, built(i*100_000, (i+1)*100_000))
		}
		b.StartTimer()
		if err := s.Merge(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(900_000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
