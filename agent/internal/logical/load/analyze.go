package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// Tables, materialized views and, as a whole, partitioned tables. Foreign tables
// would ask other servers; the system's own have statistics from the template.
const analyzeQuery = `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	AND ($1 = '' OR n.nspname = $1) ORDER BY c.relkind = 'p' DESC, c.relpages DESC, c.oid`

// addStatistics adds the gathering of statistics: of each table when its rows and
// indexes are there, of a partitioned table as a whole, which includes its
// partitions, and of materialized views. Nothing waits for
// it: it begins when all else has begun, while the last foreign keys are checked
// and materialized views are filled by other sessions. Like those of pg_restore,
// these are planned without statistics.
func (b *builder) addStatistics() {
	indexes := map[relation][]*node{}
	for _, n := range b.g.nodes {
		if n.class == classIndex && n.kind == nodeEntry {
			for _, r := range n.uses {
				indexes[r] = append(indexes[r], n)
			}
		}
	}
	add := func(r relation, pages int64) {
		n := b.node(&node{kind: nodeAnalyze, class: classAnalyze, pass: pgarchive.PassRefresh, of: r, cost: pages, uses: b.below(r, []relation{r})})
		if m := b.barrier(r); m != nil {
			n.after(m)
		}
		for _, u := range n.uses {
			for _, m := range indexes[u] {
				n.after(m)
			}
		}
	}
	for _, t := range b.g.tables {
		if t.tree == nil {
			add(t.relation, t.Pages)
		}
	}
	for _, tr := range b.g.trees {
		var pages int64
		for _, t := range tr.leaves {
			pages += t.Pages
		}
		add(tr.relation, pages)
	}
	for _, n := range slices.Clone(b.g.nodes) {
		if n.entry != nil && n.entry.Desc == "MATERIALIZED VIEW DATA" {
			r := relation{n.entry.Namespace, n.entry.Tag}
			b.node(&node{kind: nodeAnalyze, class: classAnalyze, pass: n.pass, of: r, uses: []relation{r}}).after(n)
		}
	}
}

// analyzeOne gathers the statistics of a table. It reads a sample, so it takes
// little time, however large the table is. A failure is a warning: everything is
// there. The error is that of an ended ctx or of a lost connection.
func (w *worker) analyzeOne(ctx context.Context, t relation) error {
	err := w.conn.Exec(ctx, "ANALYZE "+t.quoted())
	if err != nil && (ctx.Err() != nil || w.conn.Lost()) {
		return err
	}
	w.run.statistics.end(t, err)
	return nil
}

// analyze gathers the statistics that are missing yet, in all sessions at once,
// while nobody uses the database: without them it would be slow when it is
// needed most. Here too a failure is a warning.
func (r *restore) analyze(ctx context.Context, workers []*worker) error {
	r.progress.set(job.PhaseStatistics)
	a := &r.statistics
	var t relation
	var only pg.Name // of a database in use the side schema alone
	if r.d.Live != nil {
		only = r.d.Live.Staging
	}
	err := workers[0].conn.Each(ctx, analyzeQuery, []any{only}, []any{&t.schema, &t.name}, func() error {
		a.total++
		if !a.ended[t] {
			a.left = append(a.left, t)
		}
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

// analysis is what is done and left to do, and what failed.
type analysis struct {
	mu     sync.Mutex
	ended  map[relation]bool
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

// end notes that a table is done, or failed; the first few failures are told.
func (a *analysis) end(t relation, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended == nil {
		a.ended = map[relation]bool{}
	}
	a.ended[t] = true
	if err == nil {
		return
	}
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
		a.end(t, w.conn.Exec(ctx, "ANALYZE "+t.quoted()))
		ended()
	}
}
