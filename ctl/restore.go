package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) restoreCmd() *cobra.Command {
	req := &tuskvaultv1.StartRestoreRequest{}
	var databases []string
	var wait, yes bool
	c := &cobra.Command{
		Use:   "restore SNAPSHOT | latest:INSTANCE --to INSTANCE",
		Short: "Restore databases from a snapshot",
		Long: `Restore databases from a snapshot into an instance.

A database is restored under a temporary name, its rows are compared with the
fingerprints of the snapshot as they are handed to the server, and it gets its
name only when it is complete and equal. With --read-back every table is also
read out of the server again and compared. An existing database is refused unless --replace is given; it is dropped only
after the new one is complete and equal.`,
		Example: `  tuskctl restore latest:db1/main --to db1/main --database shop=shop_yesterday --wait
  tuskctl restore 1f3a --to db2/main --dry-run`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			req.Snapshot = args[0]
			req.RequestId = repo.NewID().String()
			var err error
			if req.Databases, err = mappings(databases); err != nil {
				return err
			}
			if req.GetReplace() && !req.GetDryRun() {
				if err := a.confirm(yes, "replace databases on "+req.GetTargetInstance()); err != nil {
					return err
				}
			}
			return a.restore(c, req, wait)
		},
	}
	f := c.Flags()
	f.StringVar(&req.TargetInstance, "to", "", "instance to restore into")
	f.StringArrayVarP(&databases, "database", "d", nil, "database to restore, or DATABASE=NEW for a new name; may be repeated; default all")
	f.Int32VarP(&req.Jobs, "jobs", "j", 0, "parallel streams, 0 lets the agent choose")
	f.BoolVar(&req.Replace, "replace", false, "replace databases that exist")
	f.BoolVar(&req.DryRun, "dry-run", false, "plan with the real planner, change nothing")
	f.BoolVar(&req.NoOwner, "no-owner", false, "leave owners and privileges out")
	f.BoolVar(&req.Globals, "globals", false, "create missing roles and tablespaces first; existing ones are not touched")
	f.BoolVar(&req.ReadBack, "read-back", false, "read every table back and compare it once more after it was loaded")
	f.BoolVar(&req.NoAnalyze, "no-analyze", false, "gather no statistics of what was restored")
	f.BoolVar(&wait, "wait", false, "wait for the job and end with its exit code")
	f.BoolVar(&yes, "yes", false, "do not ask")
	_ = c.MarkFlagRequired("to")
	_ = c.RegisterFlagCompletionFunc("to", a.completeInstances)
	return c
}

// mappings reads DATABASE or DATABASE=NEW. A name with "=" in it is written
// with "==".
func mappings(args []string) ([]*tuskvaultv1.DatabaseMapping, error) {
	var out []*tuskvaultv1.DatabaseMapping
	for _, s := range args {
		const mark = "\x00"
		source, target, renamed := strings.Cut(strings.ReplaceAll(s, "==", mark), "=")
		source, target = strings.ReplaceAll(source, mark, "="), strings.ReplaceAll(target, mark, "=")
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
