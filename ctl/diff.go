package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) snapshotDiffCmd() *cobra.Command {
	req := &tuskvaultv1.DiffSnapshotsRequest{}
	c := &cobra.Command{Use: "diff BEFORE AFTER", Short: "Compare the tables of two snapshots: rows and fingerprints, without reading any data",
		Long: `Compares the tables of two snapshots by what their manifests say: which came and
went, how many rows each has, and whether the rows are the same. No row is read.
A table is unknown where its rows are not in one of the two.`,
		Example: `  tuskctl snapshot diff latest:db1/main@2026-01-31 latest:db1/main
  tuskctl snapshot diff 1f3a 77c0 -d shop --all -o json`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			req.Before, req.After = args[0], args[1]
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := all(ctx, a, func(r *tuskvaultv1.DiffSnapshotsResponse) int { return len(r.GetTables()) },
					func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.DiffSnapshotsResponse, error) {
						req.Page = p
						return cl.snapshot.DiffSnapshots(ctx, req)
					})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls" and "tuskctl snapshot show SNAPSHOT"`)
				}
				t := &print.Table{Columns: []print.Column{{Head: "CHANGE"}, {Head: "DATABASE"}, {Head: "SCHEMA"}, {Head: "TABLE", Flex: true}, {Head: "ROWS BEFORE", Right: true}, {Head: "ROWS AFTER", Right: true},
					{Head: "DIFFERENCE", Right: true}, {Head: "SIZE BEFORE", Right: true, Wide: true}, {Head: "SIZE AFTER", Right: true, Wide: true}, {Head: "OMITTED", Flex: true, Wide: true}}}
				var names []string
				for _, d := range r.GetTables() {
					t.Row(changeWord(d.GetChange()), d.GetDatabase(), d.GetSchema(), d.GetName(), print.Count(d.GetRowsBefore()), print.Count(d.GetRowsAfter()), signed(d.GetRowsAfter()-d.GetRowsBefore()),
						print.Size(d.GetPlainBytesBefore()), print.Size(d.GetPlainBytesAfter()), d.GetOmitted())
					names = append(names, d.GetDatabase()+"."+d.GetSchema()+"."+d.GetName())
				}
				return a.printer().Print(print.View{Message: r, Names: names, Table: t})
			})
		}}
	c.Flags().StringVarP(&req.Database, "database", "d", "", "only this database")
	c.Flags().BoolVar(&req.IncludeSame, "all", false, "also tables that are the same")
	return c
}

func changeWord(c tuskvaultv1.TableChange) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "TABLE_CHANGE_"))
}

// signed gives a difference with its sign, nothing for none.
func signed(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 0:
		return print.Count(n)
	}
	return fmt.Sprintf("+%s", print.Count(n))
}
