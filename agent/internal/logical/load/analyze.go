package load

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// Tables, materialized views and, as a whole, partitioned tables. Foreign tables
// would ask other servers; the system's own have statistics from the template.
const analyzeQuery = `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	AND ($1 = '' OR n.nspname = $1) ORDER BY c.relkind = 'p' DESC, c.relpages DESC, c.oid`

// analyze gathers statistics, in all sessions at once, while nobody uses the
// database yet: without them it would be slow when it is needed most. It reads a
// sample, so it takes little time, however large a table is. A failure is a
// warning: everything is there. The error is that of an ended ctx.
func (r *restore) analyze(ctx context.Context, workers []*worker) error {
	r.progress.set(job.PhaseStatistics)
	a := analysis{}
	var t relation
	var only pg.Name // of a database in use the side schema alone
	if r.d.Live != nil {
		only = r.d.Live.Staging
	}
	err := workers[0].conn.Each(ctx, analyzeQuery, []any{only}, []any{&t.schema, &t.name}, func() error {
		a.left = append(a.left, t)
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	hint := "in database " + r.d.Target.Display() + ": ANALYZE;"
	if err != nil {
		r.warn("statistics", "could not be gathered: list tables: "+err.Error(), hint)
		return nil
	}
	a.total = len(a.left)
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() { a.work(ctx, w) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.failed += len(a.left) // not begun, if every session was lost
	if a.failed > 0 {
		r.warn("statistics", fmt.Sprintf("could not be gathered of %d of %d tables: %s", a.failed, a.total, strings.Join(a.told, "; ")), hint)
	}
	return nil
}

// analysis is what is left to do, and what failed.
type analysis struct {
	mu     sync.Mutex
	left   []relation
	total  int
	failed int
	told   []string
}

func (a *analysis) next() (t relation, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.left) == 0 {
		return t, false
	}
	t, a.left = a.left[0], a.left[1:]
	return t, true
}

// fail notes a failure; the first few are told.
func (a *analysis) fail(t relation, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed++
	if len(a.told) < 3 {
		a.told = append(a.told, t.String()+": "+err.Error())
	}
}

func (a *analysis) work(ctx context.Context, w *worker) {
	for ctx.Err() == nil && !w.conn.Lost() {
		t, ok := a.next()
		if !ok {
			return
		}
		ended := w.run.progress.analyze(t)
		if err := w.conn.Exec(ctx, "ANALYZE "+t.quoted()); err != nil {
			a.fail(t, err)
		}
		ended()
	}
}
