package dump

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// A server cannot make the text of a row that has more than a gigabyte of it,
// but it can send the row in the binary format, which is half as long. Where
// that happens the rows are read in two runs, apart by a predicate (table.wide):
// text for those that it does not pick, binary for those that it does.
//
// Whoever compares a restored table, or a restored partitioned table, has
// nothing but the predicate to tell the two kinds apart: it must hold for all of
// the table's ranges, and for all partitions, since rows can move between these.
// So a group of items falls back together:
//
//  1. the first item whose text fails marks its group;
//  2. items of a marked group that are read afterwards are read in two runs;
//  3. when all items are read the coordinator, which holds every lock, looks for
//     rows of the predicate in those items of marked groups that had been read
//     as text, and reads those that have any again.
//
// The same serves rows whose text could be made but not read back (table.odd):
// there the group is marked from the beginning.
//
// The third step is rare: it takes a row whose text the server could just make,
// and the looking reads no value out of line.

// copyItem reads one item. The connection stays usable unless the error says
// otherwise.
func (r *run) copyItem(conn *postgres.Conn, cut *cutting, i *item) error {
	defer i.count.begin()()
	if i.kind != itemRows {
		return r.copyObjects(conn, cut, i)
	}
	ctx := i.db.ctx
	if err := conn.Exec(ctx, "SAVEPOINT tuskvault_item"); err != nil {
		return err
	}
	if i.table.group.Load() {
		err := r.copyWide(conn, cut, i)
		if postgres.Code(err) == "42883" && i.table.odd != "" { // a type beside it has no binary format: as pg_dump reads it, then
			if e := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault_item"); e != nil {
				return errors.Join(err, e)
			}
			i.runs = nil
			i.db.warn(repo.Problem{Severity: "warning", Object: "table " + i.table.display(),
				Reason: "has values of type \"char\" above 0x7f beside a type that has no binary format: version 15 and later may not take them"})
			err = r.copyRun(conn, cut, i, seal.KindRowsText, "")
		}
		if err != nil {
			return err
		}
		return conn.Exec(ctx, "RELEASE SAVEPOINT tuskvault_item")
	}
	err := r.copyRun(conn, cut, i, seal.KindRowsText, "")
	if code := postgres.Code(err); (code == postgres.CodeInternal || code == postgres.CodeProgramLimit) && i.table.wide != "" {
		if e := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault_item"); e != nil {
			return errors.Join(err, e)
		}
		i.table.group.Store(true)
		if e := r.copyWide(conn, cut, i); e != nil {
			return errors.Join(e, fmt.Errorf("after %w", err))
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return conn.Exec(ctx, "RELEASE SAVEPOINT tuskvault_item")
}

// copyRun reads what one COPY gives and adds it to the item's runs.
func (r *run) copyRun(conn *postgres.Conn, cut *cutting, i *item, kind seal.Kind, more string) error {
	bin := kind == seal.KindRowsBinary
	w := &runWriter{ctx: i.db.ctx, cut: cut, db: i.db, table: i.count, kind: kind, lists: i.db.lists.Run(i.order(kind))}
	_, err := conn.CopyOut(i.db.ctx, i.copySQL(more, bin), bin, w.piece)
	if err == nil {
		err = w.close()
	}
	if err != nil {
		w.abandon()
		return err
	}
	i.runs = append(i.runs, w)
	return nil
}

// wideRows is the predicate that picks the rows that are read in the binary format.
func (r *run) wideRows(t *table) string {
	switch {
	case t.wide == "":
		return "(" + t.odd + ")"
	case t.odd == "":
		return fmt.Sprintf("(%s > %d)", t.wide, r.o.WideRow)
	}
	return fmt.Sprintf("(%s > %d OR %s)", t.wide, r.o.WideRow, t.odd)
}

// copyWide reads an item in two runs, or in one when the predicate picks no row of
// it: many a type has no binary format at all.
func (r *run) copyWide(conn *postgres.Conn, cut *cutting, i *item) error {
	wide := r.wideRows(i.table)
	i.runs, i.apart = nil, true
	var found bool
	if err := conn.One(i.db.ctx, &found, "SELECT EXISTS (SELECT FROM ONLY "+i.table.quoted()+i.condition(wide)+")"); err != nil {
		return err
	}
	if !found { // of a range whose text failed there is one, or the error had another reason
		return r.copyRun(conn, cut, i, seal.KindRowsText, "")
	}
	if err := r.copyRun(conn, cut, i, seal.KindRowsText, "NOT "+wide); err != nil {
		return err
	}
	if err := r.copyRun(conn, cut, i, seal.KindRowsBinary, wide); err != nil {
		return r.nameWidest(conn, i, wide, err)
	}
	i.runs[len(i.runs)-1].wide = wide
	return nil
}

// nameWidest adds which row is too wide for every format.
func (r *run) nameWidest(conn *postgres.Conn, i *item, wide string, cause error) error {
	ctx := i.db.ctx
	if i.table.wide == "" {
		return cause
	}
	if err := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault_item"); err != nil {
		return cause
	}
	var ctid string
	var size int64
	if err := conn.Each(ctx, "SELECT ctid::text, ("+i.table.wide+") / 2 FROM ONLY "+i.table.quoted()+i.condition(wide)+" ORDER BY 2 DESC LIMIT 1",
		nil, []any{&ctid, &size}, func() error { return nil }); err != nil || ctid == "" {
		return cause
	}
	return postgres.WithHint(fmt.Errorf("the widest row, at ctid %s, has about %d bytes: %w", ctid, size, cause),
		"a row of more than 1 GiB cannot be read by any client: make it smaller or move it to a large object")
}

// tellApart is the third step of falling back. Every item has been read.
func (c *coordinator) tellApart() error {
	var cut *cutting
	for _, t := range c.d.tables {
		if t.group == nil || !t.group.Load() {
			continue
		}
		for _, i := range t.items {
			if i.apart {
				continue
			}
			var found bool
			err := c.conn.One(c.d.ctx, &found, "SELECT EXISTS (SELECT FROM ONLY "+t.quoted()+i.condition(c.run.wideRows(t))+")")
			if err == nil && found {
				if cut == nil {
					cut, err = newCutting(&c.run.o, c.run.shared)
				}
				if err == nil {
					err = c.readApart(cut, i)
				}
			}
			if err != nil {
				return fmt.Errorf("database %s: read wide rows of %s: %w", c.d.info.Name.Display(), i, err)
			}
		}
	}
	return nil
}

// readApart reads an item again, in two runs.
func (c *coordinator) readApart(cut *cutting, i *item) error {
	for _, w := range i.runs {
		w.abandon()
	}
	i.runs = nil
	return c.run.copyItem(c.conn, cut, i)
}

// groupWide lets tables that are compared together fall back together.
func groupWide(tables []*table) {
	trees := map[uint32]*wideGroup{}
	for _, t := range tables {
		root := cmp.Or(t.out.Root, t.oid)
		if trees[root] == nil {
			trees[root] = new(wideGroup)
		}
		t.group = trees[root]
		if t.odd != "" {
			t.group.Store(true) // from the beginning: their text would not fail here but where it is restored
		}
	}
}
