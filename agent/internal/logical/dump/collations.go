package dump

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// readSize notes what the database takes on disk. pg_database_size looks at
// files and waits for no lock, unlike pg_relation_size of an index that is being
// built anew; what is where is taken from the catalogs for the same reason.
func (c *coordinator) readSize(ctx context.Context) error {
	s := &repo.SizeFacts{}
	if err := c.conn.One(ctx, &s.Bytes, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"); err != nil {
		return err
	}
	var space pg.Name
	var bytes, indexes int64
	err := c.conn.Each(ctx, `SELECT coalesce(t.spcname::text, ''), (sum(c.relpages::int8) * b.size)::int8,
			(coalesce(sum(c.relpages::int8) FILTER (WHERE c.relkind = 'i'), 0) * b.size)::int8
		FROM pg_catalog.pg_class c CROSS JOIN (SELECT pg_catalog.current_setting('block_size')::int8) b(size)
			LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
		WHERE c.relkind IN ('r', 'i', 't', 'm') AND c.oid >= 16384 GROUP BY t.spcname, b.size ORDER BY 1`,
		nil, []any{&space, &bytes, &indexes}, func() error {
			s.Indexes += indexes
			if space != "" {
				s.Elsewhere = append(s.Elsewhere, repo.SpaceFacts{Tablespace: space, Bytes: bytes})
			}
			return nil
		})
	c.d.out.Size = s
	return err
}

// usesQuery gives what is ordered or compared by each collation: the keys of
// range partitions, and of list and hash partitions where different texts may be
// equal; check constraints with an ordering operator over texts; indexes. The
// number 100 is the database's default collation, whatever that is.
const usesQuery = `WITH parts AS (
	SELECT k.coll AS coll, 'partition' AS kind, c.relnamespace AS space, c.relname AS name, ''::name AS rel
	FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
		CROSS JOIN LATERAL pg_catalog.unnest(p.partcollation::oid[]) k(coll) JOIN pg_catalog.pg_collation l ON l.oid = k.coll
	WHERE (p.partstrat = 'r' OR NOT l.collisdeterministic) AND NOT c.relispartition),
checks AS (
	SELECT a.attcollation, 'check', c.relnamespace, x.conname, c.relname
	FROM pg_catalog.pg_constraint x JOIN pg_catalog.pg_class c ON c.oid = x.conrelid
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.conkey) AND a.attcollation <> 0
		JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
	WHERE x.contype = 'c' AND x.conislocal AND pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(x.oid), '<>|->>?', '', 'g') ~ CASE WHEN l.collisdeterministic THEN '[<>]' ELSE '[<>=]' END),
keys AS (
	SELECT k.coll, CASE WHEN i.indisunique OR i.indisexclusion THEN 'unique' ELSE 'index' END, c.relnamespace, c.relname, ''::name
	FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid CROSS JOIN LATERAL pg_catalog.unnest(i.indcollation::oid[]) k(coll)
	WHERE k.coll <> 0 AND NOT c.relispartition),
uses AS (SELECT DISTINCT u.coll, u.kind, n.nspname, u.name, u.rel
	FROM (TABLE parts UNION ALL TABLE checks UNION ALL TABLE keys) u JOIN pg_catalog.pg_namespace n ON n.oid = u.space
	WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
numbered AS (SELECT u.*, count(*) OVER (PARTITION BY coll) AS n, row_number() OVER (PARTITION BY coll
	ORDER BY pg_catalog.array_position(ARRAY['partition', 'check', 'unique', 'index'], kind), nspname, name, rel) AS i FROM uses u)
SELECT coll::int8, kind, nspname::text, name::text, rel::text, n FROM numbered WHERE i <= $1 ORDER BY coll, i`

// collationsQuery gives the collations of a list of OIDs, with the version that
// the provider has now. Those without a version, as "C" is, cannot change. The
// columns have other names in every other major.
const collationsQuery = `SELECT c.oid::int8, n.nspname::text, c.collname::text, CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
	coalesce(j->>'colllocale', j->>'colliculocale', j->>'collcollate', ''), c.collisdeterministic, pg_catalog.pg_collation_actual_version(c.oid)
FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace, pg_catalog.to_jsonb(c) j
WHERE c.oid = ANY ($1::oid[]) AND pg_catalog.pg_collation_actual_version(c.oid) IS NOT NULL ORDER BY c.oid`

// defaultCollation is the OID of the collation that stands for the database's own.
const defaultCollation = 100

// readCollations notes the versions of the collations that something depends on:
// a server with others may order and compare differently.
func (c *coordinator) readCollations(ctx context.Context) error {
	uses := map[uint32]*repo.CollationFacts{}
	var oids []uint32
	var oid uint32
	var u repo.CollationUse
	var all int64
	err := c.conn.Each(ctx, usesQuery, []any{repo.MaxCollationUses}, []any{&oid, &u.Kind, &u.Schema, &u.Name, &u.Table, &all}, func() error {
		if uses[oid] == nil {
			uses[oid] = &repo.CollationFacts{}
			oids = append(oids, oid)
		}
		f := uses[oid]
		f.Uses = append(f.Uses, u)
		f.More = all - int64(len(f.Uses))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read uses of collations: %w", err)
	}
	if f := uses[defaultCollation]; f != nil {
		if err := c.readDefaultCollation(ctx, f); err != nil {
			return fmt.Errorf("read the version of the default collation: %w", err)
		}
	}
	var list []string
	for _, oid := range oids {
		if oid != defaultCollation {
			list = append(list, strconv.FormatUint(uint64(oid), 10))
		}
	}
	var f repo.CollationFacts
	err = c.conn.Each(ctx, collationsQuery, []any{"{" + strings.Join(list, ",") + "}"}, []any{&oid, &f.Schema, &f.Name, &f.Provider, &f.Locale, &f.Deterministic, &f.Version}, func() error {
		if len(c.d.out.Collations) < repo.MaxCollations {
			f.Uses, f.More = slices.Clone(uses[oid].Uses), uses[oid].More
			c.d.out.Collations = append(c.d.out.Collations, f)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read versions of collations: %w", err)
	}
	return nil
}

// readDefaultCollation notes the database's own collation, if it has a version.
// Before version 15 no function tells it; a collation of the same locale does.
func (c *coordinator) readDefaultCollation(ctx context.Context, uses *repo.CollationFacts) error {
	p, err := repo.PropertiesOf(&c.d.out)
	if err != nil {
		return err
	}
	f := repo.CollationFacts{Provider: p.Provider, Locale: pg.Name(p.Locale), Deterministic: true, Uses: uses.Uses, More: uses.More}
	if p.Provider == "libc" {
		f.Locale = p.Collate
	}
	query := `SELECT coalesce((SELECT pg_catalog.pg_database_collation_actual_version(d.oid) FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), '')`
	if c.conn.Version.Major() < 15 {
		query = `SELECT coalesce((SELECT pg_catalog.pg_collation_actual_version(c.oid) FROM pg_catalog.pg_collation c, pg_catalog.pg_database d
			WHERE d.datname = pg_catalog.current_database() AND c.collprovider = 'c' AND c.collcollate = d.datcollate LIMIT 1), '')`
	}
	if err := c.conn.One(ctx, &f.Version, query); err != nil {
		return err
	}
	if f.Version != "" {
		c.d.out.Collations = append(c.d.out.Collations, f)
	}
	return nil
}
