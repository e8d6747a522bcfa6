package selection

import (
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Unit is a live table whose rows are replaced, with the staged tables that hold
// the new ones: one, or one for each partition in the snapshot.
type Unit struct {
	// Live is the table, or the topmost selected table of a partition tree.
	Live sqltext.QualifiedName
	// Columns that have values of their own, by name: generated ones are left out.
	Columns []pg.Name
	// Staged are the tables of the part, in its order.
	Staged []*repo.Table
	// Kept names the table that keeps the replaced rows, in a schema of its own.
	Kept pg.Name
}

// maxIdentifier is NAMEDATALEN-1 of every server that was not built otherwise.
const maxIdentifier = 63

// Staged makes of a part bare tables in one schema, without indexes and
// constraints, shaped like the live tables that are to take the rows. Nothing of
// the archive is used: what the live tables are is what counts. compression tells
// whether the server knows LIKE … INCLUDING COMPRESSION (14 and later).
func Staged(p *Part, side pg.Name, compression bool) ([]Unit, error) {
	d := *p.Database
	d.Tables, d.Sequences = append([]repo.Table{}, d.Tables...), []repo.Sequence{}
	var entries []pgarchive.Entry
	for i := range p.Archive.Entries {
		if e := p.Archive.Entries[i]; ofSession(&e) {
			entries = append(entries, e)
		}
	}
	var units []Unit
	at := map[sqltext.QualifiedName]int{}
	names, kept := map[pg.Name]bool{}, map[pg.Name]bool{}
	like := "INCLUDING GENERATED INCLUDING STORAGE"
	if compression {
		like += " INCLUDING COMPRESSION"
	}
	for i := range d.Tables {
		t := &d.Tables[i]
		live := sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}
		if t.Root != 0 {
			live = sqltext.QualifiedName{Schema: t.RootSchema, Name: t.RootName}
		}
		if _, ok := at[live]; !ok {
			at[live] = len(units)
			units = append(units, Unit{Live: live, Columns: t.Columns, Kept: free(kept, live.Name, t.OID)})
		}
		u := &units[at[live]]
		u.Staged = append(u.Staged, t)
		t.Schema, t.Name = side, free(names, t.Name, t.OID)
		t.Root, t.RootSchema, t.RootName, t.LoadViaRoot = 0, "", "", false
		// Rows that are staged need not survive a crash of the server: the attempt does not either.
		entries = append(entries, pgarchive.Entry{
			ID: pgarchive.ID(i + 1), TableOID: pgarchive.ClassTable, OID: t.OID, Desc: "TABLE", Section: pgarchive.SectionPre, Namespace: side, Tag: t.Name,
			Defn: fmt.Sprintf("CREATE UNLOGGED TABLE %s.%s (LIKE %s %s);", side.Quote(), t.Name.Quote(), live.Quoted(), like),
		})
	}
	p.Database = &d
	for i := range entries { // numbers of their own: those of the archive mean something else
		entries[i].ID = pgarchive.ID(i + 1)
	}
	var err error
	p.Archive, err = p.Archive.With(entries)
	return units, err
}

// free gives a name that nobody has, made of a table's own.
func free(taken map[pg.Name]bool, name pg.Name, oid uint32) pg.Name {
	if taken[name] {
		suffix := fmt.Sprintf("_%d", oid)
		name = name[:min(len(name), maxIdentifier-len(suffix))] + pg.Name(suffix)
	}
	taken[name] = true
	return name
}
