package selection

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Selector picks objects by patterns.
type Selector struct{ schemas, tables []Pattern }

// New reads patterns; see Pattern. The error's kind is errs.Invalid.
func New(schemas, tables []string) (*Selector, error) {
	s := &Selector{}
	for _, x := range schemas {
		p, err := ParseSchema(x)
		if err != nil {
			return nil, err
		}
		s.schemas = append(s.schemas, p)
	}
	for _, x := range tables {
		p, err := ParseTable(x)
		if err != nil {
			return nil, err
		}
		s.tables = append(s.tables, p)
	}
	return s, nil
}

// Part is what is taken of a database.
type Part struct {
	// Database and Archive hold what is taken, and nothing else.
	Database *repo.Database
	Archive  *pgarchive.Archive
	// Tables are those whose rows come, partitions included.
	Tables []sqltext.QualifiedName
	// Along are objects that come because something selected needs them.
	Along []Note
	// LeftOut is what a person would miss.
	LeftOut []Note
	// Unmatched are patterns that match nothing.
	Unmatched []Miss
}

// Empty tells whether nothing was selected.
func (p *Part) Empty() bool { return len(p.Database.Tables) == 0 && len(p.Archive.Entries) == 0 }

// Note says something about an object.
type Note struct{ Object, Reason string }

// Miss is a pattern that matches nothing, with names that may have been meant.
type Miss struct {
	Pattern string
	Near    []string
}

// chooser is one choice.
type chooser struct {
	*Selector
	d *repo.Database
	a *pgarchive.Archive

	relations map[sqltext.QualifiedName]*pgarchive.Entry // tables, views, sequences
	sequences map[sqltext.QualifiedName]pgarchive.ID     // those of identity columns too
	schemas   map[pg.Name]*pgarchive.Entry
	parent    map[pgarchive.ID]pgarchive.ID // of partitions
	children  map[pgarchive.ID][]pgarchive.ID
	config    map[sqltext.QualifiedName]*repo.Table // tables of extensions

	in    map[pgarchive.ID]bool // entries that come
	rows  map[pgarchive.ID]bool // tables that come with their rows
	left  map[pgarchive.ID]bool // entries that stay out for a reason that was told
	part  *Part
	used  map[string]bool // patterns that matched
	names map[sqltext.QualifiedName]bool
}

// Choose takes what the patterns match, what belongs to it and what it needs.
func (s *Selector) Choose(d *repo.Database, a *pgarchive.Archive) (*Part, error) {
	c := &chooser{Selector: s, d: d, a: a, part: &Part{}, relations: map[sqltext.QualifiedName]*pgarchive.Entry{},
		sequences: map[sqltext.QualifiedName]pgarchive.ID{}, schemas: map[pg.Name]*pgarchive.Entry{},
		parent: map[pgarchive.ID]pgarchive.ID{}, children: map[pgarchive.ID][]pgarchive.ID{}, config: map[sqltext.QualifiedName]*repo.Table{},
		in: map[pgarchive.ID]bool{}, rows: map[pgarchive.ID]bool{}, left: map[pgarchive.ID]bool{}, used: map[string]bool{}, names: map[sqltext.QualifiedName]bool{}}
	c.index()
	seeds := c.seeds()
	c.takeTables(seeds)
	c.takeOthers(seeds)
	c.takeAttached()
	c.tellUnselected()
	c.misses()
	return c.reduce()
}

func nameOf(e *pgarchive.Entry) sqltext.QualifiedName {
	return sqltext.QualifiedName{Schema: e.Namespace, Name: e.Tag}
}

// index finds what is where.
func (c *chooser) index() {
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		switch {
		case e.Desc == "SCHEMA":
			c.schemas[e.Tag] = e
		case relation(e):
			c.relations[nameOf(e)] = e
		}
		if e.Desc == "SEQUENCE" {
			c.sequences[nameOf(e)] = e.ID
		}
	}
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		switch e.Desc {
		case "TABLE ATTACH":
			if child := c.relations[nameOf(e)]; child != nil {
				for _, d := range e.Deps {
					if p := c.a.Entry(d); p != nil && relation(p) && p != child {
						c.attach(child.ID, p.ID)
					}
				}
			}
		case "TABLE", "FOREIGN TABLE": // of pg_dump 13
			if q, _, ok := sqltext.Attached(e.Defn); ok && c.relations[q] != nil {
				c.attach(e.ID, c.relations[q].ID)
			}
		}
	}
	for i := range c.d.Tables {
		if t := &c.d.Tables[i]; t.Extension != "" {
			c.config[sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}] = t
		}
	}
}

func (c *chooser) attach(child, parent pgarchive.ID) {
	if _, ok := c.parent[child]; !ok {
		c.parent[child] = parent
		c.children[parent] = append(c.children[parent], child)
	}
}

// seeds are the entries that the patterns match, in order, and the tables of
// extensions that they match.
func (c *chooser) seeds() map[pgarchive.ID]bool {
	seeds := map[pgarchive.ID]bool{}
	for i := range c.a.Entries {
		e := &c.a.Entries[i]
		switch {
		case e.Desc == "SCHEMA":
			if c.matchSchema(e.Tag) {
				seeds[e.ID] = true
			}
		case e.Section != pgarchive.SectionPre || e.Namespace == "" || attached(e):
		case c.matchSchema(e.Namespace), relation(e) && c.matchTable(nameOf(e)):
			seeds[e.ID] = true
		}
	}
	for q := range c.config {
		if c.matchSchema(q.Schema) || c.matchTable(q) {
			c.names[q] = true
		}
	}
	return seeds
}

// Every pattern is asked, so that each that matches counts as used.
func (c *chooser) matchSchema(name pg.Name) (any bool) {
	for _, p := range c.Selector.schemas {
		if p.MatchSchema(name) {
			c.used[p.text] = true
			any = true
		}
	}
	return any
}

func (c *chooser) matchTable(q sqltext.QualifiedName) (any bool) {
	for _, p := range c.tables {
		if p.MatchTable(q.Schema, q.Name) {
			c.used[p.text] = true
			any = true
		}
	}
	return any
}

// misses tells which patterns matched nothing.
func (c *chooser) misses() {
	var schemas, tables []string
	for _, q := range slices.SortedFunc(maps.Keys(c.relations), compare) {
		tables = append(tables, q.String())
	}
	for s := range c.schemas {
		schemas = append(schemas, s.Display())
	}
	slices.Sort(schemas)
	for _, p := range c.Selector.schemas {
		if !c.used[p.text] {
			c.part.Unmatched = append(c.part.Unmatched, Miss{"schema " + p.text, near(p.text, schemas)})
		}
	}
	for _, p := range c.tables {
		if !c.used[p.text] {
			c.part.Unmatched = append(c.part.Unmatched, Miss{"table " + p.text, near(p.text, tables)})
		}
	}
}

func compare(a, b sqltext.QualifiedName) int {
	switch {
	case a == b:
		return 0
	case a.Schema < b.Schema || a.Schema == b.Schema && a.Name < b.Name:
		return -1
	}
	return 1
}

// reduce makes the database and the archive of what was taken.
func (c *chooser) reduce() (*Part, error) {
	var entries []pgarchive.Entry
	for i := range c.a.Entries {
		e := c.a.Entries[i]
		if !c.in[e.ID] && !ofSession(&e) {
			continue
		}
		if parent, ok := c.parent[e.ID]; ok && !c.rows[parent] {
			_, e.Defn, _ = sqltext.Attached(e.Defn) // of pg_dump 13
		}
		entries = append(entries, e)
	}
	var err error
	if c.part.Archive, err = c.a.With(entries); err != nil {
		return nil, err
	}
	d := *c.d
	d.Tables, d.Sequences, d.Extensions = []repo.Table{}, []repo.Sequence{}, []repo.ExtensionFacts{}
	d.Statements, d.LargeObjects = []string{}, nil
	for _, t := range c.d.Tables {
		if c.takesRows(&t) {
			d.Tables = append(d.Tables, t)
			c.part.Tables = append(c.part.Tables, sqltext.QualifiedName{Schema: t.Schema, Name: t.Name})
		}
	}
	for _, s := range c.d.Sequences {
		q := sqltext.QualifiedName{Schema: s.Schema, Name: s.Name}
		if id, ok := c.sequences[q]; ok && c.in[id] || s.Extension != "" && (c.matchTable(q) || c.matchSchema(q.Schema)) {
			d.Sequences = append(d.Sequences, s)
		}
	}
	for _, x := range c.d.Extensions {
		// pg_dump takes plpgsql for granted and has no entry for it.
		if x.Name == "plpgsql" || slices.ContainsFunc(entries, func(e pgarchive.Entry) bool { return e.Desc == "EXTENSION" && e.Tag == x.Name }) {
			d.Extensions = append(d.Extensions, x)
		}
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e pgarchive.Entry) bool { return !ofSession(&e) }) {
		c.part.Archive, err = c.a.With(nil)
	}
	slices.SortFunc(c.part.Tables, compare)
	c.part.Database = &d
	c.part.LeftOut = bounded(c.part.LeftOut)
	c.part.Along = bounded(c.part.Along)
	return c.part, err
}

// takesRows tells whether the rows of a table of the manifest come. A partition
// without its root becomes a table of its own.
func (c *chooser) takesRows(t *repo.Table) bool {
	q := sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}
	e := c.relations[q]
	if t.Extension != "" {
		return c.names[q]
	}
	if e == nil || !c.rows[e.ID] {
		return false
	}
	root := c.relations[sqltext.QualifiedName{Schema: t.RootSchema, Name: t.RootName}]
	if t.Root != 0 && (root == nil || !c.rows[root.ID]) {
		c.detach(t, e)
	}
	return true
}

// detach gives a partition the topmost of its parents that come, or none.
func (c *chooser) detach(t *repo.Table, e *pgarchive.Entry) {
	top := e
	for range maxNesting {
		p, ok := c.parent[top.ID]
		if !ok || !c.rows[p] {
			break
		}
		top = c.a.Entry(p)
	}
	t.Root, t.RootSchema, t.RootName = 0, "", ""
	if top == e {
		t.LoadViaRoot = false
		return
	}
	t.Root, t.RootSchema, t.RootName = top.OID, top.Namespace, top.Tag
}

// maxNesting bounds the levels of a partition tree, which an archive that is not
// honest could make a circle.
const maxNesting = 1000

// maxNotes bounds what is told about one database.
const maxNotes = 300

func bounded(notes []Note) []Note {
	if n := len(notes) - maxNotes; n > 0 {
		notes = append(notes[:maxNotes:maxNotes], Note{"and more", fmt.Sprintf("%d further objects", n)})
	}
	return notes
}
