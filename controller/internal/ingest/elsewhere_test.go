package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// twoCopies are two other stores, of which the first is damaged.
type twoCopies struct {
	stores []*mem.Store

	mu    sync.Mutex
	reads map[string]int // by key
	told  []string
}

func (c *twoCopies) Read(ctx context.Context, key string, fn func(context.Context, blob.Store) error) (string, error) {
	failed := errs.NotFound.Error()
	for i, s := range c.stores {
		err := fn(ctx, s)
		if err == nil {
			c.mu.Lock()
			c.reads[key]++
			c.mu.Unlock()
			return []string{"bad", "good"}[i], nil
		}
		failed = err.Error()
	}
	return "", errors.New(failed)
}

func (c *twoCopies) Tell(_ context.Context, _ repo.JobID, _ repo.Fence, message string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, message)
	return nil
}

// fill copies all objects of a store; in the first copy every byte of each is wrong.
func (c *twoCopies) fill(t *testing.T, from blob.Store) {
	t.Helper()
	must(t, from.List(t.Context(), "", "", func(i blob.Info) error {
		b, err := blob.ReadAll(t.Context(), from, i.Key, 1<<30)
		if err != nil {
			return err
		}
		bad := bytes.Clone(b)
		for i := range bad {
			bad[i] ^= 1
		}
		return errors.Join(c.stores[0].Create(t.Context(), i.Key, blob.Bytes(bad)), c.stores[1].Create(t.Context(), i.Key, blob.Bytes(b)))
	}))
}

// What the store does not give comes from a copy that has it whole; a backup takes
// nothing from there.
func TestRestoresReadFromCopiesWhatTheStoreDoesNotGive(t *testing.T) {
	for what, hurt := range map[string]func(w *world, a *agent, job repo.JobID){
		"frames are damaged": func(w *world, _ *agent, _ repo.JobID) {
			for _, key := range keysOf(t, w.store, repo.PacksPrefix) {
				info, err := w.store.Stat(t.Context(), key)
				must(t, err)
				for at := int64(100); at < info.Size*9/10; at += info.Size / 20 {
					must(t, w.store.Damage(t.Context(), key, at, []byte("something else")))
				}
			}
		},
		"packs are gone": func(w *world, _ *agent, _ repo.JobID) {
			for _, key := range keysOf(t, w.store, repo.PacksPrefix) {
				must(t, w.store.Delete(t.Context(), key))
			}
		},
		"the snapshot is damaged": func(w *world, a *agent, job repo.JobID) {
			must(t, w.store.Damage(t.Context(), repo.SnapshotObject(a.instance, job), 150, []byte("something else")))
		},
		"the snapshot is gone": func(w *world, a *agent, job repo.JobID) {
			must(t, w.store.Delete(t.Context(), repo.SnapshotObject(a.instance, job)))
		},
		"the store does not answer": func(w *world, _ *agent, _ repo.JobID) { w.store.FailReads(true) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			c := &twoCopies{stores: []*mem.Store{mem.New(), mem.New()}, reads: map[string]int{}}
			w.copies = c
			w.start()
			a := w.agent()
			chunks := a.rows(1, 60, 20_000)
			job := repo.NewID()
			_, _, err := a.backup(job, 1, chunks)
			must(t, err)
			if len(c.reads) != 0 {
				t.Errorf("a backup read from copies: %v", c.reads)
			}
			c.fill(t, w.store)
			w.restart() // nothing is in a cache
			a.client = nil
			hurt(w, a, job)
			got, err := a.restore(job, a.instance)
			if err != nil || len(got) != len(chunks)+1 {
				t.Fatalf("%d chunks, %v", len(got), err)
			}
			for _, want := range chunks {
				if !slices.ContainsFunc(got, func(p []byte) bool { return bytes.Equal(p, want.plain) }) {
					t.Fatalf("chunk %s was not given", want.name.Short())
				}
			}
			if len(c.reads) == 0 {
				t.Error("nothing was read from copies")
			}
			w.stop()
			if strings.HasPrefix(what, "the snapshot") {
				return // it is no chunk
			}
			if len(c.told) != 1 || !strings.Contains(c.told[0], "copy good") || strings.Contains(c.told[0], "copy bad") {
				t.Errorf("told the job: %q", c.told)
			}
		})
	}
}

func keysOf(t *testing.T, s blob.Store, prefix string) (keys []string) {
	t.Helper()
	must(t, s.List(t.Context(), prefix, "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
	return slices.Clip(keys)
}
