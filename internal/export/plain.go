package export

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// plain writes a database as a script, in the order in which pg_restore would
// execute it: everything, then privileges, then what refreshes materialized
// views, then event triggers.
func (r *run) plain(ctx context.Context, d *repo.Database, out io.Writer, name string) error {
	l, err := r.layout(ctx, d)
	if err != nil {
		return err
	}
	w := &writer{run: r, layout: l, script: newScript(out, !r.NoRestrict), report: describe(d, name), track: r.track(d)}
	w.head()
	for pass := range pgarchive.Passes {
		for _, s := range l.steps {
			if err := w.step(ctx, s, pgarchive.Pass(pass)); err != nil {
				return err
			}
		}
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("write the script: %w", errs.OfFile(err))
	}
	slices.SortFunc(w.report.Tables, compareReports)
	r.report.Databases = append(r.report.Databases, *w.report)
	return nil
}

// writer is a database being written as a script.
type writer struct {
	*run
	*layout
	*script
	track      *tracker
	report     *DatabaseReport
	tablespace choice
	method     choice
}

func (w *writer) head() {
	w.comment("Database %s of snapshot %s, instance %s, PostgreSQL %s", w.database.Name.Display(), w.Snapshot, pg.Name(w.content.Instance.Name).Display(), w.content.Instance.Version)
	w.comment("Load it into a new, empty database: psql -X -v ON_ERROR_STOP=1 -d NEW -f FILE")
	w.line("")
	w.settings()
	for _, sql := range w.archive.Session() {
		w.line(trimmed(sql))
	}
	w.line("SET default_tablespace = '';")
	w.line("")
}

// trimmed is a statement without line breaks behind it.
func trimmed(sql string) string {
	for len(sql) > 0 && sql[len(sql)-1] == '\n' {
		sql = sql[:len(sql)-1]
	}
	return sql
}

// step writes what belongs to a pass.
func (w *writer) step(ctx context.Context, s *step, pass pgarchive.Pass) error {
	switch s.kind {
	case stepEntry:
		e := &s.entry
		skipped := w.archive.Entry(e.ID) != nil && w.archive.PhaseOf(e) == pgarchive.Skipped
		if e.Pass() == pass && !skipped && e.Desc != "BARRIER" {
			w.entry(e)
		}
		return w.err
	case stepRows:
		if pass == pgarchive.PassMain {
			return w.rows(ctx, s)
		}
	case stepObjects:
		if pass == pgarchive.PassMain || pass == pgarchive.PassPrivileges {
			return w.problem(ctx, w.database, "large objects", w.objects(ctx, pass))
		}
	case stepContents:
		if pass == pgarchive.PassMain {
			w.report.LargeObjects = w.database.LargeObjects.Count
			return w.problem(ctx, w.database, "large objects", w.contents(ctx))
		}
	}
	return nil
}

// entry writes an entry's statements, and gives what it makes to its owner.
func (w *writer) entry(e *pgarchive.Entry) {
	w.comment("Name: %s; Type: %s; Schema: %s; Owner: %s", e.Tag.Display(), pg.Name(e.Desc).Display(), dash(e.Namespace), dash(e.Owner))
	if w.tablespace.changed(e.Tablespace) {
		w.line("SET default_tablespace = " + lit(e.Tablespace) + ";")
	}
	if e.TableAM != "" && e.RelKind != 'p' && w.method.changed(e.TableAM) {
		w.line("SET default_table_access_method = " + e.TableAM.Quote() + ";")
	}
	for _, sql := range []string{e.Defn, e.AccessMethodStatement(), e.OwnerStatement()} {
		if sql != "" {
			w.line(trimmed(sql))
		}
	}
	w.line("")
}

func dash(n pg.Name) string {
	if n == "" {
		return "-"
	}
	return n.Display()
}

// rows writes a table's COPY. Rows that are missing because of damage are told of
// beside it: a COPY cannot be taken back.
func (w *writer) rows(ctx context.Context, s *step) error {
	name := relation{s.table.Schema, s.table.Name}
	w.comment("Rows of table %s", name)
	if s.replica {
		w.line("BEGIN;")
	}
	w.line(trimmed(s.entry.Copy))
	n, err := tableRows(ctx, w.Source, s.table, s.columns, w.KeepGoing, w, w.track.rows)
	if w.err != nil {
		return fmt.Errorf("write the script: %w", errs.OfFile(w.err))
	}
	if err := w.problem(ctx, w.database, "table "+name.String(), err); err != nil {
		return err
	}
	w.line(`\.`)
	if s.replica {
		w.line("COMMIT;")
	}
	if err != nil {
		w.comment("INCOMPLETE: only %d rows of the table above could be written", n)
	}
	w.line("")
	w.report.wrote(s.table, n)
	w.track.add(1, 0, 0)
	return w.err
}

// objects makes large objects, or sets their privileges.
func (w *writer) objects(ctx context.Context, pass pgarchive.Pass) error {
	return eachObject(ctx, w.Source, w.database.LargeObjects, func(f *repo.LargeObjectFacts) error {
		if pass == pgarchive.PassPrivileges {
			if sql := objectACL(f); sql != "" {
				w.line(trimmed(sql))
			}
			return w.err
		}
		object := fmt.Sprintf("LARGE OBJECT %d", f.OID)
		w.line(fmt.Sprintf("SELECT pg_catalog.lo_create('%d');", f.OID))
		w.line("ALTER " + object + " OWNER TO " + f.Owner.Quote() + ";")
		if f.Comment != nil {
			w.line("COMMENT ON " + object + " IS " + lit(pg.Name(*f.Comment)) + ";")
		}
		return w.err
	})
}

// pagesAtOnce is how many pages one statement writes, at most: 64 KiB of a usual
// server.
const pagesAtOnce = 32

// contents fills large objects. Holes stay holes.
func (w *writer) contents(ctx context.Context) error {
	o := w.database.LargeObjects
	p := &objectScript{script: w.script, block: int64(o.BlockSize)}
	err := objectPages(ctx, w.Source, o, func(oid uint32, page int64, data []byte) error {
		w.track.add(0, 0, int64(len(data)))
		p.page(oid, page, data)
		return w.err
	})
	p.end()
	if err == nil {
		err = w.err
	}
	return err
}

// objectScript writes the pages of large objects, each object in a transaction.
type objectScript struct {
	*script
	block int64
	oid   uint32
	open  bool
	at    int64 // where the next byte goes
	buf   []byte
}

func (p *objectScript) page(oid uint32, page int64, data []byte) {
	if p.open && p.oid != oid {
		p.end()
	}
	if !p.open {
		p.open, p.oid, p.at = true, oid, 0
		p.line("BEGIN;")
		p.line(fmt.Sprintf("SELECT pg_catalog.lo_open('%d', 131072);", oid))
	}
	start := page * p.block
	if start != p.at+int64(len(p.buf)) || len(p.buf) >= pagesAtOnce*int(p.block) {
		p.flush()
	}
	if start != p.at+int64(len(p.buf)) {
		p.line(fmt.Sprintf("SELECT pg_catalog.lo_lseek64(0, %d, 0);", start))
		p.at = start
	}
	if len(data) == 0 { // what truncating at the end of a page leaves
		p.flush()
		p.line(fmt.Sprintf("SELECT pg_catalog.lo_truncate64(0, %d);", start))
	}
	p.buf = append(p.buf, data...)
}

func (p *objectScript) flush() {
	if len(p.buf) == 0 {
		return
	}
	p.line(`SELECT pg_catalog.lowrite(0, '\x` + hex.EncodeToString(p.buf) + `');`)
	p.at += int64(len(p.buf))
	p.buf = p.buf[:0]
}

func (p *objectScript) end() {
	if !p.open {
		return
	}
	p.flush()
	p.line("SELECT pg_catalog.lo_close(0);")
	p.line("COMMIT;")
	p.line("")
	p.open = false
}
