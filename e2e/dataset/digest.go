package dataset

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// session makes the text of values the same whatever the database's settings
// are. The encoding stays the server's, in which names may be anything.
var session = []string{
	"SET row_security = off", "SET search_path = ''", "SET DateStyle = 'ISO, YMD'", "SET IntervalStyle = postgres", "SET TimeZone = 'UTC'",
	"SET extra_float_digits = 3", "SET bytea_output = hex", "SET lc_monetary = 'C'", "SET statement_timeout = 0", "SET default_transaction_read_only = off",
	"SET quote_all_identifiers = off", "SET xmloption = content",
}

// columnsQuery gives each table with rows of its own and, for each of its
// columns, an expression that is short however long the value is (of the type
// "char" its number: the text differs between versions). Columns come
// in the order of their names: a restore may change the order of definition.
const columnsQuery = `SELECT n.nspname, c.relname,
	coalesce(string_agg('coalesce(pg_catalog.md5(x.' || quote_ident(a.attname) || CASE coalesce(nullif(t.typbasetype, 0), t.oid) WHEN 'bytea'::regtype THEN ''
			WHEN '"char"'::regtype THEN '::"char"::pg_catalog.int4::pg_catalog.text' ELSE '::pg_catalog.text' END || '), ''-'')',
		', ' ORDER BY a.attname COLLATE "C"), '''none''')
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_type t ON t.oid = a.atttypid
	WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	GROUP BY c.oid, n.nspname, c.relname ORDER BY 1, 2`

// Digests computes, with SQL of its own, the number of rows and an
// order-independent hash of every table, partition and materialized view of a
// database, generated columns included, so that the product's own fingerprints
// are not their own witness. Names are those of the relations, qualified and
// quoted where need be, and without "public"; "(sequences)" and "(large objects)" stand for all of them.
func Digests(ctx context.Context, conninfo string) (map[string]string, error) {
	c, err := pgconn.Connect(ctx, conninfo)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing is pending
	q := func(sql string) ([][][]byte, error) {
		r := c.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
		if r.Err != nil {
			return nil, fmt.Errorf("%w: %s", r.Err, sql)
		}
		return r.Rows, nil
	}
	for _, s := range session {
		if _, err := q(s); err != nil {
			return nil, err
		}
	}
	tables, err := q(columnsQuery)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, t := range tables {
		name := pg.Name(t[0]).Quote() + "." + pg.Name(t[1]).Quote()
		// The sum of a hash's first half does not depend on the order of rows.
		r, err := q(`SELECT count(*)::text || ' ' || coalesce(sum(('x' || substr(md5(array_to_string(ARRAY[` + string(t[2]) + `], ',')), 1, 16))::bit(64)::int8::numeric), 0)::text FROM ONLY ` + name + ` x`)
		if err != nil {
			return nil, err
		}
		out[display(t[0], t[1])] = string(r[0][0])
	}
	for what, query := range map[string]string{
		"(large objects)": `SELECT count(*)::text || ' ' || coalesce(sum(('x' || substr(md5(concat_ws(',', m.oid, md5(lo_get(m.oid)), pg_get_userbyid(m.lomowner), (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(m.lomacl) a))), 1, 16))::bit(64)::int8::numeric), 0)::text FROM pg_largeobject_metadata m`,
		"(sequences)":     ``,
	} {
		if query == "" {
			if query, err = sequences(q); err != nil {
				return nil, err
			}
		}
		r, err := q(query)
		if err != nil {
			return nil, err
		}
		out[what] = string(r[0][0])
	}
	return out, nil
}

// sequences makes the query that reads all of them; pg_sequences would not show
// whether a value was used already.
func sequences(q func(string) ([][][]byte, error)) (string, error) {
	all, err := q(`SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1, 2`)
	if err != nil || len(all) == 0 {
		return "SELECT ''", err
	}
	var parts []string
	for _, s := range all {
		parts = append(parts, "SELECT "+pg.Name(display(s[0], s[1])).Literal()+"::text || '=' || last_value || ' ' || is_called AS s FROM "+
			pg.Name(s[0]).Quote()+"."+pg.Name(s[1]).Quote())
	}
	return "SELECT string_agg(s, '; ' ORDER BY s) FROM (" + strings.Join(parts, " UNION ALL ") + ") x", nil
}

// display names a relation, quoted where it must be, unqualified in schema public.
func display(schema, name []byte) string {
	if string(schema) == "public" {
		return quoted(name)
	}
	return quoted(schema) + "." + quoted(name)
}

// quoted quotes a name unless it is plain.
func quoted(name []byte) string {
	if len(bytes.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_")) > 0 {
		return pg.Name(name).Quote()
	}
	return string(name)
}
