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
