package index_test

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of a domain's index, whatever its size, in bytes of heap: to hold
// it open and answer, and to write, merge or build it anew.
const (
	openHeap  = 1 << 20
	writeHeap = 48 << 20
)

// leastAnswers is how many times a second one goroutine must learn whether a
// chunk exists, where TUSKVAULT_SPEED says that the machine is ours: tests
// judge no speed otherwise.
const leastAnswers = 500_000

// peak samples the heap until stop is called, which gives how far it grew.
func peak() (stop func() int64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	var greatest atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	sample := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		greatest.Store(max(greatest.Load(), m.HeapAlloc))
	}
	go func() { // stop waits for it
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			sample()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		sample()
		return int64(greatest.Load()) - int64(before)
	}
}

// timed runs fn and logs how long it took and how far the heap grew, which must
// not be beyond the bound.
func timed(t *testing.T, what string, n uint64, bound int64, fn func()) {
	t.Helper()
	stop, start := peak(), time.Now()
	fn()
	took, grew := time.Since(start), stop()
	t.Logf("%9d entries: %-28s %10.1f ms, heap %6.2f MiB", n, what, float64(took.Microseconds())/1000, float64(grew)/(1<<20))
	if grew > bound {
		t.Errorf("%d entries: %s took %d MiB of heap", n, what, grew>>20)
	}
}

// TestAnIndexOfManyChunksTakesLittleMemory builds, merges, opens, asks and
// verifies; `make bench-index` prints the figures up to 10^7 chunks.
func TestAnIndexOfManyChunksTakesLittleMemory(t *testing.T) {
	sizes := []uint64{30_000}
	if os.Getenv("TUSKVAULT_LONG") != "" {
		sizes = []uint64{100_000, 1_000_000, 10_000_000}
	}
	for _, n := range sizes {
		dir := t.TempDir()
		s := open(t, dir)
		timed(t, "built and merged by batches", n, writeHeap, func() {
			for from := uint64(0); from < n; from += index.BuilderEntries {
				add(t, s, built(from, min(n, from+index.BuilderEntries)))
				if err := s.Merge(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
		nine := equalFiles(t, n)
		timed(t, "nine files merged into one", n, writeHeap, func() {
			if err := nine.Merge(t.Context()); err != nil || len(nine.Files()) != 1 {
				t.Fatal(len(nine.Files()), err)
			}
		})
		if err := nine.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		timed(t, "opened", n, openHeap, func() { s = open(t, dir) })
		t.Logf("%9d entries: %d files, %d bytes", n, len(s.Files()), bytesOf(s))
		hits, misses := make([]seal.Name, 100_000), make([]seal.Name, 100_000)
		for i := range hits {
			hits[i], misses[i] = name(uint64(i)*7919%n), name(1<<40+uint64(i))
		}
		ask(t, s, hits, misses) // brings the pages in
		rate := ask(t, s, hits, misses)
		t.Logf("%9d entries: %.0f answers a CPU second", n, rate)
		if os.Getenv("TUSKVAULT_SPEED") != "" && rate < leastAnswers {
			t.Errorf("%d entries: %.0f answers a CPU second, at least %d", n, rate, leastAnswers)
		}
		timed(t, "verified", n, openHeap, func() {
			if err := s.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// equalFiles makes a Set of one file more than Merge leaves, all of one size.
func equalFiles(t *testing.T, n uint64) *index.Set {
	t.Helper()
	s := open(t, t.TempDir())
	for i := range uint64(index.MaxFiles + 1) {
		add(t, s, built(n*i/(index.MaxFiles+1), n*(i+1)/(index.MaxFiles+1)))
	}
	return s
}

func bytesOf(s *index.Set) (n int64) {
	for _, f := range s.Files() {
		n += f.Size
	}
	return n
}

// ask asks one after the other for chunks that are there and chunks that are
// not, and gives the answers for each second of the one processor's time.
func ask(t *testing.T, s *index.Set, hits, misses []seal.Name) float64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadTime(t)
	for i := range hits {
		if ok, err := s.Has(hits[i]); !ok || err != nil {
			t.Fatalf("name %d is not found: %v", i, err)
		}
		if ok, err := s.Has(misses[i]); ok || err != nil {
			t.Fatalf("a name never added is found: %v", err)
		}
	}
	return float64(2*len(hits)) / max(threadTime(t)-start, time.Microsecond).Seconds()
}

// threadTime is what this thread has used of a processor: others may use the
// machine meanwhile.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
