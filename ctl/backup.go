package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) backupCmd() *cobra.Command {
	var selector string
	var databases, exclude []string
	var workers int32
	var wait bool
	c := &cobra.Command{
		Use:   "backup INSTANCE… | -l SELECTOR",
		Short: "Back instances up",
		Example: `  tuskctl backup db1/main --wait
  tuskctl backup -l env=prod --database 'shop_*'`,
		ValidArgsFunction: a.completeInstances,
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 0) == (selector == "") {
				return exit.WrongUsage(fmt.Errorf("backup: name instances, or select them with -l"))
			}
			jobs, err := a.startBackups(c, args, selector, &tuskvaultv1.StartBackupRequest{Databases: databases, ExcludeDatabases: exclude, Workers: workers})
			if err != nil {
				return err
			}
			if !wait {
				return a.printStarted(jobs)
			}
			return a.waitAll(c.Context(), jobs)
		},
	}
	f := c.Flags()
	f.StringVarP(&selector, "selector", "l", "", "label selector instead of names")
	f.StringArrayVarP(&databases, "database", "d", nil, "only databases that match this glob; may be repeated")
	f.StringArrayVar(&exclude, "exclude-database", nil, "leave out databases that match this glob; may be repeated")
	f.Int32Var(&workers, "workers", 0, "parallel COPY streams, 0 lets the agent choose")
	f.BoolVar(&wait, "wait", false, "wait for the job and end with its exit code")
	return c
}

func (a *app) startBackups(c *cobra.Command, instances []string, selector string, want *tuskvaultv1.StartBackupRequest) (jobs []*tuskvaultv1.Job, err error) {
	return jobs, a.call(c, func(ctx context.Context, cl *client) error {
		if selector != "" {
			r, err := a.listInstances(ctx, cl, selector)
			if err != nil {
				return err
			}
			for _, i := range r.GetInstances() {
				instances = append(instances, i.GetName())
			}
			if len(instances) == 0 {
				return exit.Hint(fmt.Errorf("selector %q: no instance matches: %w", selector, errs.NotFound), `run "tuskctl instance ls -o wide"`)
			}
		}
		for _, name := range instances {
			r, err := cl.job.StartBackup(ctx, &tuskvaultv1.StartBackupRequest{RequestId: repo.NewID().String(), Instance: name,
				Databases: want.GetDatabases(), ExcludeDatabases: want.GetExcludeDatabases(), Workers: want.GetWorkers()})
			if err != nil {
				for _, j := range jobs {
					a.say("started before this: job %s on %s", j.GetId(), j.GetInstance())
				}
				return hintNotFound(fmt.Errorf("back up %s: %w", name, err), `run "tuskctl instance ls"`)
			}
			jobs = append(jobs, r.GetJob())
		}
		return nil
	})
}

// printStarted prints the ids of jobs that nobody waits for.
func (a *app) printStarted(jobs []*tuskvaultv1.Job) error {
	v := print.View{Message: &tuskvaultv1.ListJobsResponse{Jobs: jobs}}
	for _, j := range jobs {
		v.Names = append(v.Names, j.GetId())
		v.Text += j.GetId() + "\n"
	}
	if f := print.Format(a.output); f == print.FormatTable || f == print.FormatWide {
		a.say("queued; watch with: tuskctl job watch %s", print.Short(jobs[0].GetId()))
	}
	return a.printer().Print(v)
}
