package check_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// counting counts reads of the frames of packs.
type counting struct {
	blob.Store
	mu    sync.Mutex
	large int
	// at is called with the number of each.
	at func(int)
}

func (c *counting) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if strings.HasPrefix(key, repo.PacksPrefix) && off == 24 && n > 200 {
		c.mu.Lock()
		c.large++
		if c.at != nil {
			c.at(c.large)
		}
		c.mu.Unlock()
	}
	return c.Store.Open(ctx, key, off, n)
}

func TestAnObjectThatCannotBeReadIsNamedAndAStoreThatIsAwayEndsTheCheck(t *testing.T) {
	w := newWorld(t)
	for _, prefix := range []string{repo.PacksPrefix, repo.IndexesPrefix, repo.SnapshotsPrefix, repo.CatalogPrefix} {
		f := blobtest.NewFaulty(w.store)
		f.Plan(blobtest.Fault{Op: blob.OpOpen, Prefix: prefix, Nth: 1, Effect: blobtest.Fail})
		r, err := check.Run(t.Context(), f, w.options())
		f.Verify(t)
		if err != nil || len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].Object, prefix) || r.Findings[0].Problem != check.Damaged {
			t.Errorf("%s: %+v, %v", prefix, r, err)
		}
	}
	f := blobtest.NewFaulty(w.store)
	f.StopAfter(0)
	_ = f.Delete(t.Context(), "none") // the step that stops it
	if r, err := check.Run(t.Context(), f, w.options()); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a store that is away: %+v, %v", r, err)
	}
}

func TestAChunkWithAWholeCopyHurtsNothing(t *testing.T) {
	w := newWorld(t)
	// The ids, and so the order, are random: a small pack comes first as often as not.
	keys := w.list(repo.PackPrefix(w.domains[0].ID()))
	key := slices.MaxFunc(keys, func(a, b string) int { return cmp.Compare(len(w.object(a)), len(w.object(b))) })
	copied := w.copyPack(key)
	b := bytes.Clone(w.object(key))
	for _, e := range w.directory(key).Entries {
		b[e.Offset+int64(e.Length)/2] ^= 1
	}
	w.put(key, b)
	r := w.check(w.options())
	f := finding(r, key)
	if f == nil || f.Chunks < 2 || len(f.Effects) > 0 || len(r.Snapshots) > 0 || len(r.BadPacks) != 1 {
		t.Errorf("%+v", r)
	}
	w.put(copied, nil)
	if r := w.check(w.options()); len(r.Snapshots) == 0 {
		t.Errorf("without the copy: %+v", r)
	}
}

// directory reads that of a pack.
func (w *world) directory(key string) *pack.Directory {
	w.t.Helper()
	_, id, err := repo.ParsePackObject(key)
	must(w.t, err)
	b := w.object(key)
	open := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[off : off+n])), nil
	}
	d, err := pack.ReadDirectory(w.t.Context(), open, int64(len(b)), id)
	must(w.t, err)
	return d
}

// copyPack stores the frames of a pack in another one, as prune does.
func (w *world) copyPack(key string) string {
	w.t.Helper()
	b, d := w.object(key), w.directory(key)
	m := d.Meta
	m.Job = repo.NewID()
	p, err := pack.Create(w.t.TempDir(), m)
	must(w.t, err)
	for _, e := range d.Entries {
		must(w.t, p.Add(b[e.Offset:e.Offset+int64(e.Length)], e.Hash))
	}
	s, err := p.Finish(w.domains[0].Keys().Pack())
	must(w.t, err)
	must(w.t, w.store.Create(w.t.Context(), repo.PackObject(d.Domain, s.ID()), s))
	return repo.PackObject(d.Domain, s.ID())
}

func TestWhatSnapshotsNameAndNoPackHasIsMissing(t *testing.T) {
	w := newWorld(t)
	instance, job := repo.NewID(), repo.NewID()
	p := repotest.Prepare(t, w.domains[1], instance, job, repo.Fence{Epoch: 2, Counter: 7})
	_, err := w.domains[1].PutSnapshot(t.Context(), p)
	must(t, err)
	o := w.options()
	o.Known = nil
	r := w.check(o)
	f := finding(r, repo.PackPrefix(w.domains[1].ID()))
	if f == nil || f.Problem != check.Missing || f.Chunks != 1 || len(f.Effects) != 2 || f.Effects[0].Snapshot != job {
		t.Fatalf("%+v", r.Findings)
	}
	if f.Effects[0].Database != "app" || f.Effects[0].Object != "public.t" || f.Effects[1].Object != "schema archive" {
		t.Errorf("%+v", f.Effects)
	}
	// The same snapshot is one that a catalog does not know.
	if f := finding(w.check(w.options()), p.Key()); f == nil || !f.Harmless || f.Problem != check.Contradictory {
		t.Errorf("unknown to the catalog: %+v", f)
	}
}

func TestIndexFilesAreComparedWithDirectoriesBothWays(t *testing.T) {
	w := newWorld(t)
	domain := w.domains[0].ID()
	key := w.list(repo.IndexPrefix(domain))[0]
	_, id, err := repo.ParseIndexObject(key)
	must(t, err)
	b := w.object(key)
	var all []index.Scanned
	must(t, index.Scan(bytes.NewReader(b), int64(len(b)), domain, id, func(e *index.Scanned) error { all = append(all, *e); return nil }))
	rebuilt := func(change func([]index.Scanned) []index.Scanned) string {
		builder := index.NewBuilder(domain)
		for _, e := range change(slices.Clone(all)) {
			var name seal.Name
			copy(name[:], e.Prefix[:])
			builder.Add(name, e.Location)
		}
		var file bytes.Buffer
		must(t, builder.Build(&file))
		made := repo.IndexObject(domain, [32]byte(file.Bytes()[file.Len()-32:]))
		w.put(key, nil)
		w.put(made, file.Bytes())
		return made
	}
	for name, change := range map[string]func([]index.Scanned) []index.Scanned{
		"an entry left out":      func(e []index.Scanned) []index.Scanned { return e[1:] },
		"an entry of no frame":   func(e []index.Scanned) []index.Scanned { e[0].Offset++; return e },
		"an entry of other size": func(e []index.Scanned) []index.Scanned { e[0].Length--; return e },
		"an entry of no chunk":   func(e []index.Scanned) []index.Scanned { e[0].Prefix[3] ^= 1; return e },
	} {
		made := rebuilt(change)
		r := w.check(w.options())
		if f := finding(r, made); f == nil || f.Problem != check.Contradictory || !r.Damaged() || len(r.Snapshots) > 0 {
			t.Errorf("%s: %+v", name, r.Findings)
		}
		w.put(made, nil)
		w.put(key, b)
	}
}

// TestNothingIsAllocatedByWhatAnObjectClaims puts the largest numbers into every
// place of every kind of object where a length or a count may be.
func TestNothingIsAllocatedByWhatAnObjectClaims(t *testing.T) {
	w := newWorldOf(t, 48)
	seen := map[string]bool{}
	for _, key := range w.list("") {
		kind, _, _ := strings.Cut(key, "/")
		if strings.HasSuffix(key, ".full") {
			kind = "full"
		}
		if seen[kind] {
			continue
		}
		seen[kind] = true
		b := w.object(key)
		for at := 0; at < len(b); at += 8 {
			if at > 112 && at < len(b)-136 {
				continue
			}
			claim := bytes.Clone(b)
			for i := at; i < min(at+8, len(b)); i++ {
				claim[i] = 0xff
			}
			w.put(key, claim)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := check.Run(t.Context(), w.store, check.Options{Dir: t.TempDir(), Sample: check.Whole})
			runtime.ReadMemStats(&after)
			if err != nil && errs.KindOf(err) == nil {
				t.Errorf("%s, %d: %v", key, at, err)
			}
			// The whole world is 100 kB: what is allocated are buffers.
			if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
				t.Errorf("%s: largest number at %d: %d bytes were allocated", key, at, got)
			}
		}
		w.put(key, b)
	}
	if len(seen) != 10 {
		t.Errorf("kinds: %v", seen)
	}
}
