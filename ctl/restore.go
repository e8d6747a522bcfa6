package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) restoreCmd() *cobra.Command {
	req := &tuskvaultv1.StartRestoreRequest{}
	var w wishes
	var wait, yes bool
	c := &cobra.Command{
		Use:   "restore SNAPSHOT | latest:INSTANCE --to INSTANCE",
		Short: "Restore databases, or some of their tables, from a snapshot",
		Long: `Restore databases, or some of their tables, from a snapshot into an instance.

A database is restored under a temporary name, its rows are compared with the
fingerprints of the snapshot as they are handed to the server, and it gets its
name only when it is complete and equal. With --read-back every table is also
read out of the server again and compared. An existing database is refused
unless --replace is given; it is dropped only after the new one is complete and
equal.

With --schema or --table the new database gets the selected objects and what
they need. With --live they come into a database that exists and is in use:
into a side schema, or with --replace in place of the rows that are there, in
one transaction. A selection can break what holds between tables: the plan
(--dry-run) says what it takes, what it leaves out and what it fetches.

Patterns are psql's: *, ? and [a-z] are wild, "Quoted Names" are taken as they
are, a table pattern without a schema matches in every schema.`,
		Example: `  tuskctl restore latest:db1/main --to db1/main --database shop=shop_yesterday --wait
  tuskctl restore 1f3a --to db2/main --dry-run
  tuskctl restore latest:db1/main --to db1/main -d shop=orders_only --table 'sales.ord*' --wait
  tuskctl restore latest:db1/main --to db1/main -d shop --table sales.orders --live --live-schema yesterday --wait
  tuskctl restore latest:db1/main --to db1/main -d shop --table sales.orders --live --replace --wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			req.Snapshot = args[0]
			req.RequestId = repo.NewID().String()
			if err := w.apply(req); err != nil {
				return err
			}
			if what := destroys(req); what != "" && !req.GetDryRun() {
				if err := a.confirm(yes, what+" on "+req.GetTargetInstance()); err != nil {
					return err
				}
			}
			return a.restore(c, req, wait)
		},
	}
	f := c.Flags()
	f.StringVar(&req.TargetInstance, "to", "", "instance to restore into")
	f.StringArrayVarP(&w.databases, "database", "d", nil, "database to restore, or DATABASE=NEW for a new name; may be repeated; default all")
	f.StringArrayVar(&req.Schemas, "schema", nil, "pattern of schemas to restore; may be repeated")
	f.StringArrayVarP(&req.Tables, "table", "t", nil, "pattern of tables to restore, TABLE or SCHEMA.TABLE; may be repeated")
	f.StringSliceVar(&w.sections, "section", nil, "sections to restore: pre-data, data, post-data; default all")
	f.BoolVar(&w.schemaOnly, "schema-only", false, "no rows: sections pre-data and post-data")
	f.BoolVar(&w.dataOnly, "data-only", false, "nothing but rows and sequences: section data")
	f.Int32VarP(&req.Jobs, "jobs", "j", 0, "parallel streams, 0 lets the agent choose")
	f.BoolVar(&req.Replace, "replace", false, "replace databases that exist; with --live the rows of tables")
	f.BoolVar(&req.Live, "live", false, "bring the tables into a database that exists and is in use")
	f.StringVar(&req.LiveSchema, "live-schema", "", "side schema of --live; must not exist")
	f.BoolVar(&req.SkipDamaged, "skip-damaged", false, "leave tables empty whose chunks are missing or damaged, and name them")
	f.BoolVar(&req.DryRun, "dry-run", false, "plan with the real planner, change nothing")
	f.BoolVar(&req.NoOwner, "no-owner", false, "leave owners and privileges out")
	f.StringArrayVar(&w.roles, "role-map", nil, "OLD=NEW: what belonged to a role, or was granted to or by it, goes to another; may be repeated")
	f.StringArrayVar(&w.tablespaces, "tablespace-map", nil, "OLD=NEW, or OLD= for the database's own tablespace; may be repeated")
	f.BoolVar(&req.Globals, "globals", false, "create missing roles and tablespaces first; existing ones are not touched")
	f.BoolVar(&req.ReadBack, "read-back", false, "read every table back and compare it once more after it was loaded")
	f.BoolVar(&req.NoAnalyze, "no-analyze", false, "gather no statistics of what was restored")
	f.BoolVar(&req.GlobalsOnly, "globals-only", false, "create missing roles, restore no database")
	f.BoolVar(&req.OverwritePasswords, "overwrite-passwords", false, "with globals: set the passwords of existing roles to the snapshot's")
	f.BoolVar(&wait, "wait", false, "wait for the job and end with its exit code")
	f.BoolVar(&yes, "yes", false, "do not ask")
	_ = c.MarkFlagRequired("to")
	_ = c.RegisterFlagCompletionFunc("to", a.completeInstances)
	return c
}

// mappings reads DATABASE or DATABASE=NEW.
func mappings(args []string) ([]*tuskvaultv1.DatabaseMapping, error) {
	var out []*tuskvaultv1.DatabaseMapping
	for _, s := range args {
		source, target, renamed := cutMapping(s)
		if source == "" || renamed && target == "" {
			return nil, exit.WrongUsage(fmt.Errorf("--database %q: not of the form DATABASE or DATABASE=NEW", s))
		}
		out = append(out, &tuskvaultv1.DatabaseMapping{Source: source, Target: target})
	}
	return out, nil
}

func (a *app) restore(c *cobra.Command, req *tuskvaultv1.StartRestoreRequest, wait bool) error {
	var job *tuskvaultv1.Job
	err := a.call(c, func(ctx context.Context, cl *client) error {
		r, err := cl.job.StartRestore(ctx, req)
		job = r.GetJob()
		a.warn(r.GetWarnings())
		return hintNotFound(err, `run "tuskctl snapshot ls" and "tuskctl instance ls"`)
	})
	if err != nil {
		return err
	}
	if !wait && !req.GetDryRun() {
		return a.printStarted([]*tuskvaultv1.Job{job})
	}
	return a.waitAll(c.Context(), []*tuskvaultv1.Job{job})
}
