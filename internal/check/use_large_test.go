package check_test

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// TestWhatIsNeededIsFoundInBoundedMemory gives the curve for pruning: a domain of
// very many chunks and a thousand snapshots of them (a few in the short run).
func TestWhatIsNeededIsFoundInBoundedMemory(t *testing.T) {
	sizes, snapshots := []int{20_000}, 20
	if os.Getenv("TUSKVAULT_LONG") != "" {
		sizes, snapshots = []int{100_000, 1_000_000, 10_000_000}, 1000
		if n, err := strconv.Atoi(os.Getenv("TUSKVAULT_CHUNKS")); err == nil {
			sizes = []int{n} // for whoever looks for where the time goes
		}
	}
	for _, chunks := range sizes {
		folder := t.TempDir()
		r, _ := largeRepository(t, folder, chunks)
		domain, all := multiply(t, r, snapshots)
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		stop, start, cpu := heap(), time.Now(), cpuTime(t)
		use, err := check.Uses(t.Context(), check.UseOptions{Repository: r, Domain: domain.ID(), Dir: t.TempDir(), Snapshots: each(all)})
		took, used := time.Since(start), stop()-before.HeapInuse
		cpu = cpuTime(t) - cpu
		must(t, err)
		if use.Snapshots != int64(snapshots) || use.Chunks < int64(chunks) || use.Missing != 0 {
			t.Errorf("%+v", use)
		}
		live := int64(0)
		for _, p := range use.Packs {
			live += int64(p.LiveFrames)
		}
		if live != use.Chunks {
			t.Errorf("%d chunks are needed, %d are in packs", use.Chunks, live)
		}
		t.Logf("%d chunks, %d lists, %d snapshots: %s, %s of processors, %d MiB of heap", use.Chunks, use.Lists, use.Snapshots, took.Round(time.Millisecond), cpu.Round(time.Millisecond), used>>20)
		if used > 128<<20 {
			t.Errorf("%d chunks: %d MiB of heap", chunks, used>>20)
		}
		must(t, use.Close())
		must(t, os.RemoveAll(folder))
	}
}

// cpuTime is the processor time of this process: on a busy machine the wall
// clock says little.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// multiply makes as many snapshots in all that name what the only one names.
func multiply(t *testing.T, r *repo.Repository, n int) (*repo.Domain, []repo.SnapshotInfo) {
	t.Helper()
	var all []repo.SnapshotInfo
	list := func() {
		all = nil
		must(t, r.ListSnapshots(t.Context(), repo.InstanceID{}, func(s repo.SnapshotInfo) error { all = append(all, s); return nil }))
	}
	list()
	first, err := r.ReadSnapshot(t.Context(), all[0].Header.Instance, all[0].Header.Job)
	must(t, err)
	d, err := r.Domain(t.Context(), first.Header.Domain)
	must(t, err)
	keys := d.Keys()
	refs, err := first.OpenReferences(keys.Refs())
	must(t, err)
	content, err := first.OpenContent(keys.Seal(first.Header.SealEpoch), refs)
	must(t, err)
	for range n - 1 {
		h := first.Header
		h.Job = repo.NewID()
		sealedRefs, err := repo.SealReferences(refs, keys.Refs(), d.ID(), h.Job)
		must(t, err)
		sealedContent, err := repo.SealContent(content, keys.Seal(h.SealEpoch), d.ID(), h.Job)
		must(t, err)
		p, err := d.PrepareSnapshot(repo.SnapshotHeader{Kind: h.Kind, Complete: true, Instance: h.Instance, Job: h.Job, Fence: h.Fence, SealEpoch: h.SealEpoch}, sealedRefs, sealedContent,
			repo.Commit{Agent: repo.NewID(), Certificate: [32]byte{7}, Time: time.Now()})
		must(t, err)
		_, err = d.PutSnapshot(t.Context(), p)
		must(t, err)
	}
	list()
	return d, all
}
