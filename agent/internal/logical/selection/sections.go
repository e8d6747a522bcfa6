package selection

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Sections keeps the rows, sequences' values and large objects of a part only
// with data, and post-data only with post.
func Sections(p *Part, data, post bool) error {
	d := *p.Database
	if !data {
		d.Tables, d.Sequences, d.LargeObjects, p.Tables = []repo.Table{}, []repo.Sequence{}, nil, nil
	}
	if !post {
		d.Statements = []string{}
	}
	p.Database = &d
	secured := 0
	var entries []pgarchive.Entry
	for i := range p.Archive.Entries {
		e := &p.Archive.Entries[i]
		switch {
		case !post && p.Archive.PhaseOf(e) == pgarchive.PostData:
			if e.Desc == "ROW SECURITY" {
				secured++
			}
			continue
		case !data && (e.Desc == "MATERIALIZED VIEW DATA" || e.Desc == "STATISTICS DATA"):
			continue
		}
		entries = append(entries, *e)
	}
	if secured > 0 {
		p.LeftOut = append(p.LeftOut, Note{"row security", fmt.Sprintf("of %d tables is not restored: it is part of post-data", secured)})
	}
	var err error
	p.Archive, err = p.Archive.With(entries)
	return err
}

// Whole is all of a database.
func Whole(d *repo.Database, a *pgarchive.Archive) *Part { return &Part{Database: d, Archive: a} }
