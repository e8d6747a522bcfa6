package plan

import (
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// sizeOf gives what a part of a database took at the source, in the tablespaces
// that it will lie in: the whole's size by the part's share of the heaps. nil
// where the snapshot does not say. Tablespaces are those that stand for others;
// the empty name is the database's own.
func sizeOf(whole, part *repo.Database, tablespaces map[pg.Name]pg.Name) *repo.SizeFacts {
	if whole.Size == nil {
		return nil
	}
	share := 1.0
	if all := pages(whole); all > 0 {
		share = float64(pages(part)) / float64(all)
	}
	scaled := func(n int64) int64 { return int64(float64(n) * share) }
	out := &repo.SizeFacts{Bytes: scaled(whole.Size.Bytes), Indexes: scaled(whole.Size.Indexes)}
	for _, e := range whole.Size.Elsewhere {
		if to, mapped := tablespaces[e.Tablespace]; mapped {
			e.Tablespace = to
		}
		if e.Tablespace != "" {
			out.Elsewhere = append(out.Elsewhere, repo.SpaceFacts{Tablespace: e.Tablespace, Bytes: scaled(e.Bytes)})
		}
	}
	return out
}

// pages counts the pages of the heaps.
func pages(d *repo.Database) (n int64) {
	for i := range d.Tables {
		n += d.Tables[i].Pages
	}
	return n
}
