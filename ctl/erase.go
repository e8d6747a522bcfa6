package ctl

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) instanceEraseCmd() *cobra.Command {
	var yes, whole bool
	var typed string
	c := &cobra.Command{Use: "erase AGENT/INSTANCE --yes --confirm AGENT/INSTANCE", Short: "Destroy every snapshot of an instance, beyond recovery",
		Long: `Destroys the keys of everything that is stored of an instance, and then the data.
There is no way back. The instance stays, and its next backup starts anew.

What this cannot reach: copies of the store that were made before, older versions
of objects in a bucket that keeps them and objects under a lock, until these end,
and whatever was restored or exported. Whoever has a copy of domains/ from before
and a key of the repository can still read a copy of the packs. Names of hosts,
instances and databases stay in the history of jobs and in the audit trail.

Where other instances have snapshots in the same domain (a cluster), those go
too: that must be said with --whole-domain.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeInstances, RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				plan, err := cl.fleet.EraseInstance(ctx, &tuskvaultv1.EraseInstanceRequest{Instance: args[0], Plan: true})
				if err != nil {
					return hintNotFound(err, `run "tuskctl instance ls"`)
				}
				_, _ = fmt.Fprintf(a.Err, "%d snapshots of %s would be destroyed for ever\n", plan.GetSnapshots(), strings.Join(plan.GetInstances(), ", ")) // people's words
				if err := a.confirmName(yes, typed, args[0]); err != nil {
					return err
				}
				r, err := cl.fleet.EraseInstance(ctx, &tuskvaultv1.EraseInstanceRequest{Instance: args[0], Confirm: args[0], WholeDomain: whole})
				if err != nil {
					return hintErase(err)
				}
				return a.printer().Print(print.View{Message: r, Names: r.GetDomainIds(), Text: erasedText(r)})
			})
		}}
	f := c.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.StringVar(&typed, "confirm", "", "the full name of the instance once more")
	f.BoolVar(&whole, "whole-domain", false, "erase what other instances have in the same domain too")
	return c
}

func hintErase(err error) error {
	if errs.KindOf(err) != errs.Conflict {
		return err
	}
	return exit.Hint(err, `cancel jobs by "tuskctl job cancel JOB"; end holds by "tuskctl snapshot release SNAPSHOT"; end a pause of deletion by "tuskctl repo resume-deletion"; agree to the loss of a cluster's snapshots by --whole-domain`)
}

func erasedText(r *tuskvaultv1.EraseInstanceResponse) string {
	text := fmt.Sprintf("%d snapshots of %s are gone\n", r.GetSnapshots(), strings.Join(r.GetInstances(), ", "))
	if r.GetKeysDestroyed() {
		text += "their keys are destroyed in this store; the controller removes the data now\n"
	} else {
		text += "the store does not let all of their keys go yet (a lock?): the controller tries again until it does, and until then whoever has the store and a key can read them\n"
	}
	return text + "not reached: copies of the store, older versions and locked objects in a bucket, what was restored or exported\n"
}

// confirmName wants a name typed again: by a flag, or on a terminal.
func (a *app) confirmName(yes bool, typed, name string) error {
	if typed != "" || yes {
		switch {
		case typed != name:
			return exit.Hint(exit.WrongUsage(fmt.Errorf("erase %s: --confirm names %q", name, typed)), "say --yes --confirm "+name)
		case !yes:
			return exit.Hint(exit.WrongUsage(fmt.Errorf("erase %s: %w", name, errNotTerminal)), "say --yes --confirm "+name)
		}
		return nil
	}
	f := fileOf(a.In)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return exit.Hint(exit.WrongUsage(fmt.Errorf("erase %s: %w", name, errNotTerminal)), "say --yes --confirm "+name)
	}
	_, _ = fmt.Fprintf(a.Err, "there is no way back. Type %s to erase it: ", name) // people's words
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != name {
		return fmt.Errorf("erase %s: not confirmed: %w", name, errs.Canceled)
	}
	return nil
}
