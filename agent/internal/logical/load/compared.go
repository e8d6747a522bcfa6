package load

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// MaxTableResults bounds the tables that are listed of one database.
const MaxTableResults = 1000

// TableState is what comparing a table came to.
type TableState byte

// The states, the worst first.
const (
	// TableDiffers: its rows, as they arrived or as they were read back, are not
	// what the manifest says, or cannot be had from the snapshot.
	TableDiffers TableState = iota
	// TableNotCompared: its rows are in the snapshot and were not read back.
	TableNotCompared
	// TableOmitted: its rows are not in the snapshot.
	TableOmitted
	// TableEqual: it was read back and is equal.
	TableEqual
)

// TableResult is the result of one table.
type TableResult struct {
	Schema, Name pg.Name
	State        TableState
	// Rows that the snapshot has of it.
	Rows int64
	// Why it is not equal.
	Why string
}

// Compared is what comparing one database came to.
type Compared struct {
	// Equal, Differing, NotCompared and Omitted count its tables.
	Equal, Differing, NotCompared, Omitted int64
	// Tables, the worst first, at most MaxTableResults.
	Tables []TableResult
	// Data, Compare and Build are session time spent on loading rows, on reading
	// them back, and on everything else between the first table and the last
	// index. Sessions work at the same time: together they may be more than the
	// wall time.
	Data, Compare, Build time.Duration
	// Statistics is session time spent on gathering statistics; what is gathered
	// after everything else counts as wall time.
	Statistics time.Duration
	// Schema is wall time: making the database with what comes before the rows.
	Schema time.Duration
}

// spend counts the time that a session spent on a node.
func (r *restore) spend(n *node, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n.kind {
	case nodeRun, nodeObjects, nodeSequences:
		r.seen.Data += d
	case nodeVerify, nodeVerifyTree, nodeVerifyObjects:
		r.seen.Compare += d
	case nodeAnalyze:
		r.seen.Statistics += d
	default:
		r.seen.Build += d
	}
}

// fault notes which tables a node that failed was about; of several faults of a
// table the first stands. It tells whether the restore goes on to the other
// tables: where everything is to be compared, a difference is kept for the end.
func (r *restore) fault(ctx context.Context, n *node, err error) (goOn bool) {
	if ctx.Err() != nil {
		return false // it was ended for what another session found
	}
	tables := []*table{n.table}
	if n.kind == nodeVerifyTree {
		tables = n.tree.leaves
	}
	rows := n.kind == nodeRun || n.kind == nodeVerify || n.kind == nodeVerifyTree
	// A difference is our own finding; damage that the server reports has its code.
	differs := rows && errors.Is(err, errs.Corrupt) && postgres.Code(err) == ""
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tables {
		if t == nil {
			continue
		}
		f := TableResult{State: TableNotCompared, Why: err.Error()}
		if differs {
			f.State = TableDiffers
		}
		if r.faults == nil {
			r.faults = map[*table]TableResult{}
		}
		if _, ok := r.faults[t]; !ok {
			r.faults[t] = f
		}
	}
	if !differs || !r.o.CompareAll {
		return false
	}
	if r.difference == nil {
		r.difference = err
	}
	return true
}

// compare sums up what is known of the tables when the restore of a database has
// ended, however it did.
func (r *restore) compare() Compared {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	known := map[relation]TableResult{}
	if r.graph != nil {
		for _, t := range r.graph.tables {
			f, bad := r.faults[t]
			readBack, compared := r.verified[t]
			switch {
			case bad:
				known[t.relation] = f
			case readBack:
				known[t.relation] = TableResult{State: TableEqual}
			case compared:
				known[t.relation] = TableResult{State: TableNotCompared, Why: "compared on the way in, not read back"}
			}
		}
	}
	for i := range r.d.Source.Tables {
		t := &r.d.Source.Tables[i]
		res, ok := known[relation{t.Schema, t.Name}]
		switch {
		case t.Omitted != "":
			res = TableResult{State: TableOmitted, Why: t.Omitted}
		case !ok:
			res = TableResult{State: TableNotCompared, Why: "the restore of its database ended before"}
		}
		res.Schema, res.Name, res.Rows = t.Schema, t.Name, t.Rows
		for _, run := range t.Runs {
			if run.Binary {
				res.Rows += run.Rows
			}
		}
		out.count(res.State)
		out.Tables = append(out.Tables, res)
	}
	slices.SortStableFunc(out.Tables, func(a, b TableResult) int { return cmp.Compare(a.State, b.State) })
	out.Tables = slices.Clip(out.Tables[:min(len(out.Tables), MaxTableResults)])
	return out
}

func (c *Compared) count(s TableState) {
	switch s {
	case TableDiffers:
		c.Differing++
	case TableNotCompared:
		c.NotCompared++
	case TableOmitted:
		c.Omitted++
	case TableEqual:
		c.Equal++
	}
}
