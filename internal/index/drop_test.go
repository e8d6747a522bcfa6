package index_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// TestDroppedPacksAreForgottenAndTheRestIsNot compares with a model: chunks in
// several packs and files, of which random packs go again and again.
func TestDroppedPacksAreForgottenAndTheRestIsNot(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	s := open(t, dir)
	model := map[seal.Name][]index.Location{}
	for range 6 {
		b := index.NewBuilder(domain)
		for range 300 {
			i := rng.Uint64N(400)
			l := index.Location{Pack: packID(rng.Uint64N(30)), Offset: int64(24 + rng.Uint64N(1000)), Length: 80}
			b.Add(name(i), l)
			if !slices.Contains(model[name(i)], l) {
				model[name(i)] = append(model[name(i)], l)
			}
		}
		add(t, s, b)
	}
	for gone := map[pack.ID]bool{}; len(gone) < 30; {
		var packs []pack.ID
		for range 1 + rng.IntN(8) {
			id := packID(rng.Uint64N(31)) // one of them was never there
			packs = append(packs, id)
			gone[id] = true
		}
		if err := s.DropPacks(t.Context(), packs); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(3) == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
		}
		for n, places := range model {
			want := slices.DeleteFunc(slices.Clone(places), func(l index.Location) bool { return gone[l.Pack] })
			got, err := s.Lookup(nil, n)
			if err != nil || len(got) != len(want) || slices.ContainsFunc(got, func(l index.Location) bool { return !slices.Contains(want, l) }) {
				t.Fatalf("%d packs gone: found %v, want %v: %v", len(gone), got, want, err)
			}
		}
		for i := range uint64(31) {
			if has, err := s.HasPack(packID(i)); err != nil || has && gone[packID(i)] {
				t.Fatalf("pack %d: has %v, %v", i, has, err)
			}
		}
		delete(gone, packID(30))
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("every pack is gone, and %d files are left", len(left))
	}
}
