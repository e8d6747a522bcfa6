package index_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/internal/index"
)

func TestTheFilterSparesNearlyEverySearch(t *testing.T) {
	const n = 100_000
	f := index.NewFilter(n)
	for i := range uint64(n) {
		x := name(i)
		f.Add(x[:16])
	}
	wrong := 0
	for i := range uint64(2 * n) {
		x := name(i)
		if got := f.Perhaps(x[:16]); !got && i < n {
			t.Fatalf("name %d was added and is denied", i)
		} else if got && i >= n {
			wrong++
		}
	}
	rate := float64(wrong) / n
	t.Logf("%.2f %% false answers", rate*100)
	if rate > 0.02 {
		t.Errorf("%.2f %% of strange names are let through", rate*100)
	}
}
