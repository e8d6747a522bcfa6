package offline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusing is a store that fails the test when somebody writes to it.
type refusing struct {
	blob.Store
	t *testing.T
}

func (r refusing) Create(_ context.Context, key string, _ blob.Body) error {
	r.t.Errorf("object %s was written", key)
	return errs.ReadOnly
}

func (r refusing) Delete(_ context.Context, key string) error {
	r.t.Errorf("object %s was deleted", key)
	return errs.ReadOnly
}

// world is a store with a repository of one domain.
type world struct {
	t      *testing.T
	store  blob.Store
	domain *repo.Domain
	unlock seal.Unlocker
	sealer *seal.Sealer
	namer  *seal.Namer
	packs  []*pack.Directory
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: mem.New()}
	_, d, key := repotest.New(t, w.store)
	w.domain, w.unlock = d, key
	g := w.domain.WriteGrant()
	w.sealer = seal.NewSealer(w.domain.ID(), g.NewestEpoch, g.Seal[g.NewestEpoch], g.Refs)
	w.namer = seal.NewNamer(g.Name)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// frame seals a chunk.
type frame struct {
	entry repo.ListEntry
	plain []byte
	bytes []byte
}

func (w *world) frame(kind seal.Kind, plain []byte) frame {
	w.t.Helper()
	name := w.namer.Name(kind, plain)
	b, err := w.sealer.Seal(nil, kind, name, plain)
	w.must(err)
	e := repo.ListEntry{Kind: kind, Name: name, Length: uint32(len(plain))}
	if kind == seal.KindRowsText {
		e.Rows = 1
		e.Fingerprint.Add(chunk.HashRow(plain))
	}
	return frame{e, plain, b}
}

// pack puts a pack of frames.
func (w *world) pack(frames ...frame) {
	w.t.Helper()
	p, err := pack.Create(w.t.TempDir(), pack.Meta{Domain: w.domain.ID(), Created: time.Now()})
	w.must(err)
	for _, f := range frames {
		w.must(p.Add(f.bytes, seal.HashFrame(f.bytes)))
	}
	sealed, err := p.Finish(w.domain.Keys().Pack())
	w.must(err)
	w.must(w.store.Create(w.t.Context(), repo.PackObject(w.domain.ID(), sealed.ID()), sealed))
	w.packs = append(w.packs, sealed.Directory())
	w.must(sealed.Remove())
}

// index puts an index file of packs, moved by so many bytes: 0 is right.
func (w *world) index(off int64, packs ...*pack.Directory) {
	w.t.Helper()
	b := index.NewBuilder(w.domain.ID())
	for _, d := range packs {
		for _, e := range d.Entries {
			b.Add(e.Name, index.Location{Pack: d.ID, Offset: e.Offset + off, Length: e.Length})
		}
	}
	var out bytes.Buffer
	w.must(b.Build(&out))
	w.must(w.store.Create(w.t.Context(), repo.IndexObject(w.domain.ID(), [32]byte(out.Bytes()[out.Len()-32:])), blob.Bytes(out.Bytes())))
}

// snapshot commits a snapshot whose one table has the frames as rows; the list is
// given back to be put into a pack.
func (w *world) snapshot(instance repo.InstanceID, at time.Time, complete bool, rows []frame) (repo.JobID, frame) {
	w.t.Helper()
	var entries []repo.ListEntry
	var sum repo.Fingerprint
	var size int64
	for _, f := range rows {
		entries = append(entries, f.entry)
		sum.Merge(f.entry.Fingerprint)
		size += int64(len(f.plain))
	}
	plain, err := repo.EncodeList(entries)
	w.must(err)
	list := w.frame(seal.KindList, plain)
	refs := &repo.References{Lists: []repo.ListRef{{Name: list.entry.Name, Entries: uint32(len(entries)), Bytes: size}}, Chunks: int64(len(entries)), Bytes: size}
	stream := repo.Stream{Spans: []repo.Span{{Count: uint32(len(entries))}}, Bytes: size}
	content := &repo.Content{Version: 1, Kind: repo.KindLogical, Started: at, Finished: at, Instance: repo.InstanceFacts{Name: "main", Version: 150018}, Logical: &repo.Logical{
		Databases: []repo.Database{{Name: "app", OID: 1, State: repo.DatabaseFailed, Tables: []repo.Table{{OID: 2, Schema: "s", Name: "t", Rows: int64(len(rows)), Fingerprint: sum,
			Runs: []repo.Run{{Rows: int64(len(rows)), Fingerprint: sum, Stream: stream}}}}}}}}
	job := repo.NewID()
	sealedRefs, err := repo.SealReferences(refs, w.domain.Keys().Refs(), w.domain.ID(), job)
	w.must(err)
	sealedContent, err := repo.SealContent(content, w.domain.Keys().Seal(1), w.domain.ID(), job)
	w.must(err)
	p, err := w.domain.PrepareSnapshot(repo.SnapshotHeader{Kind: repo.KindLogical, Complete: complete, Instance: instance, Job: job, Fence: repo.Fence{Epoch: 1, Counter: 1}, SealEpoch: 1},
		sealedRefs, sealedContent, repo.Commit{Agent: repo.NewID(), Time: at})
	w.must(err)
	if r, err := w.domain.PutSnapshot(w.t.Context(), p); err != nil || r.Outcome != repo.OutcomeDone {
		w.t.Fatalf("put snapshot: %v, %v", r, err)
	}
	return job, list
}

// open opens the repository through a store that must not be written.
func (w *world) open() *offline.Reader {
	w.t.Helper()
	parent := w.t.TempDir()
	r, err := offline.Open(w.t.Context(), refusing{w.store, w.t}, parent, w.unlock)
	w.must(err)
	w.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			w.t.Error(err)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			w.t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return r
}

// read gives the chunks of the snapshot's table.
func (w *world) read(r *offline.Reader, job repo.JobID) ([]string, error) {
	s, err := r.Find(w.t.Context(), job.String())
	if err != nil {
		return nil, err
	}
	source, err := r.Source(w.t.Context(), s)
	if err != nil {
		return nil, err
	}
	var got []string
	for c, err := range source.Stream(w.t.Context(), s.Content.Logical.Databases[0].Tables[0].Runs[0].Stream) {
		if err != nil {
			return got, err
		}
		got = append(got, string(c.Plain))
	}
	return got, nil
}

func (w *world) want(got []string, rows []frame) {
	w.t.Helper()
	if len(got) != len(rows) {
		w.t.Fatalf("%d chunks, want %d", len(got), len(rows))
	}
	for i, f := range rows {
		if got[i] != string(f.plain) {
			w.t.Fatalf("chunk %d is another", i)
		}
	}
}

// rows makes frames of all sizes.
func (w *world) rows(seed uint64, n int) (rows []frame) {
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		// Words that no compression makes small, of all lengths up to some 30 KB.
		var plain []byte
		for range random.IntN(2000) {
			plain = strconv.AppendUint(plain, random.Uint64(), 36)
		}
		rows = append(rows, w.frame(seal.KindRowsText, fmt.Appendf(nil, "%d\t%s\n", i, plain)))
	}
	return rows
}

// damage changes a frame in a pack.
func (w *world) damage(d *pack.Directory, i int) {
	w.t.Helper()
	key := repo.PackObject(w.domain.ID(), d.ID)
	b, err := blob.ReadAll(w.t.Context(), w.store, key, d.Size)
	w.must(err)
	b[d.Entries[i].Offset+70] ^= 1
	w.must(w.store.Delete(w.t.Context(), key))
	w.must(w.store.Create(w.t.Context(), key, blob.Bytes(b)))
}

func TestChunksAreFoundWhateverTheIndexSays(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"a right one":   func(w *world) { w.index(0, w.packs...) },
		"none":          func(*world) {},
		"one of a part": func(w *world) { w.index(0, w.packs[0]) },
		"a wrong one":   func(w *world) { w.index(5, w.packs...) },
		"wrong in part": func(w *world) { w.index(0, w.packs[0]); w.index(1, w.packs[1:]...) },
		"a damaged file": func(w *world) {
			w.must(w.store.Create(w.t.Context(), repo.IndexObject(w.domain.ID(), [32]byte{1}), blob.Bytes("rubbish")))
		},
		"another's file": func(w *world) {
			w.must(w.store.Create(w.t.Context(), repo.IndexPrefix(w.domain.ID())+"readme", blob.Bytes("x")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rows := w.rows(1, 200)
			job, list := w.snapshot(repo.NewID(), time.Now(), true, rows)
			w.pack(rows[:100]...)
			w.pack(append(rows[150:], list)...)
			w.pack(rows[90:160]...)
			prepare(w)
			got, err := w.read(w.open(), job)
			w.must(err)
			w.want(got, rows)
		})
	}
}

func TestADamagedCopyIsReadElsewhereAndElseNamed(t *testing.T) {
	w := newWorld(t)
	rows := w.rows(2, 20)
	job, list := w.snapshot(repo.NewID(), time.Now(), true, rows)
	w.pack(append(rows, list)...)
	w.pack(rows[:10]...)
	w.index(0, w.packs[0])
	w.damage(w.packs[0], 7)
	got, err := w.read(w.open(), job)
	w.must(err)
	w.want(got, rows)

	w.damage(w.packs[0], 15)
	got, err = w.read(w.open(), job)
	if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "chunk 15 of list 0") || !strings.Contains(err.Error(), w.packs[0].ID.String()) {
		t.Errorf("damage: %v", err)
	}
	w.want(got, rows[:15])
	w.damage(w.packs[0], 20) // the list
	if got, err := w.read(w.open(), job); !errors.Is(err, errs.Corrupt) || len(got) != 0 || !strings.Contains(err.Error(), "list 0") {
		t.Errorf("damage of the list: %d chunks, %v", len(got), err)
	}
}

func TestAReaderMayLeaveAtAnyChunk(t *testing.T) {
	w := newWorld(t)
	rows := w.rows(3, 200)
	job, list := w.snapshot(repo.NewID(), time.Now(), true, rows)
	w.pack(append(rows, list)...)
	r := w.open()
	s, err := r.Find(t.Context(), job.String()[:9])
	w.must(err)
	source, err := r.Source(t.Context(), s)
	w.must(err)
	for _, n := range []int{0, 1, 50, 199} {
		i := 0
		for _, err := range source.Stream(t.Context(), s.Content.Logical.Databases[0].Tables[0].Runs[0].Stream) {
			w.must(err)
			if i == n {
				break
			}
			i++
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range source.Stream(ctx, s.Content.Logical.Databases[0].Tables[0].Runs[0].Stream) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("canceled: %v", last)
	}
}

func TestSnapshotsAreListedAndFound(t *testing.T) {
	w := newWorld(t)
	one, two := repo.NewID(), repo.NewID()
	began := time.Unix(1_800_000_000, 0).UTC()
	var jobs []repo.JobID
	for i, c := range []struct {
		instance repo.InstanceID
		complete bool
	}{{one, true}, {one, true}, {two, true}, {one, false}} {
		job, list := w.snapshot(c.instance, began.Add(time.Duration(i)*time.Hour), c.complete, w.rows(uint64(i), 3))
		w.pack(list)
		jobs = append(jobs, job)
	}
	r := w.open()
	for ref, want := range map[string]repo.JobID{"latest": jobs[2], "latest:" + one.String()[:8]: jobs[1], jobs[3].String()[:12]: jobs[3], strings.ToUpper(jobs[0].String()): jobs[0]} {
		if s, err := r.Find(t.Context(), ref); err != nil || s.ID != want {
			t.Errorf("%s: %v, %v", ref, s, err)
		}
	}
	for ref, kind := range map[string]*errs.Kind{"": errs.NotFound, "latest:main": errs.Invalid, "latest:nosuch": errs.NotFound, strings.Repeat("f", 32): errs.NotFound} {
		if _, err := r.Find(t.Context(), ref); !errors.Is(err, kind) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	// A damaged one does not hide the others.
	key := repo.SnapshotObject(one, jobs[1])
	b, err := blob.ReadAll(t.Context(), w.store, key, repo.MaxSnapshotBytes)
	w.must(err)
	b[len(b)/2] ^= 1
	w.must(w.store.Delete(t.Context(), key))
	w.must(w.store.Create(t.Context(), key, blob.Bytes(b)))
	var all []*offline.Snapshot
	w.must(w.open().List(t.Context(), func(s *offline.Snapshot) error { all = append(all, s); return nil }))
	offline.Sort(all)
	if len(all) != 4 || all[0].ID != jobs[3] || all[3].ID != jobs[1] || !errors.Is(all[3].Err, errs.Corrupt) {
		t.Errorf("listed: %+v", all)
	}
	if _, err := w.open().Find(t.Context(), jobs[1].String()); !errors.Is(err, errs.Corrupt) {
		t.Errorf("the damaged one: %v", err)
	}
	if _, err := offline.Open(t.Context(), w.store, t.TempDir(), seal.NewKeyFile()); !errors.Is(err, errs.Denied) {
		t.Errorf("with another key: %v", err)
	}
}
