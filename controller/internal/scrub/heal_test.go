package scrub_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// fakeCopies is one copy, which heals what it is told to.
type fakeCopies struct {
	copy *repo.Repository

	mu    sync.Mutex
	heals []string // store, space, key
	fails bool
}

func (f *fakeCopies) Repository(_ context.Context, name string) (*repo.Repository, error) {
	if name != "far" {
		return nil, fmt.Errorf("copy %q: %w", name, errs.NotFound)
	}
	return f.copy, nil
}

func (f *fakeCopies) Heal(_ context.Context, store, key string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heals = append(f.heals, store+" "+key)
	if f.fails {
		return "", errs.Corrupt
	}
	return "far", nil
}

func (f *fakeCopies) HealLater(store string, keys ...string) {
	for _, key := range keys {
		_, _ = f.Heal(context.Background(), store, key) // what it says is remembered
	}
}

func (f *fakeCopies) Names() []string { return []string{"far"} }

func (f *fakeCopies) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.heals
	f.heals = nil
	return out
}

func TestACheckHealsWhatItFindsInTheStoreThatItChecks(t *testing.T) {
	w := newWorld(t)
	far := &reads{Store: mem.New()}
	other, d, _ := repotest.New(t, far) // stands for the copy: a check opens what it is given
	repotest.NewBackups(t, other, d).Backup(repotest.Table{Database: "app", Name: "t", Rows: 100})
	_, err := other.ClaimEpoch(t.Context())
	must(t, err)
	copies := &fakeCopies{copy: other}
	c := scrub.NewChecker(scrub.Deps{Repository: w.repo, Catalog: w.catalog, Known: scrub.NewKnown(w.catalog), Marks: w.marks, Trail: w.trail, Events: w.events, Copies: copies,
		Dir: filepath.Join(w.dir, "check"), Log: zaptest.NewLogger(t)})
	stop := running(t, c.Run)
	defer stop()
	if s := ended(t, c, whole()); s.State != catalog.CheckClean || len(copies.take()) != 0 || strings.Contains(s.Message, "healed") {
		t.Fatalf("clean: %+v", s)
	}
	w.damage(w.packs[1])
	s := ended(t, c, whole())
	if got := copies.take(); !slices.Equal(got, []string{" " + w.packs[1]}) || !strings.HasSuffix(s.Message, "; 1 of 1 objects were healed from another store") || s.State != catalog.CheckDamaged {
		t.Errorf("healed %q: %+v", got, s)
	}
	copies.fails = true
	if s := ended(t, c, whole()); !strings.HasSuffix(s.Message, "; 0 of 1 objects were healed from another store") {
		t.Errorf("not healed: %s", s.Message)
	}
	copies.take()

	// The copy is checked by itself: it neither marks nor heals the store.
	var keys []string
	must(t, far.List(t.Context(), repo.PacksPrefix, "", func(i blob.Info) error { keys = append(keys, i.Key); return nil }))
	spec := whole()
	spec.Copy = "far"
	if s := ended(t, c, spec); s.State != catalog.CheckClean || s.Copy != "far" || s.PacksRead != int64(len(keys)) {
		t.Errorf("the copy: %+v", s)
	}
	must(t, far.Delete(t.Context(), keys[0]))
	marked := w.marked()
	spec.ID = repo.NewID()
	s = ended(t, c, spec)
	if got := copies.take(); s.State != catalog.CheckDamaged || !slices.Contains(got, "far "+keys[0]) {
		t.Errorf("the copy lacks a pack: healed %q: %+v", got, s)
	}
	if got := w.marked(); !slices.Equal(got, marked) {
		t.Errorf("marked by a check of the copy: %q", got)
	}
	spec.ID, spec.Copy = repo.NewID(), "near"
	if _, err := c.Start(t.Context(), spec); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no such copy: %v", err)
	}
}
