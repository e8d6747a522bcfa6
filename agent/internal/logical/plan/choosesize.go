package plan

import (
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// sizeOf gives what a part of a database took at the source, in the tablespaces
// that it will lie in: the whole's size by the share of the heaps whose rows come.
// nil where the snapshot does not say. Nobody else scales it. Tablespaces are those that stand for others;
// the empty name is the database's own.
func sizeOf(whole, part *repo.Database, tablespaces map[pg.Name]pg.Name) *repo.SizeFacts {
	if whole.Size == nil {
		return nil
	}
	share := 1.0
	if all := pages(whole, false); all > 0 {
		share = float64(pages(part, true)) / float64(all)
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

// pages counts the pages of the heaps; with loaded only of those whose rows come.
func pages(d *repo.Database, loaded bool) (n int64) {
	for i := range d.Tables {
		if t := &d.Tables[i]; !loaded || t.Omitted == "" {
			n += t.Pages
		}
	}
	return n
}
