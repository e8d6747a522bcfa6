// Package dataset makes databases to back up: a small shop with the kinds of
// tables that real ones have, in any size, always the same for the same size.
package dataset

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed shop.sql
var shop string

//go:embed change.sql
var change string

// Fill creates the shop's tables in an empty database and fills them. Scale 1
// gives about 290 MB on disk.
func Fill(ctx context.Context, conninfo string, scale float64) error {
	return run(ctx, conninfo, shop, scale)
}

// Change inserts, updates and deletes about one row in a hundred.
func Change(ctx context.Context, conninfo string, scale float64) error {
	return run(ctx, conninfo, change, scale)
}

func run(ctx context.Context, conninfo, sql string, scale float64) (err error) {
	c, err := pgconn.Connect(ctx, conninfo)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing is pending
	for name, n := range map[string]float64{":customers": 50_000, ":orders": 300_000, ":events": 250_000, ":files": 400} {
		sql = strings.ReplaceAll(sql, name, fmt.Sprint(int64(n*scale)+1))
	}
	sql = strings.ReplaceAll(sql, ":perorder", "3")
	if _, err := c.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("fill database: %w", err)
	}
	return nil
}

// Digests computes, with SQL of its own, the number of rows and an
// order-independent hash of every table, so that the product's own fingerprints
// are not their own witness.
func Digests(ctx context.Context, conninfo string) (map[string]string, error) {
	c, err := pgconn.Connect(ctx, conninfo)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing is pending
	q := func(sql string) ([][][]byte, error) {
		r := c.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
		return r.Rows, r.Err
	}
	tables, err := q(`SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, t := range tables {
		name := string(t[0])
		r, err := q(`SELECT count(*)::text || ' ' || coalesce(sum(hashtextextended(x::text, 0)::numeric), 0)::text FROM ` + name + ` x`)
		if err != nil {
			return nil, err
		}
		out[name] = string(r[0][0])
	}
	lo, err := q(`SELECT count(*)::text || ' ' || coalesce(sum(hashtextextended(md5(lo_get(oid)), 0)::numeric), 0)::text FROM pg_largeobject_metadata`)
	if err != nil {
		return nil, err
	}
	seq, err := q(`SELECT string_agg(schemaname || '.' || sequencename || '=' || coalesce(last_value::text, '-'), ' ' ORDER BY 1) FROM pg_sequences`)
	if err != nil {
		return nil, err
	}
	out["(large objects)"], out["(sequences)"] = string(lo[0][0]), string(seq[0][0])
	return out, nil
}
