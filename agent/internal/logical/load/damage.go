package load

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// skips tells whether a failure to load rows is damage of the snapshot that the
// request said to go on without, and notes it: the table stays empty. Rows that
// were routed to other partitions cannot be told from theirs any more.
func (w *worker) skips(ctx context.Context, n *node, err error) bool {
	r := w.run
	if err == nil || n.kind != nodeRun || !r.plan.Request.SkipDamaged || !errors.Is(err, errs.Corrupt) || postgres.Code(err) != "" || ctx.Err() != nil || w.conn.Lost() {
		return false
	}
	if r.d.Live != nil && r.d.Live.InPlace || n.table.tree != nil && r.routed(n.table.tree) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.damaged[n.table] {
		r.damaged[n.table] = true
		if r.faults == nil {
			r.faults = map[*table]TableResult{}
		}
		r.faults[n.table] = TableResult{State: TableNotCompared, Why: err.Error()}
		r.problems = append(r.problems, repo.Problem{Severity: "error", Database: r.d.Target, Object: "table " + n.table.String(),
			Reason: plan.DamagedRows + ", it is left empty: " + err.Error(), Hint: "look for its rows in another snapshot"})
	}
	return true
}

func (r *restore) isDamaged(t *table) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damaged[t]
}

// short tells whether tables were left empty because they are damaged.
func (r *restore) short() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.damaged) > 0 || r.d.Chosen != nil && len(r.d.Chosen.Damaged) > 0
}

// emptyDamaged takes out what was loaded of tables before their damage was found.
func (r *restore) emptyDamaged(ctx context.Context, w *worker) error {
	if r.graph == nil {
		return nil
	}
	for _, t := range r.graph.tables {
		if !r.isDamaged(t) {
			continue
		}
		if err := w.conn.Exec(ctx, "TRUNCATE ONLY "+t.quoted()); err != nil {
			return fmt.Errorf("empty table %s, which is damaged: %w", t, err)
		}
	}
	return nil
}

// refersToDamaged tells whether an entry is a foreign key to a damaged table:
// its rows are missing.
func (w *worker) refersToDamaged(n *node) bool {
	if n.kind != nodeEntry || n.entry.Desc != "FK CONSTRAINT" {
		return false
	}
	q, ok := sqltext.References(n.entry.Defn)
	if !ok {
		return false
	}
	to := relation{q.Schema, q.Name}
	w.run.mu.Lock()
	defer w.run.mu.Unlock()
	for t := range w.run.damaged {
		if t.relation == to || t.tree != nil && t.tree.relation == to {
			return true
		}
	}
	return false
}
