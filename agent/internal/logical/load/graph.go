package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// relation names a table within its database.
type relation struct{ schema, name pg.Name }

func (r relation) quoted() string { return r.schema.Quote() + "." + r.name.Quote() }
func (r relation) String() string { return r.schema.Display() + "." + r.name.Display() }

// table is one table of the manifest whose rows are restored.
type table struct {
	*repo.Table
	relation
	// tree is set on partitions.
	tree *tree
	// replica: its foreign keys form a circle, so it is loaded with them off.
	replica bool
	// sum collects what was read back, by its parts.
	sum compared
}

// bytes are those of all runs.
func (t *table) bytes() (n int64) {
	for i := range t.Runs {
		n += t.Runs[i].Stream.Bytes
	}
	return n
}

// tree is a partitioned table with the partitions that the manifest has.
type tree struct {
	relation
	leaves []*table
	// columns are those of every leaf.
	columns []pg.Name
	// viaRoot: rows of all leaves go through the root, and only sums over the
	// whole tree can be compared.
	viaRoot bool
}

// nodeKind says what a node does.
type nodeKind byte

const (
	// nodeBarrier does nothing: it is done when all it waits for is.
	nodeBarrier nodeKind = iota
	nodeRun
	nodeVerify
	nodeVerifyTree
	nodeEntry
	nodeSequences
	nodeObjects
	nodeVerifyObjects
	nodeStatements
	nodeAnalyze
)

// class orders what is ready at the same time.
type class int

const (
	classIndex  class = iota // an index or constraint of the biggest table
	classVerify              // while its pages are still in memory
	classData                // the biggest table's rows
	classOther
	classForeign // foreign keys late: they need everything and wait for locks
	classAnalyze // statistics last: nothing waits for them
)

// node is one thing to do.
type node struct {
	kind  nodeKind
	class class
	pass  pgarchive.Pass
	cost  int64 // of two in a class the greater comes first
	order int   // and then the first

	entry *pgarchive.Entry
	table *table
	run   *repo.Run
	tree  *tree
	part  int      // of nodeVerify
	of    relation // of nodeAnalyze
	// early: it may begin before its pass, PassRefresh, when nothing of an earlier one can.
	early bool

	waits int     // nodes not done that it waits for
	next  []*node // nodes that wait for it
	// locks are relations that nobody else may use meanwhile, uses those that
	// nobody may lock meanwhile.
	locks, uses []relation

	state    nodeState
	deferred error // why it was put off the last time
}

type nodeState byte

const (
	nodeWaiting nodeState = iota
	nodeReady
	nodeRunning
	nodeDeferred
	nodeDone
)

func (n *node) String() string {
	switch n.kind {
	case nodeRun, nodeVerify:
		return "table " + n.table.String()
	case nodeVerifyTree:
		return "partitioned table " + n.tree.String()
	case nodeEntry:
		return n.entry.String()
	case nodeSequences:
		return "sequences"
	case nodeObjects, nodeVerifyObjects:
		return "large objects"
	case nodeAnalyze:
		return "statistics of " + n.of.String()
	}
	return "statements"
}

// after makes n wait for m.
func (n *node) after(m *node) {
	n.waits++
	m.next = append(m.next, n)
}

// oneStreamBytes is the size below which the runs of a table are loaded one
// after another: a second stream is not worth its pages in disorder. So it is
// for a table that is no more than one session's share of all rows: two streams
// into one table cost the server a fifth more than into two tables.
const oneStreamBytes = 64 << 20

// graphInput is what a graph is made of.
type graphInput struct {
	database *repo.Database
	archive  *pgarchive.Archive
	noOwner  bool
	// children are the partitions and heirs of each relation, as the target has them.
	children map[relation][]relation
	// references are foreign keys between tables of extensions: from -> to.
	references map[relation][]relation
	// parts is into how many parts the reading back of a large table is cut; 1 for none.
	parts     int
	blockSize int
	// jobs is the number of sessions.
	jobs int
	// superuser: the role may do everything, whatever privileges are restored.
	superuser bool
	// analyze: statistics are gathered.
	analyze bool
}

// graph is everything that is done between pre-data and the end.
type graph struct {
	nodes  []*node
	tables []*table
	trees  []*tree
}

// builder makes a graph.
type builder struct {
	graphInput
	g       *graph
	byName  map[relation]*table
	trees   map[relation]*tree
	loaded  map[relation]*node // barriers: the rows of a relation and of all below it are in
	entries map[pgarchive.ID]*node
	reads   map[relation][]*node // what must read all rows of a relation
}

// newGraph decides what is done after what. It is a pure function.
func newGraph(in graphInput) (*graph, error) {
	b := &builder{graphInput: in, g: &graph{}, byName: map[relation]*table{}, trees: map[relation]*tree{},
		loaded: map[relation]*node{}, entries: map[pgarchive.ID]*node{}, reads: map[relation][]*node{}}
	b.findTables()
	if err := b.orderConfiguration(); err != nil {
		return nil, err
	}
	b.addRuns()
	b.addVerification()
	b.addEntries()
	if in.superuser {
		b.foreignLater()
	}
	if in.analyze {
		b.addStatistics()
	}
	if len(in.database.Sequences) > 0 {
		b.node(&node{kind: nodeSequences, class: classOther})
	}
	if o := in.database.LargeObjects; o != nil {
		load := b.node(&node{kind: nodeObjects, class: classData, cost: o.Data.Bytes})
		b.node(&node{kind: nodeVerifyObjects, class: classVerify, cost: o.Data.Bytes}).after(load)
	}
	if len(in.database.Statements) > 0 {
		b.node(&node{kind: nodeStatements, class: classOther, pass: pgarchive.PassRefresh})
	}
	return b.g, nil
}

func (b *builder) node(n *node) *node {
	n.order = len(b.g.nodes)
	b.g.nodes = append(b.g.nodes, n)
	return n
}

// findTables takes the manifest's tables and groups partitions into trees.
func (b *builder) findTables() {
	for i := range b.database.Tables {
		t := &b.database.Tables[i]
		if t.Omitted != "" {
			continue
		}
		own := &table{Table: t, relation: relation{t.Schema, t.Name}}
		b.byName[own.relation] = own
		b.g.tables = append(b.g.tables, own)
		if t.Root == 0 {
			continue
		}
		root := relation{t.RootSchema, t.RootName}
		if b.trees[root] == nil {
			b.trees[root] = &tree{relation: root, columns: t.Columns}
			b.g.trees = append(b.g.trees, b.trees[root])
		}
		own.tree = b.trees[root]
		own.tree.leaves = append(own.tree.leaves, own)
		own.tree.viaRoot = own.tree.viaRoot || t.LoadViaRoot
	}
}

// barrier gives the node that is done when all rows of a relation and of its
// partitions and heirs are in, nil when there are none.
func (b *builder) barrier(r relation) *node {
	if n, ok := b.loaded[r]; ok {
		return n
	}
	if b.byName[r] == nil && len(b.children[r]) == 0 {
		return nil
	}
	n := b.node(&node{kind: nodeBarrier})
	b.loaded[r] = n
	for _, c := range b.children[r] {
		if m := b.barrier(c); m != nil {
			n.after(m)
		}
	}
	return n
}

// addRuns adds the loading of rows.
func (b *builder) addRuns() {
	shared := map[*tree]*node{} // done when all that goes through the root is in
	var total int64
	for _, t := range b.g.tables {
		total += t.bytes()
	}
	for _, t := range b.g.tables {
		loaded := b.barrier(t.relation)
		if t.tree != nil && t.LoadViaRoot {
			if shared[t.tree] == nil {
				shared[t.tree] = b.node(&node{kind: nodeBarrier})
			}
			loaded.after(shared[t.tree])
		}
		bytes := t.bytes()
		oneStream := t.OneStream || t.Extension != "" || bytes < oneStreamBytes || bytes <= total/int64(max(b.jobs, 1))
		var last *node
		for i := range t.Runs {
			n := b.node(&node{kind: nodeRun, class: classData, cost: bytes, table: t, run: &t.Runs[i], uses: []relation{t.relation}})
			if last != nil && oneStream {
				n.after(last)
			}
			last = n
			if t.Extension != "" {
				for _, parent := range b.references[t.relation] {
					if b.byName[parent] != nil && parent != t.relation {
						n.after(b.barrier(parent))
					}
				}
			}
			if t.tree != nil && t.LoadViaRoot {
				shared[t.tree].after(n)
			} else {
				loaded.after(n)
			}
		}
	}
}

// verifyPartBytes is the heap below which a table is read back in one piece.
const verifyPartBytes = 256 << 20

// addVerification adds the reading back: each table by itself, and each tree as a
// whole, which does something only where rows went through the root.
func (b *builder) addVerification() {
	for _, t := range b.g.tables {
		parts := 1
		if t.Pages*int64(b.blockSize) >= verifyPartBytes && t.Condition == "" {
			parts = max(1, b.parts)
		}
		t.sum.left = parts
		t.sum.parts = parts
		for i := range parts {
			n := b.node(&node{kind: nodeVerify, class: classVerify, cost: t.Pages, table: t, part: i, uses: []relation{t.relation}})
			n.after(b.barrier(t.relation))
			b.reads[t.relation] = append(b.reads[t.relation], n)
		}
	}
	for _, tr := range b.g.trees {
		n := b.node(&node{kind: nodeVerifyTree, class: classVerify, tree: tr, uses: []relation{tr.relation}})
		for _, t := range tr.leaves {
			n.after(b.barrier(t.relation))
			n.cost += t.Pages
			n.uses = append(n.uses, t.relation)
		}
		b.reads[tr.relation] = append(b.reads[tr.relation], n)
	}
}

// addEntries adds post-data and all privileges.
func (b *builder) addEntries() {
	a := b.archive
	// A grant by somebody else is made in his name, who must be let into the
	// schema first; schemas have no entry among what such a grant depends on.
	schemas := b.node(&node{kind: nodeBarrier, pass: pgarchive.PassPrivileges})
	for i := range a.Entries {
		e := &a.Entries[i]
		phase := a.PhaseOf(e)
		if phase == pgarchive.Skipped || phase == pgarchive.PreData && !e.IsPrivilege() || b.noOwner && e.IsPrivilege() {
			continue
		}
		n := b.node(&node{kind: nodeEntry, entry: e, pass: e.Pass(), class: classOther})
		switch e.Desc {
		case "INDEX", "CONSTRAINT", "CHECK CONSTRAINT":
			n.class = classIndex
		case "FK CONSTRAINT":
			n.class = classForeign
		}
		switch {
		case e.Desc != "ACL":
		case strings.HasPrefix(string(e.Tag), "SCHEMA "):
			schemas.after(n)
		default:
			n.after(schemas)
		}
		b.entries[e.ID] = n
	}
	for _, n := range b.entries {
		if n.entry.Desc != "FK CONSTRAINT" || b.superuser {
			continue
		}
		for _, d := range n.entry.Deps { // making it reads both tables
			if e := a.Entry(d); e != nil && e.Desc == "TABLE" {
				r := relation{e.Namespace, e.Tag}
				b.reads[r] = append(b.reads[r], n)
			}
		}
	}
	for id, n := range b.entries {
		b.connect(id, n)
	}
	// Entries were connected in no order; what waits for a node is told in order,
	// so that the same archive is executed in the same way each time.
	for _, n := range b.g.nodes {
		slices.SortFunc(n.next, func(x, y *node) int { return x.order - y.order })
	}
}

// connect makes an entry wait for what it depends on, and finds its locks.
func (b *builder) connect(id pgarchive.ID, n *node) {
	// Everything but an index takes locks that others on the table would wait for.
	exclusive := n.entry.Section == pgarchive.SectionPost && n.entry.Desc != "INDEX" && n.entry.Desc != "STATISTICS"
	for _, d := range n.entry.Deps {
		if m := b.entries[d]; m != nil && d != id {
			n.after(m)
		}
		e := b.archive.Entry(d)
		if e == nil || e.Desc != "TABLE" {
			continue
		}
		r := relation{e.Namespace, e.Tag}
		if m := b.barrier(r); m != nil && n.pass == pgarchive.PassMain {
			n.after(m)
		}
		if t := b.byName[r]; t != nil {
			n.cost = max(n.cost, t.Pages)
		}
		if n.entry.Desc == "ROW SECURITY" {
			// It would keep a role that is no superuser from reading all rows, also for
			// checking a foreign key.
			for _, m := range b.reads[r] {
				n.after(m)
			}
		}
		n.uses = append(n.uses, r)
		if exclusive {
			n.locks = append(n.locks, r)
			// Of a partitioned table these go down to its partitions.
			if n.entry.Desc == "FK CONSTRAINT" || n.entry.Desc == "TRIGGER" {
				n.locks = b.below(r, n.locks)
				n.uses = b.below(r, n.uses)
			}
		}
	}
}

// below appends all partitions and heirs of a relation.
func (b *builder) below(r relation, to []relation) []relation {
	for _, c := range b.children[r] {
		to = b.below(c, append(to, c))
	}
	return to
}

// orderConfiguration looks for circles among the foreign keys of extensions'
// tables: such tables are loaded with foreign keys off, in any order.
func (b *builder) orderConfiguration() error {
	const visiting, visited = 1, 2
	state := map[relation]int{}
	var path []relation
	var visit func(r relation) error
	visit = func(r relation) error {
		switch state[r] {
		case visited:
			return nil
		case visiting:
			for i := slices.Index(path, r); i < len(path); i++ {
				b.byName[path[i]].replica = true
			}
			return nil
		}
		if len(path) > 10_000 {
			return fmt.Errorf("foreign keys of extensions' tables nest deeper than 10000")
		}
		state[r] = visiting
		path = append(path, r)
		for _, p := range b.references[r] {
			if t := b.byName[p]; t != nil && t.Extension != "" && p != r {
				if err := visit(p); err != nil {
					return err
				}
			}
		}
		path = path[:len(path)-1]
		state[r] = visited
		return nil
	}
	for _, t := range b.g.tables {
		if t.Extension != "" {
			if err := visit(t.relation); err != nil {
				return err
			}
		}
	}
	for r, parents := range b.references {
		if t := b.byName[r]; t != nil && t.replica {
			b.references[r] = slices.DeleteFunc(slices.Clone(parents), func(p relation) bool { return b.byName[p] != nil && b.byName[p].replica })
		}
	}
	return nil
}
