package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// readPlain reads all chunks of a snapshot in plain, in order.
func readPlain(ctx context.Context, w *world, a *agent, job repo.JobID) ([][]byte, error) {
	r, err := w.server.OpenPlain(ctx, ingest.SnapshotRef{ID: job, Instance: a.instance, Domain: a.domain})
	if err != nil {
		return nil, err
	}
	d, err := w.repo.Domain(ctx, a.domain)
	must(w.t, err)
	s, err := w.repo.ReadSnapshot(ctx, a.instance, job)
	must(w.t, err)
	refs, err := s.OpenReferences(d.Keys().Refs())
	must(w.t, err)
	var spans []repo.Span
	for i, l := range refs.Lists {
		spans = append(spans, repo.Span{List: uint32(i), Count: l.Entries})
	}
	var got [][]byte
	err = r.Read(ctx, spans, func(_ repo.ListEntry, plain []byte) error {
		got = append(got, bytes.Clone(plain))
		return nil
	})
	return got, err
}

func TestASnapshotIsReadInPlain(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 200, 20_000)
	job := repo.NewID()
	_, _, err := a.backup(job, 1, chunks)
	must(t, err)
	got, err := readPlain(t.Context(), w, a, job)
	must(t, err)
	if len(got) != len(chunks)+1 {
		t.Fatalf("%d chunks, want %d", len(got), len(chunks)+1)
	}
	for _, c := range chunks {
		if !slices.ContainsFunc(got, func(p []byte) bool { return bytes.Equal(p, c.plain) }) {
			t.Fatalf("chunk %s was not given", c.name.Short())
		}
	}
	// What the reader refuses ends it, with nothing left behind: the test's end sees to that.
	r, err := w.server.OpenPlain(t.Context(), ingest.SnapshotRef{ID: job, Instance: a.instance, Domain: a.domain})
	must(t, err)
	enough := errors.New("enough")
	if err := r.Read(t.Context(), []repo.Span{{Count: 64}}, func(repo.ListEntry, []byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("stopped by the reader: %v", err)
	}
	for name, spans := range map[string][]repo.Span{"no such list": {{List: 999, Count: 1}}, "beyond the list": {{First: 1 << 20, Count: 1}}, "nothing": {{}}} {
		if err := r.Read(t.Context(), spans, func(repo.ListEntry, []byte) error { return nil }); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.server.OpenPlain(t.Context(), ingest.SnapshotRef{ID: repo.NewID(), Instance: a.instance, Domain: a.domain}); !errors.Is(err, errs.NotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	w.stop()
	if err := r.Read(t.Context(), []repo.Span{{Count: 1}}, func(repo.ListEntry, []byte) error { return nil }); !errors.Is(err, errs.Unavailable) {
		t.Errorf("after the stop: %v", err)
	}
}

func TestDamageIsNotReadInPlain(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	job := repo.NewID()
	_, _, err := a.backup(job, 1, a.rows(1, 50, 5_000))
	must(t, err)
	packs, err := w.catalog.PacksOf(t.Context(), job)
	must(t, err)
	for _, p := range packs {
		must(t, w.store.Damage(t.Context(), repo.PackObject(a.domain, p.ID), 2000, []byte{0xff, 0xfe, 0xfd, 1, 2, 3, 4}))
	}
	if _, err := readPlain(t.Context(), w, a, job); !errors.Is(err, errs.Corrupt) {
		t.Errorf("a damaged pack: %v", err)
	}
}
