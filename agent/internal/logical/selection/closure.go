package selection

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// relation tells whether an entry makes something that patterns of tables match.
func relation(e *pgarchive.Entry) bool {
	switch e.Desc {
	case "TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW":
		return true
	case "SEQUENCE":
		return !identity(e)
	}
	return false
}

// identity tells whether a sequence is part of a column: its statement alters the table.
func identity(e *pgarchive.Entry) bool {
	return e.Desc == "SEQUENCE" && strings.HasPrefix(e.Defn, "ALTER TABLE ")
}

// hasRows tells whether the entry is a table whose rows are in a snapshot.
func hasRows(e *pgarchive.Entry) bool { return e.Desc == "TABLE" || e.Desc == "FOREIGN TABLE" }

// ofSession tells whether an entry says how the others are read.
func ofSession(e *pgarchive.Entry) bool {
	return e.Desc == "ENCODING" || e.Desc == "STDSTRINGS" || e.Desc == "SEARCHPATH"
}

// attached tells whether an entry belongs to another object and comes with it.
func attached(e *pgarchive.Entry) bool {
	switch e.Desc {
	case "DEFAULT", "SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "STATISTICS",
		"RULE", "TRIGGER", "POLICY", "ROW SECURITY", "MATERIALIZED VIEW DATA", "STATISTICS DATA", "COMMENT", "ACL", "SECURITY LABEL":
		return true
	}
	return identity(e)
}

// pull takes an entry of pre-data and, at any remove, what it needs. Tables that
// are needed come without rows.
func (c *chooser) pull(e *pgarchive.Entry) {
	todo := []*pgarchive.Entry{e}
	for len(todo) > 0 {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if c.in[e.ID] {
			continue
		}
		c.in[e.ID] = true
		for _, x := range c.needed(e) {
			if c.in[x.ID] {
				continue
			}
			switch {
			case hasRows(x):
				c.part.Along = append(c.part.Along, Note{x.String(), "without rows: " + e.String() + " needs it"})
			case x.Desc != "SCHEMA":
				c.part.Along = append(c.part.Along, Note{x.String(), "needed by " + e.String()})
			}
			todo = append(todo, x)
		}
	}
}

// needed gives what an entry needs directly.
func (c *chooser) needed(e *pgarchive.Entry) []*pgarchive.Entry {
	var all []*pgarchive.Entry
	for _, d := range e.Deps {
		x := c.a.Entry(d)
		// What belongs to another object (an index of the parent, say) comes with it or not at all.
		if x == nil || x == e || x.Section != pgarchive.SectionPre || attached(x) || c.a.PhaseOf(x) == pgarchive.Skipped || c.parent[e.ID] == x.ID {
			continue
		}
		all = append(all, x)
	}
	if s := c.schemas[e.Namespace]; s != nil {
		all = append(all, s)
	}
	return all
}

// missing gives a table that an entry needs, at any remove, and that does not
// come with its rows, or something that it needs and that was left out; nil
// when there is none.
func (c *chooser) missing(e *pgarchive.Entry, own *pgarchive.Entry) *pgarchive.Entry {
	seen := map[pgarchive.ID]bool{}
	todo := []*pgarchive.Entry{e}
	for len(todo) > 0 {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, y := range c.needed(x) {
			switch {
			case seen[y.ID] || y == own:
			case hasRows(y) && !c.rows[y.ID], c.left[y.ID]:
				return y
			case !c.in[y.ID]:
				todo = append(todo, y)
			}
			seen[y.ID] = true
		}
	}
	return nil
}

// takeTables takes the tables and sequences that match, with all partitions.
func (c *chooser) takeTables(seeds map[pgarchive.ID]bool) {
	var todo []pgarchive.ID
	for i := range c.a.Entries {
		if e := &c.a.Entries[i]; seeds[e.ID] && hasRows(e) {
			todo = append(todo, e.ID)
		}
	}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		if !c.rows[id] {
			c.rows[id] = true
			todo = append(todo, c.children[id]...)
		}
	}
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		if c.rows[e.ID] {
			c.pull(e)
		}
	}
	for q := range c.names {
		for i := range c.a.Entries {
			if e := &c.a.Entries[i]; e.Desc == "EXTENSION" && e.Tag == c.config[q].Extension {
				c.pull(e)
			}
		}
	}
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		if parent, ok := c.parent[e.ID]; ok && c.rows[e.ID] && !c.rows[parent] {
			c.leaveOut(e, fmt.Sprintf("becomes a plain table: %s, of which it is a partition, is not selected, nor are foreign keys and triggers that belong to that", c.a.Entry(parent)))
		}
	}
}

// takeOthers takes what else matches, in order, unless it needs a table that
// does not come: views of tables that are not selected, say.
func (c *chooser) takeOthers(seeds map[pgarchive.ID]bool) {
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		if !seeds[e.ID] || c.in[e.ID] {
			continue
		}
		if x := c.missing(e, nil); x != nil {
			c.stay(e, x)
			continue
		}
		c.pull(e)
	}
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		if e.Desc == "DEFAULT ACL" && c.matchSchema(e.Namespace) {
			c.in[e.ID] = true
		}
	}
}

func (c *chooser) leaveOut(e *pgarchive.Entry, reason string) {
	c.part.LeftOut = append(c.part.LeftOut, Note{e.String(), reason})
}

// stay leaves an entry out because of something that does not come.
func (c *chooser) stay(e, because *pgarchive.Entry) {
	c.left[e.ID] = true
	reason := "is not selected"
	switch {
	case c.left[because.ID]:
		reason = "is left out"
	case c.in[because.ID]:
		reason = "comes without its rows"
	}
	c.leaveOut(e, fmt.Sprintf("left out: it needs %s, which %s", because, reason))
}

// takeAttached takes what belongs to what was taken. An entry stands after what
// it belongs to; sequences that a table owns come first, for they have more of
// their own.
func (c *chooser) takeAttached() {
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		if e.Desc != "SEQUENCE OWNED BY" {
			continue
		}
		table, ok := sqltext.OwnedBy(e.Defn)
		if t := c.relations[table]; ok && t != nil && c.in[t.ID] {
			if s := c.relations[nameOf(e)]; s != nil {
				c.pull(s)
			}
			c.in[e.ID] = true
		}
	}
	for i := range c.a.Entries {
		if e := &c.a.Entries[i]; attached(e) && !c.in[e.ID] && e.Desc != "SEQUENCE OWNED BY" {
			c.takeOne(e)
		}
	}
}

func (c *chooser) takeOne(e *pgarchive.Entry) {
	switch e.Desc {
	case "COMMENT", "ACL", "SECURITY LABEL":
		if c.about(e) {
			c.in[e.ID] = true
		}
		return
	case "TABLE ATTACH":
		child := c.relations[nameOf(e)]
		if child != nil && c.rows[child.ID] && c.rows[c.parent[child.ID]] {
			c.in[e.ID] = true
		}
		return
	case "INDEX ATTACH":
		for _, d := range e.Deps {
			if x := c.a.Entry(d); x != nil && (hasRows(x) && !c.rows[x.ID] || x.Section == pgarchive.SectionPost && !c.in[x.ID]) {
				return
			}
		}
		c.in[e.ID] = true
		return
	}
	own, others := c.owner(e)
	if own == nil || !c.in[own.ID] {
		return
	}
	for _, x := range others {
		if hasRows(x) && !c.rows[x.ID] || !c.in[x.ID] {
			c.stay(e, x)
			return
		}
	}
	if x := c.missing(e, own); x != nil {
		c.stay(e, x)
		return
	}
	c.pull(e)
}

// about tells whether a comment, label or privilege is of something that comes.
func (c *chooser) about(e *pgarchive.Entry) bool {
	any := false
	for _, d := range e.Deps {
		x := c.a.Entry(d)
		if x == nil {
			continue
		}
		if !c.in[x.ID] {
			return false
		}
		any = true
	}
	if any {
		return true
	}
	if schema, ok := strings.CutPrefix(string(e.Tag), "SCHEMA "); ok { // public has no entry of its own
		return c.matchSchema(pg.Name(schema)) || c.uses(pg.Name(schema))
	}
	table, ok := strings.CutPrefix(string(e.Tag), "TABLE ")
	return ok && c.names[sqltext.QualifiedName{Schema: e.Namespace, Name: pg.Name(table)}]
}

// uses tells whether something that comes is in a schema.
func (c *chooser) uses(schema pg.Name) bool {
	for i := range c.a.Entries {
		if e := &c.a.Entries[i]; c.in[e.ID] && e.Namespace == schema {
			return true
		}
	}
	return false
}

// owner gives the relation that an entry belongs to, and others that it needs.
// The tag of what has no name of its own begins with the relation's.
func (c *chooser) owner(e *pgarchive.Entry) (own *pgarchive.Entry, others []*pgarchive.Entry) {
	var all []*pgarchive.Entry
	for _, d := range e.Deps {
		x := c.a.Entry(d)
		if x == nil || !relation(x) && x.Desc != "DOMAIN" || x.Desc == "SEQUENCE" {
			continue
		}
		all = append(all, x)
		if own == nil && x.Namespace == e.Namespace && (x.Tag == e.Tag || strings.HasPrefix(string(e.Tag), string(x.Tag)+" ")) {
			own = x
		}
	}
	if own == nil && len(all) > 0 {
		own = all[0]
	}
	for _, x := range all {
		if x != own {
			others = append(others, x)
		}
	}
	return own, others
}

// tellUnselected names what a person would expect beside the selected tables.
func (c *chooser) tellUnselected() {
	whole := 0
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		switch e.Desc {
		case "PUBLICATION", "SUBSCRIPTION", "EVENT TRIGGER":
			whole++
		}
		if c.in[e.ID] || c.left[e.ID] || !relation(e) {
			continue
		}
		for _, d := range e.Deps {
			x := c.a.Entry(d)
			if x == nil || !c.rows[x.ID] || c.parent[e.ID] == x.ID {
				continue
			}
			if hasRows(e) {
				c.leaveOut(e, fmt.Sprintf("not selected: it inherits from %s", x))
			} else {
				c.leaveOut(e, fmt.Sprintf("not selected: it reads %s", x))
			}
			break
		}
	}
	if whole > 0 {
		c.part.LeftOut = append(c.part.LeftOut, Note{"publications, subscriptions, event triggers", fmt.Sprintf("%d of them: they come with a whole database only", whole)})
	}
	if o := c.d.LargeObjects; o != nil {
		c.part.LeftOut = append(c.part.LeftOut, Note{"large objects", fmt.Sprintf("%d of them: they come with a whole database only", o.Count)})
	}
}
