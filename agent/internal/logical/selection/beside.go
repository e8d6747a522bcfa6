package selection

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Shared tells whether an entry is something that tables in a side schema share
// with the live ones where it exists: types, functions and the like. What is
// asked about is worth looking up in the live database; see Beside.
func Shared(e *pgarchive.Entry) bool {
	switch e.Desc {
	case "EXTENSION", "SERVER", "TYPE", "SHELL TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE", "COLLATION":
		return true
	}
	return false
}

// SharedName gives the name under which such an entry is looked up: without a
// schema for extensions and servers, without arguments for functions.
func SharedName(e *pgarchive.Entry) sqltext.QualifiedName {
	if q, ok := sqltext.Object(e.Drop); ok && e.Namespace != "" {
		return q
	}
	return nameOf(e)
}

// Beside moves a part into one schema of a database that has, or had, the same
// objects under their own names. Types and functions that exist there are used
// as they are; those that do not come along. What would act on the live database
// (triggers, rules) and views stay out. exists tells of entries for which Shared
// is true. The refusals say why it cannot be done.
func Beside(p *Part, side pg.Name, exists func(*pgarchive.Entry) bool) (refusals []Note, err error) {
	b := &besides{p: p, side: side, moved: map[sqltext.QualifiedName]bool{}, taken: map[string]*pgarchive.Entry{}, out: map[pgarchive.ID]bool{}}
	var entries []pgarchive.Entry
	for i := range p.Archive.Entries {
		if e := &p.Archive.Entries[i]; b.comes(e, exists) {
			b.claim(e)
			entries = append(entries, *e)
		} else {
			b.out[e.ID] = true
		}
	}
	for i := range entries {
		e := &entries[i]
		if ofSession(e) {
			continue
		}
		e.Defn, e.Drop = sqltext.Move(e.Defn, b.to), sqltext.Move(e.Drop, b.to)
		e.Namespace = side
	}
	d := *p.Database
	d.Tables, d.Sequences = append([]repo.Table{}, d.Tables...), append([]repo.Sequence{}, d.Sequences...)
	for i := range d.Tables {
		t := &d.Tables[i]
		if t.Extension != "" {
			b.refuse("table "+t.Schema.Display()+"."+t.Name.Display(), "belongs to extension "+t.Extension.Display()+": it is restored with a database only")
		}
		t.Schema = side
		if t.Root != 0 {
			t.RootSchema = side
		}
	}
	for i := range d.Sequences {
		d.Sequences[i].Schema = side
	}
	p.Database = &d
	p.Archive, err = p.Archive.With(entries)
	p.LeftOut = bounded(p.LeftOut)
	return b.refusals, err
}

type besides struct {
	p        *Part
	side     pg.Name
	moved    map[sqltext.QualifiedName]bool
	taken    map[string]*pgarchive.Entry // by kind of name and name: who has it in the side schema
	out      map[pgarchive.ID]bool
	refusals []Note
}

func (b *besides) refuse(object, reason string) {
	b.refusals = append(b.refusals, Note{object, reason})
}

func (b *besides) to(q sqltext.QualifiedName) (pg.Name, bool) { return b.side, b.moved[q] }

// comes decides about one entry.
func (b *besides) comes(e *pgarchive.Entry, exists func(*pgarchive.Entry) bool) bool {
	switch {
	case ofSession(e):
		return true
	case e.Desc == "EXTENSION", e.Desc == "SERVER":
		if !exists(e) {
			b.refuse(e.String(), "does not exist in the live database and is needed")
		}
		return false
	case Shared(e):
		if exists(e) {
			return false
		}
		b.p.Along = append(b.p.Along, Note{e.String(), "no longer exists: it comes into the side schema"})
		return true
	case e.Desc == "COMMENT", e.Desc == "ACL", e.Desc == "SECURITY LABEL":
		return len(e.Deps) > 0 && !b.lacks(e, func(*pgarchive.Entry) bool { return true })
	}
	switch e.Desc {
	case "VIEW", "MATERIALIZED VIEW", "TRIGGER", "RULE":
		b.p.LeftOut = append(b.p.LeftOut, Note{e.String(), "left out: it does not come into a side schema"})
		return false
	case "MATERIALIZED VIEW DATA", "STATISTICS DATA", "SCHEMA", "DEFAULT ACL":
		return false
	case "TABLE", "FOREIGN TABLE", "SEQUENCE":
		return true
	case "SEQUENCE OWNED BY", "DEFAULT", "TABLE ATTACH", "INDEX ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "STATISTICS", "POLICY", "ROW SECURITY":
		// An index of a materialized view, say, or a check of a domain.
		return !b.lacks(e, func(x *pgarchive.Entry) bool { return relation(x) || x.Desc == "DOMAIN" })
	}
	return false // operators and the like are the live database's
}

// lacks tells whether an entry depends on one that does not come, of those that count.
func (b *besides) lacks(e *pgarchive.Entry, counts func(*pgarchive.Entry) bool) bool {
	for _, d := range e.Deps {
		if x := b.p.Archive.Entry(d); x != nil && b.out[d] && counts(x) {
			return true
		}
	}
	return false
}

// claim notes the name that an entry has in the side schema.
func (b *besides) claim(e *pgarchive.Entry) {
	q := nameOf(e)
	kind := "relation "
	switch e.Desc {
	case "TABLE", "FOREIGN TABLE", "SEQUENCE", "INDEX":
	case "CONSTRAINT": // its index; the tag is the table's name and its own
		for _, d := range e.Deps {
			x := b.p.Archive.Entry(d)
			if x == nil || !relation(x) {
				continue
			}
			if name, ok := strings.CutPrefix(string(e.Tag), string(x.Tag)+" "); ok {
				q.Name = pg.Name(name)
			}
		}
	case "STATISTICS":
		kind = "statistics "
	case "TYPE", "SHELL TYPE", "DOMAIN", "COLLATION":
		kind = e.Desc + " "
		if e.Desc == "SHELL TYPE" {
			b.moved[SharedName(e)] = true
			return
		}
	case "FUNCTION", "PROCEDURE", "AGGREGATE":
		b.moved[SharedName(e)] = true
		return
	default:
		return
	}
	b.moved[q] = true
	key := kind + string(q.Name)
	if other := b.taken[key]; other != nil && other.Namespace != e.Namespace {
		b.refuse(e.String(), fmt.Sprintf("has the same name as %s: both cannot be in one side schema; restore them one after the other", other))
	}
	b.taken[key] = e
}
