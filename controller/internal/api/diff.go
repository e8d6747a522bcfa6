package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// DiffSnapshots compares the tables of two snapshots by what their manifests say:
// numbers of rows and fingerprints. No row is read.
func (s *snapshotService) DiffSnapshots(ctx context.Context, r *tuskvaultv1.DiffSnapshotsRequest) (*tuskvaultv1.DiffSnapshotsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	before, earlier, err := s.read(ctx, r.GetBefore(), "tables")
	if err != nil {
		return nil, fmt.Errorf("compare snapshots: %w", err)
	}
	after, later, err := s.read(ctx, r.GetAfter(), "tables")
	if err != nil {
		return nil, fmt.Errorf("compare snapshots: %w", err)
	}
	rows, err := diffOf(earlier, later, r.GetDatabase())
	if err != nil {
		return nil, fmt.Errorf("compare snapshots: %w", err)
	}
	if !r.GetIncludeSame() {
		rows = slices.DeleteFunc(rows, func(d *tuskvaultv1.TableDiff) bool { return d.GetChange() == tuskvaultv1.TableChange_TABLE_CHANGE_SAME })
	}
	rows, next, err := take(rows, page, diffKey)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.DiffSnapshotsResponse{Before: before.ID.String(), After: after.ID.String(), Tables: rows, Page: toPage(next)}, nil
}

func diffKey(d *tuskvaultv1.TableDiff) string {
	return d.GetDatabase() + "\x00" + d.GetSchema() + "\x00" + d.GetName()
}

// diffOf gives the tables of both, by database, schema and name. A database that
// one of them lacks is one whose tables were all added or removed.
func diffOf(before, after *repo.Content, database string) ([]*tuskvaultv1.TableDiff, error) {
	type pair struct{ before, after *repo.Table }
	pairs := map[string]*pair{}
	var names []string
	collect := func(c *repo.Content, set func(*pair, *repo.Table)) {
		if c.Logical == nil {
			return
		}
		for i := range c.Logical.Databases {
			d := &c.Logical.Databases[i]
			name := d.Name.Display()
			names = append(names, name)
			if database != "" && name != database {
				continue
			}
			for j := range d.Tables {
				t := &d.Tables[j]
				key := name + "\x00" + t.Schema.Display() + "\x00" + t.Name.Display()
				if pairs[key] == nil {
					pairs[key] = &pair{}
				}
				set(pairs[key], t)
			}
		}
	}
	collect(before, func(p *pair, t *repo.Table) { p.before = t })
	collect(after, func(p *pair, t *repo.Table) { p.after = t })
	if database != "" && !slices.Contains(names, database) {
		slices.Sort(names)
		return nil, notFound("database", clip(database, maxReference), slices.Compact(names))
	}
	out := make([]*tuskvaultv1.TableDiff, 0, len(pairs))
	for key, p := range pairs {
		name, _, _ := strings.Cut(key, "\x00")
		out = append(out, diffTable(name, p.before, p.after))
	}
	slices.SortFunc(out, func(a, b *tuskvaultv1.TableDiff) int { return strings.Compare(diffKey(a), diffKey(b)) })
	return out, nil
}

// diffTable compares one table; one of the two may be nil.
func diffTable(database string, before, after *repo.Table) *tuskvaultv1.TableDiff {
	d := &tuskvaultv1.TableDiff{Database: database}
	if before != nil {
		row := toSnapshotTable(database, *before)
		d.Schema, d.Name, d.RowsBefore, d.PlainBytesBefore, d.Omitted = row.GetSchema(), row.GetName(), row.GetRows(), row.GetPlainBytes(), row.GetOmitted()
	}
	if after != nil {
		row := toSnapshotTable(database, *after)
		d.Schema, d.Name, d.RowsAfter, d.PlainBytesAfter = row.GetSchema(), row.GetName(), row.GetRows(), row.GetPlainBytes()
		if row.GetOmitted() != "" {
			d.Omitted = row.GetOmitted()
		}
	}
	switch {
	case before == nil:
		d.Change = tuskvaultv1.TableChange_TABLE_CHANGE_ADDED
	case after == nil:
		d.Change = tuskvaultv1.TableChange_TABLE_CHANGE_REMOVED
	case d.GetOmitted() != "":
		d.Change = tuskvaultv1.TableChange_TABLE_CHANGE_UNKNOWN
	case sameRows(before, after):
		d.Change = tuskvaultv1.TableChange_TABLE_CHANGE_SAME
	default:
		d.Change = tuskvaultv1.TableChange_TABLE_CHANGE_CHANGED
	}
	return d
}

// sameRows compares the text rows by the table's fingerprint, and binary ones by
// the sums over their runs. A row that went from one format to the other differs.
func sameRows(a, b *repo.Table) bool {
	rowsA, printA := binaryRows(a)
	rowsB, printB := binaryRows(b)
	return a.Rows == b.Rows && a.Fingerprint == b.Fingerprint && rowsA == rowsB && printA == printB
}

func binaryRows(t *repo.Table) (rows int64, sum repo.Fingerprint) {
	for _, r := range t.Runs {
		if r.Binary {
			rows += r.Rows
			sum.Merge(r.Fingerprint)
		}
	}
	return rows, sum
}
