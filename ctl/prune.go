package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// pruneFlags are what repo prune can be told.
type pruneFlags struct {
	dryRun, yes, wait, last, attach, cancel bool
	domains                                 []string
	budget                                  string
}

func (a *app) repoPruneCmd() *cobra.Command {
	var o pruneFlags
	c := &cobra.Command{
		Use:   "prune",
		Short: "Delete what no snapshot needs any more",
		Long: `Delete what no snapshot needs any more.

A prune runs in the controller, one at a time, by itself every day and when it
is asked for. It condemns packs: they count as not stored from then on, for
ever. They are deleted when every job that was under way has ended and
prune.min_age has passed, by a later run or by the controller itself; what is
needed of them after all is copied first. Domains in which no snapshot was
purged since their last prune are not looked at unless --domain names them.

With --dry-run it says what would be freed, and changes nothing.`,
		Example: `  tuskctl repo prune --dry-run
  tuskctl repo prune --domain db1/main --budget 50GiB --yes
  tuskctl repo prune --last -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.repoPrune(c, &o) },
	}
	f := c.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be freed and change nothing")
	f.StringArrayVar(&o.domains, "domain", nil, "a domain by id, or by the name of an instance in it; may be given several times")
	f.StringVar(&o.budget, "budget", "", "copy at most so much in each domain so that the rest of packs can go, for example 50GiB")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.wait, "wait", true, "wait until what can be done now is done and print it; --wait=false prints the id")
	f.BoolVar(&o.attach, "attach", false, "start nothing; follow the prune that runs")
	f.BoolVar(&o.last, "last", false, "start nothing; print what the last prune did")
	f.BoolVar(&o.cancel, "cancel", false, "stop the prune that runs; what was condemned stays so")
	c.MarkFlagsMutuallyExclusive("attach", "last", "cancel")
	for _, starts := range []string{"dry-run", "domain", "budget"} {
		for _, not := range []string{"attach", "last", "cancel"} {
			c.MarkFlagsMutuallyExclusive(starts, not)
		}
	}
	return c
}

func (a *app) repoPrune(c *cobra.Command, o *pruneFlags) error {
	switch {
	case o.cancel:
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := cl.repository.CancelPrune(ctx, &tuskvaultv1.CancelPruneRequest{})
			if err != nil {
				return err
			}
			return a.printer().Print(print.View{Message: r, Names: []string{r.GetPrune().GetId()}, Text: "prune " + print.Short(r.GetPrune().GetId()) + " is being stopped\n"})
		})
	case o.last:
		return a.showPrune(c)
	case o.attach:
		return a.followPrune(c)
	}
	req := &tuskvaultv1.PruneRepositoryRequest{RequestId: repo.NewID().String(), DryRun: o.dryRun, Domains: o.domains}
	if o.budget != "" {
		if req.BudgetBytes = parseRate(o.budget); req.GetBudgetBytes() == 0 {
			return exit.WrongUsage(fmt.Errorf("--budget %q: want a size, for example 50GiB", o.budget))
		}
	}
	if !o.dryRun {
		if err := a.confirm(o.yes, "delete what no snapshot needs any more"); err != nil {
			return err
		}
	}
	var started *tuskvaultv1.PruneRepositoryResponse
	err := a.call(c, func(ctx context.Context, cl *client) (err error) {
		started, err = cl.repository.PruneRepository(ctx, req)
		return hintPrune(err)
	})
	if err != nil {
		return err
	}
	if !o.wait {
		id := started.GetPrune().GetId()
		return a.printer().Print(print.View{Message: started, Names: []string{id}, Text: id + "\n"})
	}
	return a.followPrune(c)
}

func hintPrune(err error) error {
	switch {
	case errors.Is(err, errs.Busy):
		return exit.Hint(err, `follow it: tuskctl repo prune --attach`, `stop it: tuskctl repo prune --cancel`)
	case errors.Is(err, errs.NotFound):
		return exit.Hint(err, `domains and their instances: tuskctl repo stats`)
	}
	return err
}

// followPrune watches the prune to its end, then shows what it did.
func (a *app) followPrune(c *cobra.Command) error {
	return a.attach(c, following{what: "prune", show: a.showPrune, watch: func(ctx context.Context, cl *client) (func() (print.JobProgress, error), error) {
		s, err := cl.repository.WatchPrune(ctx, &tuskvaultv1.WatchPruneRequest{})
		return func() (print.JobProgress, error) {
			r, err := s.Recv()
			return pruneProgress(r.GetPrune()), err
		}, err
	}})
}

func pruneProgress(p *tuskvaultv1.Prune) print.JobProgress {
	running := p.GetState() == tuskvaultv1.PruneState_PRUNE_STATE_RUNNING
	out := print.JobProgress{ID: p.GetId(), Title: "prune", State: pruneState(p), Ended: !running, Message: p.GetMessage()}
	if at := p.GetProgress(); running && at.GetDomains() > 0 {
		out.Phase = fmt.Sprintf("domain %s, %d of %d", print.Short(at.GetDomain()), min(at.GetDomainsDone()+1, at.GetDomains()), at.GetDomains())
	}
	return out
}

func pruneState(p *tuskvaultv1.Prune) string {
	return strings.ToLower(strings.TrimPrefix(p.GetState().String(), "PRUNE_STATE_"))
}

// showPrune prints the last prune and ends with the exit code that it asks for.
func (a *app) showPrune(c *cobra.Command) error {
	var r *tuskvaultv1.GetPruneResponse
	err := a.call(c, func(ctx context.Context, cl *client) (err error) {
		r, err = all(ctx, a, func(r *tuskvaultv1.GetPruneResponse) int { return len(r.GetOutcomes()) },
			func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.GetPruneResponse, error) {
				page, err := cl.repository.GetPrune(ctx, &tuskvaultv1.GetPruneRequest{Page: p})
				if p.GetToken() != "" && page != nil {
					page.Prune = nil // the first page has it
				}
				return page, err
			})
		return hintNotFound(err, `run "tuskctl repo prune"`)
	})
	if err != nil {
		return err
	}
	var names []string
	for _, o := range r.GetOutcomes() {
		names = append(names, o.GetDomain())
	}
	if err := a.printer().Print(print.View{Message: r, Names: names, Text: a.pruneText(r)}); err != nil {
		return err
	}
	return pruneError(r.GetPrune())
}

func pruneError(p *tuskvaultv1.Prune) error {
	switch p.GetState() {
	case tuskvaultv1.PruneState_PRUNE_STATE_FAILED, tuskvaultv1.PruneState_PRUNE_STATE_CANCELED:
		return jobError{message: fmt.Sprintf("prune %s: %s: %s", print.Short(p.GetId()), pruneState(p), p.GetMessage()),
			hints: []string{"what each problem means and what to do: docs/OPERATIONS.md, Pruning"}}
	}
	return nil
}

func (a *app) pruneText(r *tuskvaultv1.GetPruneResponse) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	p := r.GetPrune()
	what, condemned := "prune", "condemned"
	if p.GetDryRun() {
		what, condemned = "dry run", "would go"
	}
	line(what, "%s, %s, by %s, %s ago", p.GetId(), pruneState(p), p.GetCreatedBy(), print.Ago(p.GetStartTime(), a.now()))
	if p.GetMessage() != "" {
		line("outcome", "%s", p.GetMessage())
	}
	for _, o := range r.GetOutcomes() {
		line("domain", "%s (%s): %s packs, %s, %s chunks", print.Short(o.GetDomain()), strings.Join(o.GetInstances(), ", "), print.Count(o.GetPacks()), print.Size(o.GetBytes()), print.Count(o.GetChunks()))
		if n := o.GetDeadPacks() + o.GetRepackPacks(); n > 0 {
			line("  "+condemned, "%s packs, %s: %s without anything needed, %s with %s that is copied", print.Count(n), print.Size(o.GetDeadBytes()+o.GetRepackBytes()),
				print.Size(o.GetDeadBytes()), print.Size(o.GetRepackBytes()), print.Size(o.GetRepackLiveBytes()))
		}
		if o.GetLeftBytes() > 0 {
			line("  left", "%s of garbage in packs that stay", print.Size(o.GetLeftBytes()))
		}
		if o.GetFreedPacks() > 0 {
			line("  freed", "%s packs, %s; %s copied before", print.Count(o.GetFreedPacks()), print.Size(o.GetFreedBytes()), print.Size(o.GetCopiedBytes()))
		}
		if o.GetWaitingPacks() > 0 {
			line("  waiting", "%s packs, %s, for %s", print.Count(o.GetWaitingPacks()), print.Size(o.GetWaitingBytes()), o.GetWaitsFor())
		}
		if o.GetDeferredPacks() > 0 {
			line("  deferred", "%s packs that the store does not let go yet", print.Count(o.GetDeferredPacks()))
		}
		if o.GetProblem() != "" {
			line("  problem", "%s", o.GetProblem())
		}
	}
	if more := p.GetDomains() - int64(len(r.GetOutcomes())); more > 0 {
		line("", "and %s more domains", print.Count(more))
	}
	return b.String()
}
