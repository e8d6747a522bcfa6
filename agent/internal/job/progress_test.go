package job_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
)

func TestTablesAtWorkComeBeforeTheLargestThatWait(t *testing.T) {
	table := func(name, phase string, bytes int64) job.TableProgress {
		return job.TableProgress{Table: name, Phase: phase, BytesTotal: bytes}
	}
	got := job.Busiest([]job.TableProgress{
		table("small waiting", job.TableWaiting, 1), table("done", job.TableDone, 900), table("large waiting", job.TableWaiting, 500),
		table("small copying", job.TableCopying, 2), table("large indexing", job.TableIndexing, 100), table("middle waiting", job.TableWaiting, 50),
	}, 4)
	var names []string
	for _, g := range got {
		names = append(names, g.Table)
	}
	if d := cmp.Diff([]string{"large indexing", "small copying", "large waiting", "middle waiting"}, names); d != "" {
		t.Error(d)
	}
	if got := job.Busiest(nil, 4); len(got) != 0 {
		t.Error(got)
	}
}

func TestAProgressNeverHasMoreTablesThanItsBound(t *testing.T) {
	many := func(n int) []job.TableProgress {
		var all []job.TableProgress
		for i := range n {
			all = append(all, job.TableProgress{Table: fmt.Sprint(i)})
		}
		return all
	}
	p := job.Progress{Databases: []job.DatabaseProgress{
		{Database: "waits", Phase: job.PhaseWaiting, Tables: many(50)}, {Database: "works", Phase: job.PhaseData, Tables: many(40)}, {Database: "too", Phase: job.PhaseIndexes, Tables: many(20)},
	}}
	p.Bound()
	if a, b, c := len(p.Databases[0].Tables), len(p.Databases[1].Tables), len(p.Databases[2].Tables); a != 4 || b != 40 || c != 20 {
		t.Errorf("%d, %d and %d tables are kept of %d", a, b, c, job.MaxTables)
	}
}
