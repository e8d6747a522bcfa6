package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// LiveFacts is what planning knows of a database in use.
type LiveFacts struct {
	// Schemas of the names that the restore would use, with their comments.
	Schemas map[pg.Name]string
	// Tables that are to be replaced, those that exist.
	Tables map[sqltext.QualifiedName]*LiveTable
	// shared objects that exist, by kind and name; see selection.Shared.
	shared map[string]bool
	// replica: the session may turn triggers and foreign keys off.
	replica bool
	// create: the role may create schemas.
	create bool

	// staging and schema are the names that the restore uses; see LivePlan.
	staging, schema pg.Name
	units           []selection.Unit
	sequences       []repo.Sequence
	refusals        []selection.Note
}

// LiveTable is a table in use, or a partition tree.
type LiveTable struct {
	OID         int64
	Kind        string // relkind of pg_class
	columns     []pg.Name
	inherited   bool // others inherit from it
	partition   bool
	triggers    []pg.Name // that fire whatever session_replication_role says
	noIdentity  []pg.Name // published tables whose deletions cannot be told subscribers
	views       []sqltext.QualifiedName
	ForeignKeys []ForeignKey
}

// ForeignKey is a foreign key from or to a table in use.
type ForeignKey struct {
	name pg.Name
	// From refers to To. FromPart and ToPart tell which of them are partitioned.
	From, To         sqltext.QualifiedName
	FromPart, ToPart bool
	// Join, Filled and Absent are conditions over f, the referring row, and p, the
	// one referred to.
	Join, Filled, Absent string
	// Validated as the server has it: one that is not is not checked either.
	Validated, period bool
}

// String names the key for people.
func (k ForeignKey) String() string {
	return fmt.Sprintf("foreign key %s of %s to %s", k.name.Display(), k.From, k.To)
}

// ReadSchemas looks for schemas by name, in a session in the database in use.
func (f *LiveFacts) ReadSchemas(ctx context.Context, c *postgres.Conn, names ...pg.Name) error {
	var name, comment pg.Name
	f.Schemas = map[pg.Name]string{}
	return c.Each(ctx, `SELECT nspname::text, coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace
		WHERE nspname::text IN (`+sqltext.Literals(names)+")", nil, []any{&name, &comment}, func() error {
		f.Schemas[name] = string(comment)
		return nil
	})
}

// namesBatch is how many names one query asks about.
const namesBatch = 500

// sharedQueries find objects by schema and name, those without a schema by name.
var sharedQueries = map[string]string{
	"EXTENSION": "SELECT '', extname::text FROM pg_catalog.pg_extension WHERE ('', extname::text)",
	"SERVER":    "SELECT '', srvname::text FROM pg_catalog.pg_foreign_server WHERE ('', srvname::text)",
	"TYPE":      "SELECT n.nspname::text, o.typname::text FROM pg_catalog.pg_type o JOIN pg_catalog.pg_namespace n ON n.oid = o.typnamespace WHERE (n.nspname::text, o.typname::text)",
	"FUNCTION":  "SELECT n.nspname::text, o.proname::text FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_namespace n ON n.oid = o.pronamespace WHERE (n.nspname::text, o.proname::text)",
	"COLLATION": "SELECT n.nspname::text, o.collname::text FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace WHERE (n.nspname::text, o.collname::text)",
}

func sharedKind(desc string) string {
	switch desc {
	case "SHELL TYPE", "DOMAIN":
		return "TYPE"
	case "PROCEDURE", "AGGREGATE":
		return "FUNCTION"
	}
	return desc
}

func sharedKey(e *pgarchive.Entry) string {
	return sharedKind(e.Desc) + " " + selection.SharedName(e).Quoted()
}

// exists tells whether a shared object is there.
func (f *LiveFacts) exists(e *pgarchive.Entry) bool { return f.shared[sharedKey(e)] }

// readShared looks for what tables beside the live ones would share with them.
func (f *LiveFacts) readShared(ctx context.Context, c *postgres.Conn, a *pgarchive.Archive) error {
	f.shared = map[string]bool{}
	wanted := map[string][]sqltext.QualifiedName{}
	for i := range a.Entries {
		if e := &a.Entries[i]; selection.Shared(e) {
			kind := sharedKind(e.Desc)
			wanted[kind] = append(wanted[kind], selection.SharedName(e))
		}
	}
	for kind, all := range wanted {
		for batch := range slices.Chunk(all, namesBatch) {
			var q []string
			for _, n := range batch {
				q = append(q, "("+sqltext.Literal(n.Schema)+", "+sqltext.Literal(n.Name)+")")
			}
			var n sqltext.QualifiedName
			err := c.Each(ctx, sharedQueries[kind]+" IN ("+strings.Join(q, ", ")+")", nil, []any{&n.Schema, &n.Name}, func() error {
				f.shared[kind+" "+n.Quoted()] = true
				return nil
			})
			if err != nil {
				return fmt.Errorf("look for a %s: %w", strings.ToLower(kind), err)
			}
		}
	}
	return nil
}

// ReadTables reads what there is to know of the tables that are to be replaced.
func (f *LiveFacts) ReadTables(ctx context.Context, c *postgres.Conn, names []sqltext.QualifiedName) error {
	f.Tables = map[sqltext.QualifiedName]*LiveTable{}
	for batch := range slices.Chunk(names, namesBatch) {
		var q []string
		for _, n := range batch {
			q = append(q, "("+sqltext.Literal(n.Schema)+", "+sqltext.Literal(n.Name)+")")
		}
		var n sqltext.QualifiedName
		var t LiveTable
		err := c.Each(ctx, `SELECT n.nspname::text, c.relname::text, c.oid::int8, c.relkind::text, c.relispartition,
			c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname::text, c.relname::text) IN (`+strings.Join(q, ", ")+")",
			nil, []any{&n.Schema, &n.Name, &t.OID, &t.Kind, &t.partition, &t.inherited}, func() error {
				one := t
				f.Tables[n] = &one
				return nil
			})
		if err != nil {
			return fmt.Errorf("look for tables: %w", err)
		}
	}
	for _, n := range names {
		if t := f.Tables[n]; t != nil {
			if err := f.readTable(ctx, c, t); err != nil {
				return fmt.Errorf("table %s: %w", n, err)
			}
		}
	}
	return nil
}

// below are a table and its partitions, around is that and the partitioned tables above it.
const (
	below  = "(SELECT $1::pg_catalog.oid AS oid UNION SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass))"
	around = "(SELECT oid FROM " + below + " b UNION SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid::pg_catalog.regclass))"
)

func (f *LiveFacts) readTable(ctx context.Context, c *postgres.Conn, t *LiveTable) error {
	list := func(to *[]pg.Name, query string) error {
		*to = nil
		var name pg.Name
		return c.Each(ctx, query, []any{t.OID}, []any{&name}, func() error {
			*to = append(*to, name)
			return nil
		})
	}
	err := list(&t.columns, `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attname COLLATE "C"`)
	if err == nil {
		err = list(&t.triggers, `SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid IN `+below+` AND tgenabled IN ('A', 'R')
			UNION SELECT rulename::text FROM pg_catalog.pg_rewrite WHERE ev_class IN `+below+` AND ev_enabled IN ('A', 'R')`)
	}
	if err == nil {
		err = list(&t.noIdentity, `SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid IN `+below+` AND EXISTS (SELECT FROM pg_catalog.pg_publication_tables t JOIN pg_catalog.pg_publication p USING (pubname)
				WHERE p.pubdelete AND t.schemaname = n.nspname AND t.tablename = c.relname)
			AND NOT (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)))`)
	}
	if err != nil {
		return err
	}
	t.views = nil
	var v sqltext.QualifiedName
	err = c.Each(ctx, `SELECT DISTINCT n.nspname::text, v.relname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
		JOIN pg_catalog.pg_class v ON v.oid = w.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
		WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND v.relkind = 'm'
		AND d.refobjid IN `+below, []any{t.OID}, []any{&v.Schema, &v.Name}, func() error {
		t.views = append(t.views, v)
		return nil
	})
	if err != nil {
		return err
	}
	return f.readKeys(ctx, c, t)
}

// readKeys reads the foreign keys from and to a table, its partitions and what it
// is a partition of. The server words the conditions: their operators may be those
// of types from anywhere.
func (f *LiveFacts) readKeys(ctx context.Context, c *postgres.Conn, t *LiveTable) error {
	t.ForeignKeys = nil
	var k ForeignKey
	return c.Each(ctx, `SELECT c.conname::text, fn.nspname::text, f.relname::text, f.relkind = 'p', tn.nspname::text, p.relname::text, p.relkind = 'p', c.convalidated,
		coalesce((pg_catalog.to_jsonb(c) ->> 'conperiod')::bool, false), x.joined, x.filled, x.absent
		FROM pg_catalog.pg_constraint c
		JOIN pg_catalog.pg_class f ON f.oid = c.conrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
		JOIN pg_catalog.pg_class p ON p.oid = c.confrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = p.relnamespace
		CROSS JOIN LATERAL (SELECT
			pg_catalog.string_agg(pg_catalog.format('p.%I OPERATOR(%I.%s) f.%I', pa.attname, opn.nspname, op.oprname, fa.attname), ' AND ' ORDER BY k.i) AS joined,
			pg_catalog.string_agg(pg_catalog.format('f.%I IS NOT NULL', fa.attname), CASE WHEN c.confmatchtype = 'f' THEN ' OR ' ELSE ' AND ' END ORDER BY k.i) AS filled,
			pg_catalog.min(pg_catalog.format('p.%I IS NULL', pa.attname)) AS absent
			FROM ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey), pg_catalog.unnest(c.conpfeqop)) WITH ORDINALITY AS k(f, p, op, i)
			JOIN pg_catalog.pg_attribute fa ON fa.attrelid = c.conrelid AND fa.attnum = k.f
			JOIN pg_catalog.pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.p
			JOIN pg_catalog.pg_operator op ON op.oid = k.op JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace) x
		WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.conrelid IN `+around+` OR c.confrelid IN `+around+`) ORDER BY c.oid`, []any{t.OID},
		[]any{&k.name, &k.From.Schema, &k.From.Name, &k.FromPart, &k.To.Schema, &k.To.Name, &k.ToPart, &k.Validated, &k.period, &k.Join, &k.Filled, &k.Absent}, func() error {
			t.ForeignKeys = append(t.ForeignKeys, k)
			return nil
		})
}
