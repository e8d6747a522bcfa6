package selection

import (
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Without takes the rows of tables out of a part: the tables stay, empty, and
// foreign keys that refer to them, or to what they are a partition of, are left
// out, since rows that refer to what is missing would violate them.
func Without(p *Part, damaged map[sqltext.QualifiedName]bool) error {
	if len(damaged) == 0 {
		return nil
	}
	d := *p.Database
	d.Tables = nil
	short := map[sqltext.QualifiedName]bool{} // rows are missing of these
	for _, t := range p.Database.Tables {
		q := sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}
		if !damaged[q] {
			d.Tables = append(d.Tables, t)
			continue
		}
		short[q] = true
		if t.Root != 0 {
			short[sqltext.QualifiedName{Schema: t.RootSchema, Name: t.RootName}] = true
		}
	}
	if d.Tables == nil {
		d.Tables = []repo.Table{}
	}
	p.Database = &d
	var entries []pgarchive.Entry
	for i := range p.Archive.Entries {
		e := &p.Archive.Entries[i]
		if to := refersTo(p.Archive, e, short); to != nil {
			p.LeftOut = append(p.LeftOut, Note{e.String(), fmt.Sprintf("left out: rows of %s are missing", to)})
			continue
		}
		entries = append(entries, *e)
	}
	p.LeftOut = bounded(p.LeftOut)
	var err error
	p.Archive, err = p.Archive.With(entries)
	return err
}

// refersTo gives the table with missing rows that a foreign key refers to.
func refersTo(a *pgarchive.Archive, e *pgarchive.Entry, short map[sqltext.QualifiedName]bool) *pgarchive.Entry {
	if e.Desc != "FK CONSTRAINT" {
		return nil
	}
	to, ok := sqltext.References(e.Defn)
	if !ok || !short[to] {
		return nil
	}
	for _, d := range e.Deps {
		if x := a.Entry(d); x != nil && relation(x) && nameOf(x) == to {
			return x
		}
	}
	return nil
}
