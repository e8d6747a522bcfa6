package load

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// compared is what was read back of a table, part by part.
type compared struct {
	parts int

	mu           sync.Mutex
	left         int
	text, binary stream.RowSum
}

// add takes one part in and tells whether it was the last.
func (c *compared) add(text, binary stream.RowSum) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Add(text)
	c.binary.Add(binary)
	c.left--
	return c.left == 0
}

// expected gives what the manifest says of a table, apart for the two formats,
// and the predicate of the rows that are in the binary format.
func (t *table) expected() (text, binary stream.RowSum, wide string) {
	text = stream.RowSum{Rows: t.Rows, Sum: t.Fingerprint}
	for _, r := range t.Runs {
		if r.Binary {
			binary.Add(stream.RowSum{Rows: r.Rows, Sum: r.Fingerprint})
			wide = r.Wide
		}
	}
	return text, binary, wide
}

// given sums up the runs of a table. Each was compared with what was handed to
// the server, and the server counted its rows, before its COPY ended.
func (t *table) given() (text, binary stream.RowSum) {
	for _, r := range t.Runs {
		if r.Binary {
			binary.Add(stream.RowSum{Rows: r.Rows, Sum: r.Fingerprint})
		} else {
			text.Add(stream.RowSum{Rows: r.Rows, Sum: r.Fingerprint})
		}
	}
	return text, binary
}

// readsBack tells whether a table is read back: where it was asked for, and where
// what was handed to the server need not be what is there afterwards. Between
// major versions the text of a value may change, the tables of extensions may
// have triggers, and what was put off was loaded among all that was made since.
// Rows that were routed are another such case, see verifyTree.
func (r *restore) readsBack(t *table) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readBack || t.Extension != "" || r.late[t]
}

// verifyTable compares one part of a table: by what was given to the server, or
// by reading it back and, after the last part, comparing.
func (w *worker) verifyTable(ctx context.Context, t *table, part int) error {
	if t.tree != nil && w.run.routed(t.tree) {
		return nil // its rows may be in another partition: the tree is compared as a whole
	}
	if !w.run.readsBack(t) {
		return w.compareGiven(t, part)
	}
	wantText, wantBinary, wide := t.expected()
	where := partCondition(t, part)
	text, binary, err := w.readBack(ctx, "FROM ONLY "+t.quoted(), t.quoted(), t.Columns, t.Condition, where, wide)
	if err != nil {
		return fmt.Errorf("read %s back: %w", t, err)
	}
	if !t.sum.add(text, binary) {
		return nil
	}
	if err := differs(t.String(), wantText, t.sum.text, wantBinary, t.sum.binary); err != nil {
		if t.tree != nil && w.run.routed(t.tree) {
			return nil // rows of another partition were routed here meanwhile
		}
		return err
	}
	w.run.equal(t, true)
	return nil
}

// compareGiven compares the runs of a table with the table.
func (w *worker) compareGiven(t *table, part int) error {
	if part > 0 {
		return nil
	}
	wantText, wantBinary, _ := t.expected()
	text, binary := t.given()
	if err := differs(t.String(), wantText, text, wantBinary, binary); err != nil {
		return err
	}
	w.run.equal(t, false)
	return nil
}

// partCondition bounds the heap of one part: parts of equal length, the last open.
func partCondition(t *table, part int) string {
	n := int64(t.sum.parts)
	if n <= 1 {
		return ""
	}
	from, to := t.Pages/n*int64(part), t.Pages/n*int64(part+1)
	switch {
	case part == 0:
		return fmt.Sprintf("ctid < '(%d,0)'::pg_catalog.tid", to)
	case part == int(n)-1:
		return fmt.Sprintf("ctid >= '(%d,0)'::pg_catalog.tid", from)
	}
	return fmt.Sprintf("ctid >= '(%d,0)'::pg_catalog.tid AND ctid < '(%d,0)'::pg_catalog.tid", from, to)
}

// verifyTree compares a partitioned table as a whole, if its rows were routed.
func (w *worker) verifyTree(ctx context.Context, tr *tree) error {
	if !w.run.routed(tr) {
		return nil
	}
	var wantText, wantBinary stream.RowSum
	var wide string
	for _, t := range tr.leaves {
		text, binary, w := t.expected()
		wantText.Add(text)
		wantBinary.Add(binary)
		if w != "" {
			wide = w
		}
	}
	text, binary, err := w.readBack(ctx, "FROM "+tr.quoted(), "", tr.columns, "", "", wide)
	if err != nil {
		return fmt.Errorf("read %s back: %w", tr, err)
	}
	if err := differs(tr.String(), wantText, text, wantBinary, binary); err != nil {
		return err
	}
	for _, t := range tr.leaves {
		w.run.equal(t, true)
	}
	return nil
}

func differs(table string, wantText, text, wantBinary, binary stream.RowSum) error {
	if text == wantText && binary == wantBinary {
		return nil
	}
	want, got := wantText, text
	if text == wantText {
		want, got = wantBinary, binary
	}
	return fmt.Errorf("table %s: restored rows differ from the snapshot's: expected %s, found %s: %w", table, want, got, errs.Corrupt)
}

// readBack reads rows as they were read for the snapshot. from is the FROM
// clause; plain names a table that may be copied without a query; condition is
// the filter of a configuration table, with its WHERE; part bounds the heap;
// wide picks the rows that are in the binary format.
func (w *worker) readBack(ctx context.Context, from, plain string, columns []pg.Name, condition, part, wide string) (text, binary stream.RowSum, err error) {
	list := columnList(columns)
	if condition != "" && (part != "" || wide != "") {
		condition = "WHERE ctid IN (SELECT ctid " + from + " " + condition + ")" // it may have an OR
	}
	where := func(more ...string) string {
		c := condition
		for _, m := range more {
			switch {
			case m == "":
			case c == "":
				c = "WHERE " + m
			default:
				c += " AND " + m
			}
		}
		return c
	}
	read := func(c string, bin bool) (sum stream.RowSum, err error) {
		q := "COPY (SELECT " + list + " " + from + " " + c + ") TO STDOUT"
		if c == "" && plain != "" && !bin {
			q = "COPY " + plain + parenthesized(list) + " TO STDOUT" // goes through a ring of buffers, which a query does not
		}
		if bin {
			q += " (FORMAT binary)"
		}
		return w.fingerprint(ctx, q, bin)
	}
	if wide == "" {
		text, err = read(where(part), false)
		return text, binary, err
	}
	if text, err = read(where(part, "NOT "+wide), false); err == nil {
		binary, err = read(where(part, wide), true)
	}
	return text, binary, err
}

// fingerprint sums up what a COPY gives, under the settings of the snapshot.
func (w *worker) fingerprint(ctx context.Context, sql string, bin bool) (sum stream.RowSum, err error) {
	var h chunk.RowHasher
	var bytes int64
	err = w.compareSession(ctx, func() error {
		n, err := w.conn.CopyOut(ctx, sql, bin, func(p postgres.Piece) error {
			bytes += int64(len(p.Data))
			switch {
			case p.First && p.Last:
				sum.Sum.Add(chunk.HashRow(p.Data))
				return nil
			case p.First:
				h.Reset()
			}
			_, _ = h.Write(p.Data) // never fails
			if p.Last {
				sum.Sum.Add(h.Sum())
			}
			return nil
		})
		sum.Rows = n
		return err
	})
	return sum, err
}

// compareSession runs fn in a transaction with the settings under which the
// snapshot's rows were read. The session has its own again afterwards.
func (w *worker) compareSession(ctx context.Context, fn func() error) error {
	if w.within {
		return fn()
	}
	if err := w.conn.Exec(ctx, w.run.compareSQL); err != nil {
		return err
	}
	if err := fn(); err != nil {
		// A COPY that failed leaves a failed transaction; a lost connection nothing to roll back.
		_ = w.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	return w.conn.Exec(ctx, "COMMIT")
}

// compareSQL begins a transaction with the settings of the manifest, where the
// target knows them.
func compareSQL(session map[string]string, settings []postgres.Setting) string {
	return "BEGIN TRANSACTION READ ONLY; " + localSettings(session, settings)
}

// localSettings gives what sets them in a transaction.
func localSettings(session map[string]string, settings []postgres.Setting) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, s := range settings {
		if v, ok := session[s.Name]; ok {
			s.Value = v
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("pg_catalog.set_config(" + sqltext.Literal(pg.Name(s.Name)) + ", " + sqltext.Literal(pg.Name(s.Value)) + ", true)")
	}
	return b.String()
}

func columnList(columns []pg.Name) string {
	var q []string
	for _, c := range columns {
		q = append(q, c.Quote())
	}
	return strings.Join(q, ", ")
}

// parenthesized gives " (list)", or nothing for a table without columns that can be copied.
func parenthesized(list string) string {
	if list == "" {
		return ""
	}
	return " (" + list + ")"
}
