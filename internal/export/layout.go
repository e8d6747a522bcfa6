package export

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// step is one thing in the order of an export.
type step struct {
	kind  stepKind
	entry pgarchive.Entry
	// table, with columns, of stepRows. replica: its rows are loaded with foreign
	// keys off; see arrangeConfiguration.
	table   *repo.Table
	columns []column
	replica bool
}

type stepKind byte

const (
	// stepEntry is an entry of the archive, or one of ours, that is executed.
	stepEntry stepKind = iota
	// stepRows loads the rows of a table.
	stepRows
	// stepObjects makes the large objects, with owners, comments and privileges.
	stepObjects
	// stepContents fills them.
	stepContents
)

// layout is a database in the order in which it is written: that of the schema
// archive, with rows, sequences and large objects between what comes before rows
// and what comes after.
type layout struct {
	archive  *pgarchive.Archive
	database *repo.Database
	steps    []*step
	// last is the highest number of an entry.
	last pgarchive.ID
}

// composer makes a layout.
type composer struct {
	*layout
	schema    *schema
	pre, post []*step
	data      []*step
	tables    map[uint32]*pgarchive.Entry     // TABLE entries by the table's OID
	rows      map[pgarchive.ID]pgarchive.ID   // from TABLE to its TABLE DATA
	entries   map[pgarchive.ID]*step          // of post
	loaded    map[pgarchive.ID][]pgarchive.ID // what of TABLE must be waited for besides rows
}

// groupedObjects is the version of archives from which large objects are data, in
// groups of equal owners and privileges.
var groupedObjects = pgarchive.Version{Major: 1, Minor: 16}

func (l *layout) grouped() bool { return l.archive.Version.Minor >= groupedObjects.Minor }

// compose decides in which order a database is written. It is a pure function.
// The restrictions that stock tools know are in the entries' dependencies, so
// that pg_restore -j keeps them too.
func compose(a *pgarchive.Archive, d *repo.Database, source pg.Version) (*layout, error) {
	c := &composer{layout: &layout{archive: a, database: d}, schema: newSchema(a), tables: map[uint32]*pgarchive.Entry{}, rows: map[pgarchive.ID]pgarchive.ID{},
		entries: map[pgarchive.ID]*step{}, loaded: map[pgarchive.ID][]pgarchive.ID{}}
	c.split()
	if c.last > math.MaxInt32/2 {
		return nil, fmt.Errorf("database %s: its archive numbers entries up to %d: %w", d.Name.Display(), c.last, errs.Corrupt)
	}
	c.addPublicSchema(source)
	c.addRows()
	c.addSequences()
	c.addStatements()
	c.arrangeChecked()
	c.arrangeTrees()
	c.arrangeNames()
	c.arrangePrivileges()
	c.arrangeEvents()
	if d.LargeObjects != nil {
		made := &step{kind: stepObjects}
		if c.grouped() {
			c.data = append(c.data, made)
		} else {
			c.pre = append(c.pre, made)
		}
		c.data = append(c.data, &step{kind: stepContents})
	}
	c.steps = slices.Concat(c.pre, c.data, c.post)
	return c.layout, nil
}

// split takes the archive's entries apart into what comes before and after rows.
func (c *composer) split() {
	for i := range c.archive.Entries {
		e := &c.archive.Entries[i]
		c.last = max(c.last, e.ID)
		if e.Desc == "TABLE" && e.TableOID == pgarchive.ClassTable {
			c.tables[e.OID] = e
		}
		s := &step{entry: *e}
		s.entry.Deps = slices.Clone(e.Deps) // more may be added
		if c.archive.PhaseOf(e) == pgarchive.PostData {
			c.post = append(c.post, s)
			c.entries[e.ID] = s
			continue
		}
		c.pre = append(c.pre, s)
	}
}

func (c *composer) next() pgarchive.ID {
	c.last++
	return c.last
}

// addRows adds the rows of every table, by name as pg_dump does; those of
// extensions first.
func (c *composer) addRows() {
	var own, configuration []*repo.Table
	for i := range c.database.Tables {
		t := &c.database.Tables[i]
		switch {
		case t.Omitted != "":
		case t.Extension != "":
			configuration = append(configuration, t)
		default:
			own = append(own, t)
		}
	}
	c.addConfiguration(configuration)
	slices.SortFunc(own, byName)
	for _, t := range own {
		c.addTable(t)
	}
}

func byName(a, b *repo.Table) int {
	return cmp.Or(strings.Compare(string(a.Schema), string(b.Schema)), strings.Compare(string(a.Name), string(b.Name)))
}

func (c *composer) addTable(t *repo.Table) *step {
	e := c.tables[t.OID]
	s := &step{kind: stepRows, table: t, columns: c.schema.columns(e, t.Columns)}
	var of pgarchive.ID
	if e != nil {
		of = e.ID
		s.entry.Owner = e.Owner
	} else {
		// pg_restore wants the number of a table, which it need not know and which
		// must be lower.
		of = c.next()
	}
	s.entry.ID, s.entry.OID, s.entry.Tag, s.entry.Desc, s.entry.Namespace = c.next(), t.OID, t.Name, "TABLE DATA", t.Schema
	s.entry.Section, s.entry.Deps, s.entry.HasData = pgarchive.SectionData, []pgarchive.ID{of}, true
	s.entry.File = fmt.Sprintf("%d.dat", s.entry.ID)
	into := c.written(t.Schema, t.Name, e)
	if t.LoadViaRoot && t.RootName != "" {
		root := relation{t.RootSchema, t.RootName}
		into = c.written(t.RootSchema, t.RootName, c.tables[t.Root])
		s.entry.Defn = "-- load via partition root " + root.String()
	}
	s.entry.Copy = "COPY " + into + columnList(t.Columns) + " FROM stdin;\n"
	c.rows[of] = s.entry.ID
	c.data = append(c.data, s)
	return s
}

// written gives the name of a table as pg_dump writes it, if that can be seen:
// pg_restore takes rows that go into a table of any other spelling for such as
// are routed through a root, which costs it a shortcut.
func (c *composer) written(schema, name pg.Name, e *pgarchive.Entry) string {
	if e != nil && simple(schema) && simple(name) {
		if plain := string(schema) + "." + string(name); e.Drop == "DROP TABLE "+plain+";\n" {
			return plain
		}
	}
	return relation{schema, name}.quoted()
}

// simple tells whether a name needs no quotes unless it is a keyword.
func simple(n pg.Name) bool {
	for i, r := range string(n) {
		if r != '_' && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return n != ""
}

func columnList(columns []pg.Name) string {
	if len(columns) == 0 {
		return ""
	}
	var quoted []string
	for _, n := range columns {
		quoted = append(quoted, n.Quote())
	}
	return " (" + strings.Join(quoted, ", ") + ")"
}

// addConfiguration adds tables of extensions. Their foreign keys exist when rows
// are loaded: parents come first. Those in a circle, and those behind one, are
// loaded with foreign keys off, which needs a superuser.
func (c *composer) addConfiguration(tables []*repo.Table) {
	slices.SortFunc(tables, byName)
	here := map[uint32]bool{}
	for _, t := range tables {
		here[t.OID] = true
	}
	placed := map[uint32]pgarchive.ID{}
	for len(tables) > 0 {
		var waiting []*repo.Table
		for _, t := range tables {
			if slices.ContainsFunc(t.References, func(oid uint32) bool { return oid != t.OID && here[oid] && placed[oid] == 0 }) {
				waiting = append(waiting, t)
				continue
			}
			s := c.addTable(t)
			for _, oid := range t.References {
				if placed[oid] != 0 {
					s.entry.Deps = append(s.entry.Deps, placed[oid])
				}
			}
			placed[t.OID] = s.entry.ID
		}
		if len(waiting) == len(tables) {
			for _, t := range waiting {
				s := c.addTable(t)
				s.replica = true
				// pg_restore sends this as one message, which is one transaction.
				s.entry.Copy = "SET LOCAL session_replication_role = replica;\n" + s.entry.Copy
			}
			return
		}
		tables = waiting
	}
}

// addSequences adds the values of sequences.
func (c *composer) addSequences() {
	made := map[uint32]*pgarchive.Entry{}
	for i := range c.archive.Entries {
		if e := &c.archive.Entries[i]; e.Desc == "SEQUENCE" && e.TableOID == pgarchive.ClassTable {
			made[e.OID] = e
		}
	}
	for i := range c.database.Sequences {
		q := &c.database.Sequences[i]
		s := &step{}
		s.entry.ID, s.entry.Tag, s.entry.Desc, s.entry.Namespace, s.entry.Section = c.next(), q.Name, "SEQUENCE SET", q.Schema, pgarchive.SectionData
		if e := made[q.OID]; e != nil {
			s.entry.Owner, s.entry.Deps = e.Owner, []pgarchive.ID{e.ID}
		}
		s.entry.Defn = fmt.Sprintf("SELECT pg_catalog.setval(%s, %d, %t);\n", lit(pg.Name(relation{q.Schema, q.Name}.quoted())), q.LastValue, q.IsCalled)
		c.data = append(c.data, s)
	}
}

// addStatements adds what stands in for what pg_dump leaves out for a role that
// is no superuser; each after the one before.
func (c *composer) addStatements() {
	var before []pgarchive.ID
	for i, sql := range c.database.Statements {
		s := &step{}
		s.entry.ID, s.entry.Tag, s.entry.Section, s.entry.Defn, s.entry.Deps = c.next(), pg.Name(fmt.Sprintf("left out by pg_dump, %d", i+1)), pgarchive.SectionPost, sql+"\n", before
		s.entry.Desc = "USER MAPPING"
		if strings.Contains(firstLine(sql), " SUBSCRIPTION ") {
			s.entry.Desc = "SUBSCRIPTION"
		}
		before = []pgarchive.ID{s.entry.ID}
		c.post = append(c.post, s)
		c.entries[s.entry.ID] = s
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// addPublicSchema makes schema public what it was before version 15, for archives
// whose pg_dump took that for granted. An older server has it so already.
func (c *composer) addPublicSchema(source pg.Version) {
	d := c.database
	if source.Major() >= 15 || d.Archive == nil || d.Archive.Tool.Major() >= 15 || d.PublicOwner == "" {
		return
	}
	sql := "ALTER SCHEMA public OWNER TO " + d.PublicOwner.Quote() + ";\n"
	for item := range strings.SplitSeq(strings.Trim(d.PublicACL, "{}"), ",") {
		if rights, ok := strings.CutPrefix(item, "="); ok {
			rights, _, _ = strings.Cut(rights, "/")
			if strings.Contains(rights, "C") {
				sql += "GRANT CREATE ON SCHEMA public TO PUBLIC;\n"
			}
		}
	}
	s := &step{}
	s.entry.ID, s.entry.Tag, s.entry.Desc, s.entry.Section, s.entry.Defn = c.next(), "SCHEMA public", "ACL", pgarchive.SectionNone, sql
	c.pre = append(c.pre, s)
}

// lit is a string literal without blanks around it.
func lit(n pg.Name) string { return strings.TrimSpace(n.Literal()) }
