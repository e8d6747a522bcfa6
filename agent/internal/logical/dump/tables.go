package dump

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// relation is a table or partitioned table that must be locked.
type relation struct {
	oid          uint32
	schema, name pg.Name
	// file is the relation's file by the session's snapshot, now its file as it
	// is: they differ when somebody truncated or rewrote it since the snapshot.
	file, now int64
	// named is what has now the name that the relation has by the snapshot.
	named uint32
}

func (r relation) quoted() string  { return r.schema.Quote() + "." + r.name.Quote() }
func (r relation) display() string { return r.schema.Display() + "." + r.name.Display() }

// dumpable is the condition on pg_class c and pg_namespace n for relations whose
// contents belong to the database itself: none of the system's, and of
// extensions only what they register as configuration.
const dumpable = `c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
	SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
	AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
	AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_extension x WHERE x.oid = d.refobjid AND c.oid = ANY (x.extconfig)))`

const relationsQuery = `SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relfilenode::int8, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)::int8,
	coalesce(pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname::text) || '.' || pg_catalog.quote_ident(c.relname::text))::oid::int8, 0)
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND ` + dumpable + ` ORDER BY c.oid`

// listRelations lists what must be locked, by OID.
func listRelations(ctx context.Context, c *postgres.Conn) ([]relation, error) {
	var all []relation
	var r relation
	err := c.Each(ctx, relationsQuery, nil, []any{&r.oid, &r.schema, &r.name, &r.file, &r.now, &r.named}, func() error {
		all = append(all, r)
		return nil
	})
	return all, err
}

// table is one table whose rows are read.
type table struct {
	relation
	out      repo.Table
	access   string // access method
	pages    int64  // of the heap
	toast    int64  // bytes of the table beside its heap: nearly all of them are values out of line
	wide     string // length of a row's text at most; "" when there can be no wide row
	odd      string // picks rows whose text could not be read back; "" when there can be none
	group    *wideGroup
	expected int64     // rows, an estimate of the server; 0 when it has none
	count    *counting // set by track
	items    []*item
	leftover int // items not finished, guarded by the database's mu
}

// wideGroup are tables that are compared together. It is true as soon as some of
// their rows are read in the binary format; see copyItem.
type wideGroup struct{ atomic.Bool }

// size estimates the bytes to read.
func (t *table) size(blockSize int) int64 { return t.pages*int64(blockSize) + t.toast }

// An enum's hash depends on OIDs, so rows of a table partitioned by hash on one
// may belong to other partitions elsewhere: they are loaded through the root.
const tablesQuery = `WITH RECURSIVE anc AS (
	SELECT i.inhrelid AS leaf, i.inhparent AS parent FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
	UNION SELECT a.leaf, i.inhparent FROM anc a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.parent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
routed AS (SELECT DISTINCT a.leaf FROM anc a JOIN pg_catalog.pg_partitioned_table pt ON pt.partrelid = a.parent
	WHERE pt.partstrat = 'h' AND EXISTS (SELECT 1 FROM pg_catalog.unnest(pt.partclass) oc JOIN pg_catalog.pg_opclass o ON o.oid = oc
		JOIN pg_catalog.pg_opfamily f ON f.oid = o.opcfamily WHERE f.opfname = 'enum_ops' AND f.opfnamespace = 'pg_catalog'::pg_catalog.regnamespace)),
config AS (SELECT e.extname, u.rel, u.cond FROM pg_catalog.pg_extension e CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) u(rel, cond))
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relpersistence = 'u', coalesce(am.amname::text, 'heap'),
	coalesce(r.oid::int8, 0), coalesce(rn.nspname::text, ''), coalesce(r.relname::text, ''), routed.leaf IS NOT NULL,
	EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid JOIN pg_catalog.pg_am ia ON ia.oid = ic.relam
		WHERE i.indrelid = c.oid AND (ia.amname = 'brin' OR i.indisclustered)),
	coalesce(config.extname::text, ''), coalesce(config.cond, ''),
	coalesce(pg_catalog.pg_relation_size(c.oid), 0) / pg_catalog.current_setting('block_size')::int8,
	coalesce(pg_catalog.pg_table_size(c.oid) - pg_catalog.pg_relation_size(c.oid), 0), greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
	LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
	LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
	LEFT JOIN routed ON routed.leaf = c.oid LEFT JOIN config ON config.rel = c.oid
WHERE c.relkind = 'r' AND ` + dumpable + ` ORDER BY c.oid`

// Generated columns, stored or virtual, cannot be copied: they are computed again.
const columnsQuery = `SELECT a.attrelid::int8, a.attname::text, coalesce(nullif(bt.typname, ''), t.typname)::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_type bt ON bt.oid = t.typbasetype AND bt.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND ` + dumpable + ` ORDER BY a.attrelid`

type column struct {
	name  pg.Name
	basic string // name of the type, below a domain
}

// listTables reads everything the manifest says of tables, under the snapshot.
func listTables(ctx context.Context, c *postgres.Conn) ([]*table, error) {
	var all []*table
	var t table
	o := &t.out
	dest := []any{&t.oid, &t.schema, &t.name, &o.Unlogged, &t.access, &o.Root, &o.RootSchema, &o.RootName, &o.LoadViaRoot, &o.OneStream,
		&o.Extension, &o.Condition, &t.pages, &t.toast, &t.expected}
	byOID := map[uint32]*table{}
	err := c.Each(ctx, tablesQuery, nil, dest, func() error {
		row := t
		row.out.OID, row.out.Schema, row.out.Name, row.out.Pages = t.oid, t.schema, t.name, t.pages
		row.out.Columns, row.out.Runs = []pg.Name{}, []repo.Run{}
		all = append(all, &row)
		byOID[row.oid] = &row
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	columns := map[uint32][]column{}
	var rel uint32
	var col column
	err = c.Each(ctx, columnsQuery, nil, []any{&rel, &col.name, &col.basic}, func() error {
		columns[rel] = append(columns[rel], col)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list columns: %w", err)
	}
	for rel, cols := range columns {
		if t := byOID[rel]; t != nil {
			t.setColumns(cols, c.Version)
		}
	}
	if err := readReferences(ctx, c, byOID); err != nil {
		return nil, err
	}
	groupWide(all)
	return all, nil
}

// readReferences notes the foreign keys between configuration tables of
// extensions. Those of other tables are made after their rows; these are there
// as soon as the extension is.
func readReferences(ctx context.Context, c *postgres.Conn, byOID map[uint32]*table) error {
	var from, to uint32
	err := c.Each(ctx, `SELECT conrelid::int8, confrelid::int8 FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid <> confrelid
		AND conrelid IN (SELECT pg_catalog.unnest(extconfig) FROM pg_catalog.pg_extension) GROUP BY 1, 2 ORDER BY 1, 2`, nil, []any{&from, &to}, func() error {
		if t := byOID[from]; t != nil && byOID[to] != nil && byOID[to].out.Extension != "" {
			t.out.References = append(t.out.References, to)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list foreign keys of extensions: %w", err)
	}
	return nil
}

// setColumns puts the columns in order of their names: that is the same order in
// a partition and in its root, here and after a restore, which may change the
// order of definition.
func (t *table) setColumns(cols []column, server pg.Version) {
	slices.SortFunc(cols, func(a, b column) int { return strings.Compare(string(a.name), string(b.name)) })
	var parts, odd []string
	for _, c := range cols {
		t.out.Columns = append(t.out.Columns, c.name)
		q := c.name.Quote()
		switch c.basic {
		case "bytea":
			parts = append(parts, "coalesce(2 * pg_catalog.octet_length("+q+")::int8 + 3, 0)")
		case "char":
			// Before 15 a value above 0x7f is one byte of the text, which may be no
			// character, and which later servers write otherwise.
			if server.Major() < 15 {
				odd = append(odd, "coalesce("+q+"::pg_catalog.int4 < 0, false)")
			}
		case "text", "varchar", "bpchar":
			parts = append(parts, "coalesce(2 * pg_catalog.octet_length("+q+")::int8, 0)")
		}
	}
	// octet_length of these reads no more than the row's own page, however wide the value is.
	t.wide, t.odd = strings.Join(parts, " + "), strings.Join(odd, " OR ")
}

// columnList is the table's columns for a statement, "" when there is none.
func (t *table) columnList() string {
	var q []string
	for _, c := range t.out.Columns {
		q = append(q, c.Quote())
	}
	return strings.Join(q, ", ")
}

// Members of extensions that are not configuration: pg_dump does not keep their
// rows either. They are named in the manifest so that nobody looks in vain.
const memberTablesQuery = `SELECT c.oid::int8, n.nspname::text, c.relname::text, e.extname::text, c.relpages::int8
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
		AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
	JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT coalesce(c.oid = ANY (e.extconfig), false) ORDER BY c.oid`

// listMembers lists tables that belong to an extension and are not read.
func listMembers(ctx context.Context, c *postgres.Conn) ([]*table, error) {
	var all []*table
	var t table
	dest := []any{&t.oid, &t.schema, &t.name, &t.out.Extension, &t.pages}
	err := c.Each(ctx, memberTablesQuery, nil, dest, func() error {
		row := t
		row.out.OID, row.out.Schema, row.out.Name, row.out.Pages = t.oid, t.schema, t.name, t.pages
		row.out.Columns, row.out.Runs = []pg.Name{}, []repo.Run{}
		row.out.Omitted = "belongs to extension " + t.out.Extension.Display() + ", which does not register it as configuration"
		all = append(all, &row)
		return nil
	})
	return all, err
}
