package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestAPartTakesItsShareWhereItWillLie(t *testing.T) {
	whole := &repo.Database{Tables: []repo.Table{{Pages: 300}, {Pages: 100}},
		Size: &repo.SizeFacts{Bytes: 4000, Indexes: 400, Elsewhere: []repo.SpaceFacts{{Tablespace: "fast", Bytes: 800}, {Tablespace: "slow", Bytes: 400}}}}
	part := &repo.Database{Tables: []repo.Table{{Pages: 100}}}
	got := sizeOf(whole, part, map[pg.Name]pg.Name{"fast": "ssd", "slow": ""})
	want := &repo.SizeFacts{Bytes: 1000, Indexes: 100, Elsewhere: []repo.SpaceFacts{{Tablespace: "ssd", Bytes: 200}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := sizeOf(&repo.Database{}, part, nil); got != nil {
		t.Errorf("a size that nobody recorded: %+v", got)
	}
	if got := sizeOf(whole, whole, nil); !cmp.Equal(got, whole.Size) {
		t.Errorf("the whole: %+v", got)
	}
}

func TestHalfADatabaseIsHalfOfItsSizeHoweverItIsHalved(t *testing.T) {
	whole := &repo.Database{Tables: []repo.Table{{Name: "a", Pages: 500}, {Name: "b", Pages: 500}},
		Size: &repo.SizeFacts{Bytes: 1000, Elsewhere: []repo.SpaceFacts{{Tablespace: "fast", Bytes: 400}}}}
	for name, part := range map[string]repo.Database{
		"one of two tables":      {Tables: []repo.Table{{Name: "a", Pages: 500}}},
		"one of two has no rows": {Tables: []repo.Table{{Name: "a", Pages: 500}, {Name: "b", Pages: 500, Omitted: "its chunks are damaged"}}},
	} {
		part.Size = sizeOf(whole, &part, nil)
		p := &Plan{Databases: []DatabasePlan{{Source: &part, Heap: 500 * 8192}}}
		if d := cmp.Diff([]spaceSizes{{"pg_default": 300, "fast": 200}}, p.sizes()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
