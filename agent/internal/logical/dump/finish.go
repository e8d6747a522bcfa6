package dump

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// finish puts the database's shared lists and fills the manifest in. Every item
// has been read, and the coordinator has committed.
func (d *database) finish(ctx context.Context, cut *cutting) error {
	if err := d.lists.Finish(ctx, cut.putList); err != nil {
		return fmt.Errorf("database %s: %w", d.info.Name.Display(), err)
	}
	d.out.Archive.Stream = d.archive.Stream()
	d.out.Tables = []repo.Table{}
	for _, t := range d.tables {
		d.out.Tables = append(d.out.Tables, t.manifest())
	}
	if d.objects != nil {
		o := d.out.LargeObjects
		data, meta := d.objects.runs[0], d.objectMeta.runs[0]
		o.Rows, o.Fingerprint, o.Data, o.Meta = data.lists.Rows(), data.lists.Fingerprint(), data.lists.Stream(), meta.lists.Stream()
		if meta.lists.Rows() != o.Count {
			return fmt.Errorf("database %s: read owners of %d large objects, counted %d", d.info.Name.Display(), meta.lists.Rows(), o.Count)
		}
	}
	return nil
}

// manifest is the table's part of the manifest.
func (t *table) manifest() repo.Table {
	out := t.out
	for _, i := range t.items {
		for _, w := range i.runs {
			out.Runs = append(out.Runs, repo.Run{
				Binary: w.kind == seal.KindRowsBinary, Stream: w.lists.Stream(), Rows: w.lists.Rows(), Fingerprint: w.lists.Fingerprint(), Wide: w.wide,
			})
			// A binary run's bytes are others than the text's, so it counts by itself.
			if w.kind == seal.KindRowsText {
				out.Rows += w.lists.Rows()
				out.Fingerprint.Merge(w.lists.Fingerprint())
			}
		}
	}
	return out
}
