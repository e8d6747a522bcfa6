package load_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// sees waits until a progress holds that ok accepts; false when ctx ends first.
func (r *recorder) sees(ctx context.Context, ok func(job.Progress) bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		for _, p := range r.progress {
			if ok(p) {
				r.mu.Unlock()
				return true
			}
		}
		r.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// table gives a table of the first database of a progress.
func tableIn(p job.Progress, name string) (job.TableProgress, bool) {
	for _, d := range p.Databases {
		for _, t := range d.Tables {
			if t.Table == name {
				return t, true
			}
		}
	}
	return job.TableProgress{}, false
}

func TestARestoreTellsHowFarEachTableIs(t *testing.T) {
	s := shared.Server(t)
	db := smallDatabase(t, s)
	m, c := backUp(t, s, db)
	told := &recorder{}
	to := pgtest.Unique("shown")
	t.Cleanup(func() { s.DropDatabase(t, to) })
	var chunks atomic.Int64
	m.before = func(ctx context.Context, e repo.ListEntry) error {
		if e.Kind != seal.KindRowsText || chunks.Add(1) != 20 {
			return nil
		}
		// In the middle of the large table nothing moves until it was said.
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if !told.sees(ctx, func(p job.Progress) bool {
			a, ok := tableIn(p, "public.a")
			return ok && a.Phase == job.TableCopying && a.Rows > 0 && a.Rows < 5000 && a.RowsTotal == 5000 && a.Bytes < a.BytesTotal && !a.Estimated
		}) {
			t.Error("nobody was told of the table that was loaded")
		}
		return nil
	}
	p, err := load.Prepare(t.Context(), load.Options{Config: config(s), Source: source{m}, Reporter: told}, c, repo.NewID(), mapping(db, to))
	if err != nil {
		t.Fatal(err)
	}
	if out := p.Run(t.Context()); out.Err != nil {
		t.Fatal(out.Err)
	}
	last := told.progress[len(told.progress)-1].Databases[0]
	if last.Phase != job.PhaseDone || last.IndexesDone != 1 || last.IndexesTotal != 1 || last.Rows != 6000 || last.TablesDone != 2 || len(last.Tables) != 0 {
		t.Errorf("in the end: %+v", last)
	}
}
