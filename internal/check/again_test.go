package check_test

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// acting is a store in which somebody acts just before an object is opened.
type acting struct {
	blob.Store
	mu    sync.Mutex
	opens int
	at    int // number of the opening of an object under prefix
	on    string
	act   func()
}

func (s *acting) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	s.mu.Lock()
	if strings.HasPrefix(key, s.on) {
		if s.opens++; s.opens == s.at && s.act != nil {
			s.act()
		}
	}
	s.mu.Unlock()
	return s.Store.Open(ctx, key, off, n)
}

// rewrite does what a prune does at its end: everything in the packs of a domain
// is copied into one new pack, index files are replaced, the packs go.
func (w *world) rewrite(n int) {
	w.t.Helper()
	d := w.domains[n]
	old := w.list(repo.PackPrefix(d.ID()))
	var made *pack.Writer
	for _, key := range old {
		_, id, err := repo.ParsePackObject(key)
		must(w.t, err)
		open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return w.store.Open(ctx, key, off, n) }
		info, err := w.store.Stat(w.t.Context(), key)
		must(w.t, err)
		dir, err := pack.ReadDirectory(w.t.Context(), open, info.Size, id)
		must(w.t, err)
		if made == nil {
			made, err = pack.Create(w.t.TempDir(), dir.Meta)
			must(w.t, err)
		}
		must(w.t, pack.EachFrame(w.t.Context(), open, dir, func(e pack.Entry, frame []byte, _ error) error { return made.Add(frame, e.Hash) }))
	}
	sealed, err := made.Finish(d.Keys().Pack())
	must(w.t, err)
	must(w.t, w.store.Create(w.t.Context(), repo.PackObject(d.ID(), sealed.ID()), sealed))
	b := index.NewBuilder(d.ID())
	b.AddPack(sealed.Directory())
	var file strings.Builder
	must(w.t, b.Build(&file))
	indexes := w.list(repo.IndexPrefix(d.ID()))
	must(w.t, w.store.Create(w.t.Context(), repo.IndexObject(d.ID(), [32]byte([]byte(file.String()[file.Len()-32:]))), blob.Bytes([]byte(file.String()))))
	for _, key := range append(indexes, old...) {
		must(w.t, w.store.Delete(w.t.Context(), key))
	}
}

// TestAPruneBesideACheckIsNoDamage lets a prune end between any two readings of a
// check, in the short run between some: one that has copied what is needed, and
// one after which nothing is.
func TestAPruneBesideACheckIsNoDamage(t *testing.T) {
	step := 23 // of the openings of objects
	if os.Getenv("TUSKVAULT_LONG") != "" {
		step = 1
	}
	for name, act := range map[string]func(w *world){
		"copied": func(w *world) { w.rewrite(0) },
		"forgotten": func(w *world) {
			for n := range 2 {
				w.put(repo.SnapshotObject(w.backups[0].Instance, w.snapshots[n]), nil)
			}
			for _, key := range append(w.list(repo.IndexPrefix(w.domains[0].ID())), w.list(repo.PackPrefix(w.domains[0].ID()))...) {
				w.put(key, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range []string{repo.SnapshotsPrefix, repo.IndexesPrefix, repo.PacksPrefix} {
				for at, opened := 1, true; opened; at += step {
					w := newWorldOf(t, 40)
					s := &acting{Store: w.store, on: on, at: at, act: func() { act(w) }}
					r, err := repo.Open(t.Context(), s, w.keys[0])
					must(t, err)
					report, err := check.Run(t.Context(), s, check.Options{Repository: r, Dir: t.TempDir(), ReadData: true, Sample: check.Whole, Seed: 1})
					must(t, err)
					for _, f := range report.Findings {
						if !f.Harmless {
							t.Fatalf("at %d of %s: %+v", at, on, f)
						}
					}
					opened = s.opens >= at
				}
			}
		})
	}
}
