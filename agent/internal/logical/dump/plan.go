package dump

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// splitRule has the bytes that decide about splitting a table. A table's size is
// that of its heap and of its values out of line.
type splitRule struct {
	// stride is the length of a range of heap. Ranges begin at its multiples, so
	// that an unchanged stretch of heap gives the same chunks whatever else
	// changed. Where most of a table is out of line a range of this length would
	// have many times as many bytes, and so it is halved, again and again, until it
	// has not (stridePages). A table whose proportions change may come to another
	// length, but its ranges begin at multiples of the longer one all the same:
	// only the chunks around the beginnings in between are new.
	stride int64
	// always is the size from which a table is split for its own sake: whether
	// others grow or shrink must not change how it is cut.
	always int64
	// never is the size below which a table is not worth a second connection.
	never int64
}

// leastStride bounds the halving of strides, in pages: each range is a
// statement and a run of its own.
const leastStride = 16

// stridePages is the length of a table's ranges in pages: halved until a range
// has less than twice the stride's bytes.
func (r splitRule) stridePages(pages, size int64, blockSize int) int64 {
	stride := r.stride / int64(blockSize)
	for stride/2 >= leastStride && size/pages*stride >= 2*r.stride {
		stride /= 2
	}
	return stride
}

var standardSplit = splitRule{stride: 128 << 20, always: 1 << 30, never: 64 << 20}

// itemKind says what an item reads.
type itemKind byte

const (
	itemRows itemKind = iota
	itemObjects
	itemObjectMeta
)

// item is one unit of work: what one COPY reads.
type item struct {
	db    *database
	kind  itemKind
	table *table
	// from and to bound the blocks of the heap, to 0 is open. A whole table has both 0.
	from, to int64
	whole    bool
	number   uint32 // of the item within its table
	size     int64  // bytes, an estimate
	runs     []*runWriter
	apart    bool // wide rows are in a run of their own, or there are none
	count    *counting
}

// plan makes the items of a database: whole tables, and ranges of those that are
// large for the number of workers. Reading by ranges costs the server its
// buffers, where reading a whole table goes through a ring, so only what must be
// split is split.
func plan(d *database, rule splitRule, version pg.Version, blockSize, workers int) []*item {
	var total int64
	for _, t := range d.tables {
		total += t.size(blockSize)
	}
	var items []*item
	for _, t := range d.tables {
		if t.out.Omitted != "" {
			continue
		}
		t.items = splitTable(d, t, rule, version, blockSize, total, workers)
		t.leftover = len(t.items)
		items = append(items, t.items...)
	}
	for _, i := range []*item{d.objects, d.objectMeta} {
		if i != nil {
			items = append(items, i)
		}
	}
	slices.SortStableFunc(items, func(a, b *item) int { return cmp.Compare(b.size, a.size) })
	return items
}

func splitTable(d *database, t *table, rule splitRule, version pg.Version, blockSize int, total int64, workers int) []*item {
	size := t.size(blockSize)
	mustSplit := size >= rule.always || size >= rule.never && size > total/int64(2*workers)
	stride := rule.stridePages(max(t.pages, 1), size, blockSize)
	// Version 13 reads a range of positions by reading the whole table.
	if !mustSplit || t.pages <= stride || t.access != "heap" || version.Major() < 14 || t.out.Condition != "" {
		return []*item{{db: d, table: t, whole: true, size: size}}
	}
	var items []*item
	for from := int64(0); from < t.pages; from += stride {
		i := &item{db: d, table: t, number: uint32(from / stride), from: from, to: from + stride, size: size * min(stride, t.pages-from) / t.pages}
		if i.to >= t.pages {
			i.to = 0 // rows may have been added beyond the size that was read
		}
		items = append(items, i)
	}
	return items
}

// condition is the item's WHERE clause, "" for none; more is added to it.
func (i *item) condition(more string) string {
	var c string
	switch {
	case i.whole && i.table.out.Condition != "":
		c = " " + i.table.out.Condition // has its own WHERE
	case !i.whole && i.to == 0:
		c = fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid", i.from)
	case !i.whole && i.from == 0:
		c = fmt.Sprintf(" WHERE ctid < '(%d,0)'::pg_catalog.tid", i.to)
	case !i.whole:
		c = fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid AND ctid < '(%d,0)'::pg_catalog.tid", i.from, i.to)
	}
	switch {
	case more == "":
		return c
	case c == "":
		return " WHERE " + more
	case i.whole: // an extension's condition may have an OR
		return " WHERE ctid IN (SELECT ctid FROM ONLY " + i.table.quoted() + c + ") AND " + more
	}
	return c + " AND " + more
}

// copySQL is the statement that reads the item's rows; more is a further
// condition, binary the format.
func (i *item) copySQL(more string, bin bool) string {
	format := ""
	if bin {
		format = " (FORMAT binary)"
	}
	columns := i.table.columnList()
	where := i.condition(more)
	if where == "" {
		if columns == "" {
			return "COPY " + i.table.quoted() + " TO STDOUT" + format
		}
		return "COPY " + i.table.quoted() + " (" + columns + ") TO STDOUT" + format
	}
	return "COPY (SELECT " + columns + " FROM ONLY " + i.table.quoted() + where + ") TO STDOUT" + format
}

// order is the place of one of the item's runs among those of its database.
func (i *item) order(kind seal.Kind) repo.RunOrder {
	switch i.kind {
	case itemObjects:
		return repo.RunOrder{Object: 2613}
	case itemObjectMeta:
		return repo.RunOrder{Object: 2995}
	}
	part := 2 * i.number
	if kind == seal.KindRowsBinary {
		part++
	}
	return repo.RunOrder{Object: i.table.oid, Part: part}
}

// String names the item, for errors and logs.
func (i *item) String() string {
	switch {
	case i.kind == itemObjects:
		return "large objects"
	case i.kind == itemObjectMeta:
		return "owners of large objects"
	case i.whole:
		return "table " + i.table.display()
	case i.to == 0:
		return fmt.Sprintf("table %s from block %d", i.table.display(), i.from)
	}
	return fmt.Sprintf("table %s blocks %d to %d", i.table.display(), i.from, i.to-1)
}
