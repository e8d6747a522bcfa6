package dataset_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

var shared pgtest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func TestTheSameScaleGivesTheSameRowsAndAChangeShows(t *testing.T) {
	s := shared.Server(t)
	digests := func(change bool) map[string]string {
		url := s.URL(s.Database(t))
		if err := dataset.Fill(t.Context(), url, 0.01); err != nil {
			t.Fatal(err)
		}
		if change {
			if err := dataset.Change(t.Context(), url, 0.01); err != nil {
				t.Fatal(err)
			}
		}
		d, err := dataset.Digests(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b, c := digests(false), digests(false), digests(true)
	if d := cmp.Diff(a, b); d != "" {
		t.Fatalf("two fills differ: %s", d)
	}
	for _, table := range []string{"shop.customers", "shop.events", "shop.lines", "shop.files", "shop.orders_rest", "(sequences)"} {
		if a[table] == "" || a[table] == c[table] {
			t.Errorf("%s: %q before, %q after the change", table, a[table], c[table])
		}
	}
}
