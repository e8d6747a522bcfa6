package export

import (
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// pg_dump knows of an order among rows only that post-data comes after them. That
// is not enough for every schema: here is what it gets wrong, in words that
// pg_restore understands. A barrier is an entry that does nothing and comes after
// many others, so that many more can come after it without naming each.

// barrier makes an entry that waits for others.
func (c *composer) barrier(what string, deps []pgarchive.ID) *step {
	s := &step{}
	s.entry.ID, s.entry.Tag, s.entry.Desc, s.entry.Section = c.next(), pg.Name(what), "BARRIER", pgarchive.SectionData
	s.entry.Defn, s.entry.Deps = "-- "+pg.Name(what).Display()+"\n", deps
	return s
}

// codeKinds are the kinds of entries that a check may call, or find its way to
// one through.
var codeKinds = map[string]bool{"FUNCTION": true, "PROCEDURE": true, "AGGREGATE": true, "OPERATOR": true}

// throughKinds are the kinds that are looked through.
var throughKinds = map[string]bool{"TYPE": true, "DOMAIN": true, "SHELL TYPE": true}

// arrangeChecked puts rows of tables that call functions of the database when
// rows are checked or computed behind all others: the functions may read them.
func (c *composer) arrangeChecked() {
	memo := map[pgarchive.ID]bool{}
	var calls func(id pgarchive.ID, depth int) bool
	calls = func(id pgarchive.ID, depth int) bool {
		e := c.archive.Entry(id)
		if e == nil || depth > maxInheritance {
			return false
		}
		if codeKinds[e.Desc] {
			return true
		}
		if depth > 0 && !throughKinds[e.Desc] {
			return false
		}
		if known, ok := memo[id]; ok {
			return known
		}
		memo[id] = slices.ContainsFunc(e.Deps, func(d pgarchive.ID) bool { return calls(d, depth+1) })
		return memo[id]
	}
	var early, late []*step
	var ids []pgarchive.ID
	for _, s := range c.data {
		if s.kind == stepRows && calls(s.entry.Deps[0], 0) {
			late = append(late, s)
			continue
		}
		early = append(early, s)
		if s.kind == stepRows {
			ids = append(ids, s.entry.ID)
		}
	}
	if len(late) == 0 || len(ids) == 0 {
		return
	}
	b := c.barrier("rows that no function of the database checks are loaded", ids)
	for _, s := range late {
		s.entry.Deps = append(s.entry.Deps, b.entry.ID)
	}
	c.data = slices.Concat(early, []*step{b}, late)
}

// tree is a partitioned table with everything below it.
type tree struct {
	name    relation
	viaRoot bool
	leaves  []pgarchive.ID        // TABLE DATA
	members map[pgarchive.ID]bool // TABLE entries whose post-data waits for all leaves
}

// arrangeTrees lets what is made on a partitioned table after its rows wait for
// those of all partitions; where rows are routed through the root, what is made
// on any partition.
func (c *composer) arrangeTrees() {
	var order []uint32
	trees := map[uint32]*tree{}
	for _, s := range c.data {
		if s.kind != stepRows || s.table.Root == 0 {
			continue
		}
		t := s.table
		tr := trees[t.Root]
		if tr == nil {
			tr = &tree{name: relation{t.RootSchema, t.RootName}, members: map[pgarchive.ID]bool{}}
			trees[t.Root] = tr
			order = append(order, t.Root)
		}
		tr.leaves = append(tr.leaves, s.entry.ID)
		tr.viaRoot = tr.viaRoot || t.LoadViaRoot
		if root := c.tables[t.Root]; root != nil {
			c.between(s.entry.Deps[0], root.ID, tr.members, 0)
		}
	}
	for _, root := range order {
		tr := trees[root]
		if !tr.viaRoot {
			for _, s := range c.data {
				if s.kind == stepRows {
					delete(tr.members, s.entry.Deps[0])
				}
			}
		}
		var waiting []*step
		for _, s := range c.post {
			if slices.ContainsFunc(s.entry.Deps, func(id pgarchive.ID) bool { return tr.members[id] }) {
				waiting = append(waiting, s)
			}
		}
		if len(waiting) == 0 {
			continue
		}
		b := c.barrier("partitions of "+tr.name.String()+" are loaded", tr.leaves)
		c.data = append(c.data, b)
		for _, s := range waiting {
			s.entry.Deps = append(s.entry.Deps, b.entry.ID)
		}
	}
}

// between notes all TABLE entries on the way from one up to a root, both included,
// and tells whether there is a way.
func (c *composer) between(id, root pgarchive.ID, members map[pgarchive.ID]bool, depth int) bool {
	if id == root || members[id] {
		members[id] = true
		return true
	}
	e := c.archive.Entry(id)
	if e == nil || e.Desc != "TABLE" || depth > maxInheritance {
		return false
	}
	found := false
	for _, d := range e.Deps {
		found = c.between(d, root, members, depth+1) || found
	}
	if found {
		members[id] = true
	}
	return found
}

// arrangeNames puts rows of tables with columns of type regclass behind indexes
// and constraints that are not their own: such a value is read as a name, which
// must exist.
func (c *composer) arrangeNames() {
	named := map[pgarchive.ID]bool{} // TABLE DATA
	for _, s := range c.data {
		if s.kind == stepRows && slices.ContainsFunc(s.columns, func(x column) bool { return strings.TrimSuffix(x.typ, "[]") == "regclass" }) {
			named[s.entry.ID] = true
		}
	}
	if len(named) == 0 {
		return
	}
	after := c.waitingFor(named)
	early := map[pgarchive.ID]bool{}
	var take func(id pgarchive.ID)
	take = func(id pgarchive.ID) {
		if s := c.entries[id]; s != nil && !early[id] && !after[id] {
			early[id] = true
			for _, d := range s.entry.Deps {
				take(d)
			}
		}
	}
	var ids []pgarchive.ID
	for _, s := range c.post {
		switch s.entry.Desc {
		case "INDEX", "CONSTRAINT", "INDEX ATTACH":
			if take(s.entry.ID); early[s.entry.ID] {
				ids = append(ids, s.entry.ID)
			}
		}
	}
	var first, rest []*step
	for _, s := range c.post {
		if early[s.entry.ID] {
			first = append(first, s)
		} else {
			rest = append(rest, s)
		}
	}
	b := c.barrier("indexes that rows may name are made", ids)
	// What waits for these rows (other rows, barriers of trees) comes behind too.
	others, behind := partition(c.data, func(s *step) bool { return !named[s.entry.ID] && !after[s.entry.ID] })
	for _, s := range behind {
		if named[s.entry.ID] {
			s.entry.Deps = append(s.entry.Deps, b.entry.ID)
		}
	}
	c.data = others
	c.post = slices.Concat(first, []*step{b}, behind, rest)
}

func partition(all []*step, first func(*step) bool) (yes, no []*step) {
	for _, s := range all {
		if first(s) {
			yes = append(yes, s)
		} else {
			no = append(no, s)
		}
	}
	return yes, no
}

// waitingFor gives everything that comes after some of the rows named, at any
// remove: an entry on a table comes after the rows of that table.
func (c *composer) waitingFor(rows map[pgarchive.ID]bool) map[pgarchive.ID]bool {
	next := map[pgarchive.ID][]pgarchive.ID{}
	for _, list := range [][]*step{c.data, c.post} {
		for _, s := range list {
			for _, d := range s.entry.Deps {
				next[d] = append(next[d], s.entry.ID)
				if data, ok := c.rows[d]; ok && s.entry.Section == pgarchive.SectionPost {
					next[data] = append(next[data], s.entry.ID)
				}
			}
		}
	}
	after := map[pgarchive.ID]bool{}
	var todo []pgarchive.ID
	for id := range rows {
		todo = append(todo, id)
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range next[id] {
			if !after[n] {
				after[n] = true
				todo = append(todo, n)
			}
		}
	}
	return after
}

// arrangePrivileges lets privileges on what is in a schema wait for those on the
// schema: a grant by somebody else is made in his name, who must be let in first.
func (c *composer) arrangePrivileges() {
	schemas := map[pg.Name]pgarchive.ID{}
	both := slices.Concat(c.pre, c.post)
	for _, s := range both {
		if name, ok := strings.CutPrefix(string(s.entry.Tag), "SCHEMA "); ok && s.entry.Desc == "ACL" {
			schemas[pg.Name(name)] = s.entry.ID
		}
	}
	for _, s := range both {
		if s.entry.Desc != "ACL" || s.entry.Namespace == "" {
			continue
		}
		// Tags have names as identifiers are written: quoted where they must be.
		for _, name := range []pg.Name{s.entry.Namespace, pg.Name(s.entry.Namespace.Quote())} {
			if id, ok := schemas[name]; ok && id != s.entry.ID {
				s.entry.Deps = append(s.entry.Deps, id)
			}
		}
	}
}

// arrangeEvents puts event triggers behind everything, the refreshing of
// materialized views included: they would fire.
func (c *composer) arrangeEvents() {
	var refreshed []pgarchive.ID
	for _, s := range c.post {
		if s.entry.Pass() == pgarchive.PassRefresh {
			refreshed = append(refreshed, s.entry.ID)
		}
	}
	var rest, events []*step
	for _, s := range c.post {
		if s.entry.Pass() != pgarchive.PassEvents {
			rest = append(rest, s)
			continue
		}
		if s.entry.Desc == "EVENT TRIGGER" {
			s.entry.Deps = append(s.entry.Deps, refreshed...)
		}
		events = append(events, s)
	}
	c.post = append(rest, events...)
}
