package check_test

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// heap samples the live heap until stop is called, which gives the greatest.
func heap() (stop func() uint64) {
	var greatest atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // stop waits for it
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			greatest.Store(max(greatest.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return greatest.Load()
	}
}

// TestMemoryDoesNotGrowWithTheNumberOfChunks checks domains of very many very
// small chunks: what counts is their number.
func TestMemoryDoesNotGrowWithTheNumberOfChunks(t *testing.T) {
	// What counts is what is held, not what waits for the collector.
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	sizes := []int{20_000} // the curve is that of the long run
	if os.Getenv("TUSKVAULT_LONG") != "" {
		sizes = []int{100_000, 1_000_000, 10_000_000}
	}
	for _, chunks := range sizes {
		folder := t.TempDir()
		r, unlocker := largeRepository(t, folder, chunks)
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		stop, start := heap(), time.Now()
		report, err := check.Run(t.Context(), r.Store(), check.Options{Repository: r, Dir: t.TempDir(), ReadData: true, Sample: check.Whole})
		used := stop() - before.HeapInuse
		must(t, err)
		if report.Damaged() || report.FramesRead < int64(chunks) {
			t.Errorf("%+v", report)
		}
		t.Logf("%d chunks: %s, %d MiB of heap", report.FramesRead, time.Since(start).Round(time.Millisecond), used>>20)
		if used > 64<<20 {
			t.Errorf("%d chunks: %d MiB of heap", chunks, used>>20)
		}
		rebuildIndex(t, r, folder, unlocker, chunks)
		must(t, os.RemoveAll(folder))
	}
}

// largeRepository makes a repository of one table of so many chunks of one row.
func largeRepository(t *testing.T, folder string, chunks int) (*repo.Repository, *seal.KeyFile) {
	t.Helper()
	store, err := dir.Create(folder)
	must(t, err)
	r, d, unlocker := repotest.New(t, store)
	_, err = r.ClaimEpoch(t.Context())
	must(t, err)
	b := repotest.NewBackups(t, r, d)
	b.Epoch, b.PackFrames, b.ChunkRows = 1, 4096, 1
	b.Backup(repotest.Table{Database: "app", Name: "t", Rows: chunks, Seed: "1"})
	return r, unlocker
}

// rebuildIndex opens the snapshot with no index file left, so that the index is
// made of the packs' directories.
func rebuildIndex(t *testing.T, r *repo.Repository, folder string, unlocker *seal.KeyFile, chunks int) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(folder, "index")))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, start := heap(), time.Now()
	reader, err := offline.Open(t.Context(), r.Store(), t.TempDir(), unlocker)
	must(t, err)
	found, err := reader.Find(t.Context(), "latest")
	must(t, err)
	_, err = reader.Source(t.Context(), found)
	must(t, err)
	used := stop() - before.HeapInuse
	t.Logf("%d chunks: index made of pack directories in %s, %d MiB of heap", chunks, time.Since(start).Round(time.Millisecond), used>>20)
	if used > 64<<20 {
		t.Errorf("%d chunks: %d MiB of heap to make the index", chunks, used>>20)
	}
	must(t, reader.Close())
}
