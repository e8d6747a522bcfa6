package load

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
)

// progress is how far one database is.
type progress struct {
	plan        *plan.DatabasePlan
	started     time.Time
	rows, bytes atomic.Int64
	tables      atomic.Int64 // compared and equal
	indexes     atomic.Int64 // built
	expected    atomic.Pointer[expectation]

	mu    sync.Mutex
	phase string
}

// expectation is what there is to do, known once the graph is made.
type expectation struct {
	byName  map[relation]*tableProgress
	all     []*tableProgress
	indexes int64
}

// tableProgress is how far one table is, or the large objects. Its counters may
// be used concurrently.
type tableProgress struct {
	name                  string
	rowsTotal, bytesTotal int64
	rows, bytes           atomic.Int64
	left                  atomic.Int64 // nodes that are about it and not done
	busy                  [acts]atomic.Int32
}

// act is what a session does to a table.
type act int

// The acts in the order in which one is told when several go on.
const (
	actCopy act = iota
	actIndex
	actConstraint
	actCheck
	actAnalyze
	acts
	actNone act = -1
)

// phase is what is told of a table.
func (t *tableProgress) phase() string {
	for a, name := range [acts]string{job.TableCopying, job.TableIndexing, job.TableConstraining, job.TableChecking, job.TableAnalyzing} {
		if t.busy[a].Load() > 0 {
			return name
		}
	}
	if t.left.Load() == 0 {
		return job.TableDone
	}
	return job.TableWaiting
}

// objectsRelation stands for the large objects: no relation has an empty name.
var objectsRelation = relation{}

func newProgress(d *plan.DatabasePlan) *progress { return &progress{plan: d, phase: job.PhaseWaiting} }

// expect notes what there is to do in a graph.
func (p *progress) expect(g *graph) {
	e := &expectation{byName: map[relation]*tableProgress{}}
	add := func(r relation, t *tableProgress) {
		e.byName[r] = t
		e.all = append(e.all, t)
	}
	for _, t := range g.tables {
		row := &tableProgress{name: t.String()}
		for _, run := range t.Runs {
			row.rowsTotal += run.Rows
			row.bytesTotal += run.Stream.Bytes
		}
		add(t.relation, row)
	}
	if o := p.plan.Source.LargeObjects; o != nil {
		add(objectsRelation, &tableProgress{name: "large objects", bytesTotal: o.Data.Bytes})
	}
	for _, n := range g.nodes {
		r, a := subject(n)
		if t := e.byName[r]; t != nil && a != actNone {
			t.left.Add(1)
		}
		if a == actIndex {
			e.indexes++
		}
	}
	p.expected.Store(e)
}

// subject gives the table that a node is about, and what is done to it.
func subject(n *node) (relation, act) {
	switch n.kind {
	case nodeRun:
		return n.table.relation, actCopy
	case nodeVerify:
		return n.table.relation, actCheck
	case nodeObjects:
		return objectsRelation, actCopy
	case nodeVerifyObjects:
		return objectsRelation, actCheck
	case nodeAnalyze:
		return n.of, actAnalyze
	case nodeEntry:
		a := actNone
		switch n.entry.Desc {
		case "INDEX", "CONSTRAINT": // of constraints these are the keys, which are indexes
			a = actIndex
		case "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER":
			a = actConstraint
		}
		if len(n.uses) > 0 {
			return n.uses[0], a
		}
		return relation{n.entry.Namespace, n.entry.Tag}, a // of a table that is not in the snapshot
	}
	return relation{}, actNone
}

// begin notes that a node is being done; what it gives is called with the result.
func (p *progress) begin(n *node) (ended func(error)) {
	r, a := subject(n)
	if a == actNone {
		return func(error) {}
	}
	var t *tableProgress
	if e := p.expected.Load(); e != nil {
		t = e.byName[r]
	}
	if t != nil {
		t.busy[a].Add(1)
	}
	return func(err error) {
		if t != nil {
			t.busy[a].Add(-1)
		}
		if err != nil {
			return
		}
		if t != nil {
			t.left.Add(-1)
		}
		if a == actIndex {
			p.indexes.Add(1)
		}
	}
}

// analyze notes that statistics of a table are gathered until what it gives is called.
func (p *progress) analyze(r relation) (ended func()) {
	e := p.expected.Load()
	if e == nil || e.byName[r] == nil {
		return func() {}
	}
	t := e.byName[r]
	t.busy[actAnalyze].Add(1)
	return func() { t.busy[actAnalyze].Add(-1) }
}

// loaded counts what was loaded of a table; negative numbers take back what failed.
func (p *progress) loaded(r relation, rows, bytes int64) {
	p.rows.Add(rows)
	p.bytes.Add(bytes)
	if e := p.expected.Load(); e != nil && e.byName[r] != nil {
		e.byName[r].rows.Add(rows)
		e.byName[r].bytes.Add(bytes)
	}
}

func (p *progress) set(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

func (p *progress) fail() { p.set(job.PhaseFailed) }

func (p *progress) snapshot() job.DatabaseProgress {
	p.mu.Lock()
	phase := p.phase
	p.mu.Unlock()
	out := job.DatabaseProgress{
		Database: p.plan.Target.Display(), Phase: phase, Rows: p.rows.Load(), Bytes: p.bytes.Load(), BytesTotal: p.plan.Bytes,
		TablesDone: int(p.tables.Load()), TablesTotal: p.plan.Tables, IndexesDone: int(p.indexes.Load()),
	}
	if e := p.expected.Load(); e != nil {
		out.IndexesTotal = int(e.indexes)
		if phase == job.PhaseData || phase == job.PhaseStatistics {
			out.Tables = e.busiest()
		}
	}
	if phase == job.PhaseData && out.Bytes >= out.BytesTotal {
		out.Phase = job.PhaseIndexes
		if out.TablesDone < out.TablesTotal {
			out.Phase = job.PhaseChecking
		}
	}
	return out
}

func (e *expectation) busiest() []job.TableProgress {
	tables := make([]job.TableProgress, len(e.all))
	for i, t := range e.all {
		tables[i] = job.TableProgress{Table: t.name, Phase: t.phase(), Rows: t.rows.Load(), RowsTotal: t.rowsTotal, Bytes: t.bytes.Load(), BytesTotal: t.bytesTotal}
	}
	return job.Busiest(tables, job.MaxTables)
}
