package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// directory writes a database into an empty folder: a file of rows for each
// table, one for each large object that has something in it, and at the end the
// table of contents. name is where people find it.
func (r *run) directory(ctx context.Context, d *repo.Database, path, name string) error {
	l, err := r.layout(ctx, d)
	if err != nil {
		return err
	}
	report := describe(d, name)
	w := &folder{run: r, layout: l, path: path, report: report, track: r.track(d)}
	if err := w.rows(ctx); err != nil {
		return err
	}
	groups, err := w.contents(ctx)
	if err != nil {
		return err
	}
	if err := w.tableOfContents(ctx, groups); err != nil {
		return fmt.Errorf("database %s: %w", d.Name.Display(), err)
	}
	slices.SortFunc(report.Tables, func(a, b TableReport) int { return compareReports(a, b) })
	r.report.Databases = append(r.report.Databases, *report)
	return nil
}

// layout reads the schema archive and arranges the database.
func (r *run) layout(ctx context.Context, d *repo.Database) (*layout, error) {
	a, err := readArchive(ctx, r.Source, d)
	if err != nil {
		return nil, err
	}
	return compose(a, d, r.content.Instance.Version)
}

// folder is a database being written in the directory format.
type folder struct {
	*run
	*layout
	path   string
	track  *tracker
	report *DatabaseReport

	mu sync.Mutex // guards report and run.report while rows are written
}

// rows writes the rows of all tables, as many at once as there are jobs, the
// biggest first.
func (w *folder) rows(ctx context.Context) error {
	var all []*step
	for _, s := range w.steps {
		if s.kind == stepRows {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *step) int { return int(min(max(plainBytes(b.table)-plainBytes(a.table), -1), 1)) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.Jobs)
	for _, s := range all {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return w.table(ctx, s) })
	}
	return group.Wait()
}

func plainBytes(t *repo.Table) (n int64) {
	for _, r := range t.Runs {
		n += r.Stream.Bytes
	}
	return n
}

func (w *folder) table(ctx context.Context, s *step) error {
	var n int64
	var wrong error
	err := writePacked(filepath.Join(w.path, s.entry.File+".gz"), func(out io.Writer) error {
		n, wrong = tableRows(ctx, w.Source, s.table, s.columns, w.KeepGoing, out, w.track.rows)
		if wrong != nil && (!w.KeepGoing || !survivable(ctx, wrong)) {
			return wrong
		}
		_, err := io.WriteString(out, copyEnd)
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if wrong != nil {
		err = wrong // whatever became of the file
	}
	if err := w.problem(ctx, w.database, "table "+relation{s.table.Schema, s.table.Name}.String(), err); err != nil {
		return err
	}
	w.report.wrote(s.table, n)
	w.track.add(1, 0, 0)
	return nil
}

// group is a run of large objects, by OID, that one entry of the table of
// contents fills. Until archives of version 1.16 there is one for all.
type group struct {
	first, last uint32
	// made and filled are the numbers of its entries; made is 0 where each object
	// has an entry of its own.
	made, filled pgarchive.ID
	file         string
}

// maxGroup is how many large objects pg_dump puts into a group.
const maxGroup = 1000

// contents writes what is in large objects and gives their groups.
func (w *folder) contents(ctx context.Context) ([]group, error) {
	o := w.database.LargeObjects
	if o == nil {
		return nil, nil
	}
	groups, err := w.groups(ctx, o)
	if err == nil {
		err = w.fill(ctx, o, groups)
	}
	if err = w.problem(ctx, w.database, "large objects", err); err != nil {
		return nil, err
	}
	w.report.LargeObjects = o.Count
	return groups, nil
}

// groups finds neighbours of equal owners and privileges.
func (w *folder) groups(ctx context.Context, o *repo.LargeObjects) ([]group, error) {
	if !w.grouped() {
		w.last++
		return []group{{last: 1<<32 - 1, filled: w.last, file: "blobs.toc"}}, nil
	}
	var groups []group
	var before repo.LargeObjectFacts
	n := 0
	err := eachObject(ctx, w.Source, o, func(f *repo.LargeObjectFacts) error {
		if n > 0 && n < maxGroup && f.Owner == before.Owner && (f.ACL == nil) == (before.ACL == nil) && slices.Equal(f.ACL, before.ACL) && !handedOn(f) {
			groups[len(groups)-1].last = f.OID
			n++
			return nil
		}
		made := w.last + 1
		w.last += 2
		groups = append(groups, group{first: f.OID, last: f.OID, made: made, filled: w.last, file: fmt.Sprintf("blobs_%d.toc", w.last)})
		before, n = *f, 1
		return nil
	})
	return groups, err
}

// handedOn tells whether somebody else than the owner granted a privilege: then
// the statements name roles, which pg_restore cannot repeat for each of a group.
func handedOn(f *repo.LargeObjectFacts) bool {
	return slices.ContainsFunc(f.ACL, func(i repo.ACLItem) bool { return i.Grantor != f.Owner })
}

// fill writes a file for each large object that has pages, and for each group
// the list of them.
func (w *folder) fill(ctx context.Context, o *repo.LargeObjects, groups []group) error {
	lists := &objectLists{folder: w.path, groups: groups}
	one := &objectFile{block: int64(o.BlockSize)}
	open := func(oid uint32) error {
		name, err := lists.add(oid)
		if err != nil {
			return err
		}
		return one.open(filepath.Join(w.path, name+".gz"), oid)
	}
	err := objectPages(ctx, w.Source, o, func(oid uint32, page int64, data []byte) error {
		if one.w == nil || one.oid != oid {
			if err := errors.Join(one.close(), open(oid)); err != nil {
				return err
			}
		}
		w.track.add(0, 0, int64(len(data)))
		return one.page(page, data)
	})
	return errors.Join(err, one.close(), lists.close())
}

// objectFile is the file of one large object. What was never written in it is
// zeros.
type objectFile struct {
	block int64
	oid   uint32
	at    int64
	w     *packedFile
}

func (o *objectFile) open(path string, oid uint32) (err error) {
	o.oid, o.at = oid, 0
	o.w, err = createPacked(path)
	return err
}

func (o *objectFile) page(page int64, data []byte) error {
	start := page * o.block
	for o.at < start {
		n := min(start-o.at, int64(len(zeros)))
		if _, err := o.w.Write(zeros[:n]); err != nil {
			return err
		}
		o.at += n
	}
	n, err := o.w.Write(data)
	o.at += int64(n)
	return err
}

func (o *objectFile) close() error {
	if o.w == nil {
		return nil
	}
	w := o.w
	o.w = nil
	return w.close()
}

var zeros [64 << 10]byte

// objectLists writes, for each group, the list of its files.
type objectLists struct {
	folder string
	groups []group
	at     int
	file   *os.File
	w      *bufio.Writer
}

// add notes the file of an object; they come by OID.
func (l *objectLists) add(oid uint32) (string, error) {
	for l.at < len(l.groups) && oid > l.groups[l.at].last {
		if err := l.end(); err != nil {
			return "", err
		}
		l.at++
	}
	if l.at == len(l.groups) || oid < l.groups[l.at].first {
		return "", fmt.Errorf("large object %d has contents and no metadata: %w", oid, errDamaged)
	}
	if err := l.begin(); err != nil {
		return "", err
	}
	name := fmt.Sprintf("blob_%d.dat", oid)
	_, err := fmt.Fprintf(l.w, "%d %s\n", oid, name)
	return name, err
}

func (l *objectLists) begin() (err error) {
	if l.w != nil {
		return nil
	}
	if l.file, err = os.OpenFile(filepath.Join(l.folder, l.groups[l.at].file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return errs.OfFile(err)
	}
	l.w = bufio.NewWriter(l.file)
	return nil
}

// end ends the list of a group, which is there even if it names nothing.
func (l *objectLists) end() error {
	if err := l.begin(); err != nil {
		return err
	}
	err := errors.Join(l.w.Flush(), l.file.Sync(), l.file.Close())
	l.w = nil
	return errs.OfFile(err)
}

func (l *objectLists) close() error {
	for ; l.at < len(l.groups); l.at++ {
		if err := l.end(); err != nil {
			return err
		}
	}
	return nil
}

// tableOfContents writes toc.dat.
func (w *folder) tableOfContents(ctx context.Context, groups []group) error {
	f, err := os.OpenFile(filepath.Join(w.path, "toc.dat"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errs.OfFile(err)
	}
	err = w.entries(ctx, f, groups)
	if err == nil {
		err = f.Sync()
	}
	return errs.OfFile(errors.Join(err, f.Close()))
}

func (w *folder) entries(ctx context.Context, f pgarchive.File, groups []group) error {
	head := *w.archive
	if at := w.database.Time; !at.IsZero() {
		head.Created = at.UTC() // the archive in the snapshot tells no time
	}
	out, err := pgarchive.NewWriter(f, &head)
	if err != nil {
		return err
	}
	for _, s := range w.steps {
		switch {
		case s.kind == stepEntry || s.kind == stepRows:
			err = out.Entry(&s.entry)
		case len(groups) == 0: // damaged, and the export keeps going
		case s.kind == stepContents:
			err = w.contentEntries(out, groups)
		case w.grouped():
			err = w.groupEntries(ctx, out, groups)
		default:
			err = w.objectEntries(ctx, out)
		}
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// contentEntries say which large objects are filled from which list.
func (w *folder) contentEntries(out *pgarchive.Writer, groups []group) error {
	for _, g := range groups {
		e := pgarchive.Entry{ID: g.filled, Tag: "BLOBS", Desc: "BLOBS", Section: pgarchive.SectionData, HasData: true, File: g.file}
		if g.made != 0 {
			e.Tag, e.Deps = g.tag(), []pgarchive.ID{g.made}
		}
		if err := out.Entry(&e); err != nil {
			return err
		}
	}
	return nil
}

func (g group) tag() pg.Name {
	if g.first == g.last {
		return pg.Name(fmt.Sprint(g.first))
	}
	return pg.Name(fmt.Sprintf("%d..%d", g.first, g.last))
}
