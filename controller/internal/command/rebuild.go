package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

func (p *program) rebuildCmd() *cobra.Command {
	var f flags
	var o controller.RebuildOptions
	var at string
	c := &cobra.Command{
		Use:   "rebuild --state-dir DIR --store URL --unlock env:NAME|file:PATH",
		Short: "Make a lost controller again from the store and the key alone",
		Long: `Makes the state folder of a controller from the store and the secret that opens
the repository: certificate authority, agents, instances, labels, jobs and audit
trail as far as they were exported, and every snapshot that is in the store.
Agents come back by themselves if the controller is reached at the address they
know.

The state folder must be empty. An older controller on the same store stops.
Join tokens and the contexts of all operators become void; a new context for the
first admin is written. Deletion stays paused until "tuskctl repo
resume-deletion". After a crash run the same command again.

--at is for a bucket with versions in which somebody has deleted or overwritten
objects: every object that was there at that time gets the bytes that it had
then. Objects that came later stay, and what the catalog log says in them.`,
		Args: unknown,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.load(c, &f)
			if err != nil || f.print {
				return err
			}
			if cfg.Store == "" {
				cfg.Store = controller.DefaultStore
			}
			if at != "" {
				if o.At, err = time.Parse(time.RFC3339, at); err != nil {
					return exit.WrongUsage(fmt.Errorf("--at: %q is no time as 2026-11-28T14:00:00Z: %w", at, errs.Invalid))
				}
			}
			made, err := controller.Rebuild(c.Context(), cfg, o)
			if err != nil {
				return exit.Hint(err, rebuildHints(cfg, o, err)...)
			}
			p.rebuilt(cfg, made, o)
			return nil
		},
	}
	f.register(c)
	c.Flags().BoolVar(&o.KeepOperators, "keep-operators", false, "leave the contexts of older operators good")
	c.Flags().StringVar(&at, "at", "", "recover the store first as it was at this time, as 2026-11-28T14:00:00Z; it must keep versions")
	c.Flags().Uint64Var(&o.EpochAbove, "epoch-above", 0, "take an epoch above this one: the highest that an agent says it has seen, when the store was set back so far that agents refuse the new controller")
	return c
}

// rebuildHints says what to do about a refused rebuild.
func rebuildHints(cfg controller.Config, o controller.RebuildOptions, err error) []string {
	switch errs.KindOf(err) {
	case errs.Exists:
		return []string{"name a new folder as --state-dir; if a controller is in this one: tuskvault-controller run --state-dir " + cfg.StateDir}
	case errs.Denied:
		return []string{"nothing was written; name the right key file or passphrase by --unlock file:PATH or env:NAME"}
	case errs.Invalid:
		if cfg.Unlock.IsZero() {
			return []string{"name what opens the repository by --unlock file:PATH or env:NAME"}
		}
	case errs.Unsupported:
		if !o.At.IsZero() {
			return []string{"--at wants a bucket with versioning; without it what was deleted is gone, unless there is a copy: rebuild from that"}
		}
	case errs.Unavailable, errs.Timeout, errs.Canceled:
		return []string{"run the same command again: it begins anew where that is needed"}
	}
	return nil
}

// rebuilt says what rebuild made, what is not as it was, and what comes next.
func (p *program) rebuilt(cfg controller.Config, made *controller.Rebuilt, o controller.RebuildOptions) {
	p.say("repository %s, epoch %d, catalog log read up to record %d", made.Repository.Short(), made.Epoch, made.Log.Head.Number)
	if !o.At.IsZero() {
		p.say("recovered  %d objects as of %s", made.Recovered, o.At.UTC().Format(time.RFC3339))
	}
	p.say("catalog    %d agents, %d instances, %d jobs, %d audit records", made.Agents, made.Instances, made.Jobs, made.AuditRecords)
	p.say("snapshots  %d, of which %d were not in the log", made.Snapshots, made.Adopted)
	if !made.Newest.IsZero() {
		p.say("newest     snapshot of %s; if this store is a copy, what was made after it was not copied and is not here", made.Newest.UTC().Format(time.RFC3339))
	}
	p.say("void       %d join tokens, %d operators; those who need one get a new context", made.Tokens, made.Operators)
	if o.KeepOperators {
		p.say("kept       the contexts of older operators")
	}
	for _, err := range made.Log.Faults {
		p.say("warning: catalog log: %v", err)
	}
	if made.AuditFault != nil {
		p.say("warning: audit trail: %v", made.AuditFault)
	}
	for _, err := range made.Damaged {
		p.say("warning: snapshot: %v", err)
	}
	if made.Absent > 0 {
		p.say("warning: %d snapshots of the log are not in the store: was it rolled back?", made.Absent)
	}
	p.say("context    %s", made.Context)
	p.say("deletion   is paused until: tuskctl repo resume-deletion")
	p.say("")
	p.say("next:")
	p.say("  tuskvault-controller run --state-dir %s", cfg.StateDir)
	p.say("  TUSKCTL_CONFIG=%s tuskctl status", made.Context)
}
