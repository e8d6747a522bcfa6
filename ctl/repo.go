package ctl

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) repoCmd() *cobra.Command {
	c := &cobra.Command{Use: "repo", Aliases: []string{"repository"}, Short: "The repository as a whole: what is in it, is it sound, who can open it"}
	c.AddCommand(a.repoStatsCmd(), a.repoCheckCmd(), a.repoPruneCmd(), a.repoDistrustCmd(), a.resumeDeletionCmd(), a.keyCmd())
	return c
}

// checkFlags are what repo check can be told.
type checkFlags struct {
	readData, resume, wait, last, attach, cancel bool
	sample, rate, copy                           string
	seed                                         uint64
}

func (a *app) repoCheckCmd() *cobra.Command {
	var o checkFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Find out whether everything that snapshots need is there and whole",
		Long: `Find out whether everything that snapshots need is there and whole.

A check runs in the controller, one at a time, and goes on when nobody watches.
It reads every object and every pack and compares them with their hashes; with
--read-data it opens the chunks too and recomputes their names. --sample reads
a part of the packs: --sample 0 believes their directories. What it finds
damaged is not counted as stored any more, so that the next backup of the same
rows mends it; where the repository has copies, good objects from these take
the place of damaged and missing ones, and those are kept under quarantine/.
With --copy another store is checked, and healed from the repository's own.

Exit code 7 means damage.`,
		Example: `  tuskctl repo check --sample 5%
  tuskctl repo check --read-data --rate 50MiB
  tuskctl repo check --copy offsite --sample 5%
  tuskctl repo check --last -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.repoCheck(c, &o) },
	}
	f := c.Flags()
	f.BoolVar(&o.readData, "read-data", false, "open the chunks that are read and recompute their names")
	f.StringVar(&o.sample, "sample", "100%", "part of the packs to read, for example 5% or 0.5%")
	f.Uint64Var(&o.seed, "seed", 0, "what chooses the sample: the seed that an earlier check printed chooses the same packs")
	f.StringVar(&o.rate, "rate", "", "read at most so much from the store in a second, for example 20MiB")
	f.StringVar(&o.copy, "copy", "", "check the copy of this name in place of the repository's own store")
	f.BoolVar(&o.resume, "resume", false, "go on where a canceled or failed check of the same kind was")
	f.BoolVar(&o.wait, "wait", true, "wait for the end, print what was found and end with exit code 7 when that is damage; --wait=false prints the id")
	f.BoolVar(&o.attach, "attach", false, "start nothing; follow the check that runs")
	f.BoolVar(&o.last, "last", false, "start nothing; print what the last check found")
	f.BoolVar(&o.cancel, "cancel", false, "stop the check that runs")
	c.MarkFlagsMutuallyExclusive("attach", "last", "cancel")
	for _, starts := range []string{"read-data", "sample", "seed", "rate", "copy", "resume"} {
		for _, not := range []string{"attach", "last", "cancel"} {
			c.MarkFlagsMutuallyExclusive(starts, not)
		}
	}
	return c
}

func (a *app) repoCheck(c *cobra.Command, o *checkFlags) error {
	switch {
	case o.cancel:
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := cl.repository.CancelCheck(ctx, &tuskvaultv1.CancelCheckRequest{})
			if err != nil {
				return err
			}
			return a.printer().Print(print.View{Message: r, Names: []string{r.GetCheck().GetId()}, Text: "check " + print.Short(r.GetCheck().GetId()) + " is being stopped\n"})
		})
	case o.last:
		return a.showCheck(c)
	case o.attach:
		return a.followCheck(c)
	}
	req, err := checkRequest(o)
	if err != nil {
		return err
	}
	var started *tuskvaultv1.CheckRepositoryResponse
	err = a.call(c, func(ctx context.Context, cl *client) (err error) {
		started, err = cl.repository.CheckRepository(ctx, req)
		return hintBusy(err)
	})
	if err != nil {
		return err
	}
	if !o.wait {
		id := started.GetCheck().GetId()
		return a.printer().Print(print.View{Message: started, Names: []string{id}, Text: id + "\n"})
	}
	return a.followCheck(c)
}

func hintBusy(err error) error {
	if errors.Is(err, errs.Busy) {
		return exit.Hint(err, `follow it: tuskctl repo check --attach`, `stop it: tuskctl repo check --cancel`)
	}
	return err
}

// checkRequest reads the flags.
func checkRequest(o *checkFlags) (*tuskvaultv1.CheckRepositoryRequest, error) {
	r := &tuskvaultv1.CheckRepositoryRequest{RequestId: repo.NewID().String(), ReadData: o.readData, Seed: o.seed, Resume: o.resume, Copy: o.copy}
	number, percent := strings.CutSuffix(strings.TrimSpace(o.sample), "%")
	part, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(part) || part < 0 || part > 100 || !percent && part != 0 {
		return nil, exit.WrongUsage(fmt.Errorf("--sample %q: want a percentage from 0%% to 100%%", o.sample))
	}
	r.SampleMillionths = int32(math.Round(part * 10_000))
	if part > 0 && r.GetSampleMillionths() == 0 {
		return nil, exit.WrongUsage(fmt.Errorf("--sample %q: the least is 0.0001%%", o.sample))
	}
	if o.readData && part == 0 {
		return nil, exit.WrongUsage(errors.New("--read-data reads nothing with --sample 0"))
	}
	if o.rate != "" {
		if r.BytesPerSecond = parseRate(o.rate); r.GetBytesPerSecond() == 0 {
			return nil, exit.WrongUsage(fmt.Errorf("--rate %q: want a size, for example 20MiB", o.rate))
		}
	}
	return r, nil
}

// parseRate reads a positive number of KiB, MiB or GiB; 0 is none. The sizes of
// configurations come with a configuration's dependencies, which tuskctl has not.
func parseRate(text string) int64 {
	for unit, bytes := range map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		number, ok := strings.CutSuffix(text, unit)
		n, err := strconv.ParseFloat(number, 64)
		if ok && err == nil && n > 0 && n*bytes >= 1 && n*bytes < 1<<50 {
			return int64(n * bytes)
		}
	}
	return 0
}

// followCheck watches the check to its end, then shows what it found.
func (a *app) followCheck(c *cobra.Command) error {
	return a.attach(c, following{what: "check", show: a.showCheck, watch: func(ctx context.Context, cl *client) (func() (print.JobProgress, error), error) {
		s, err := cl.repository.WatchCheck(ctx, &tuskvaultv1.WatchCheckRequest{})
		return func() (print.JobProgress, error) {
			r, err := s.Recv()
			return checkProgress(r.GetCheck()), err
		}, err
	}})
}

func checkProgress(c *tuskvaultv1.Check) print.JobProgress {
	running := c.GetState() == tuskvaultv1.CheckState_CHECK_STATE_RUNNING
	out := print.JobProgress{ID: c.GetId(), Title: "check", State: checkState(c), Ended: !running, Message: c.GetMessage()}
	if p := c.GetProgress(); p != nil && running {
		out.Phase = fmt.Sprintf("%s, domain %d of %d, %s of %s packs looked at, %s read", p.GetPhase(), min(p.GetDomainsDone()+1, p.GetDomains()), p.GetDomains(),
			print.Count(p.GetPacksChecked()), print.Count(p.GetPacks()), print.Count(p.GetPacksRead()))
		if p.GetDamagedObjects() > 0 {
			out.Phase += fmt.Sprintf(", %s damaged", print.Count(p.GetDamagedObjects()))
		}
		out.Transferred = p.GetBytesRead()
	}
	return out
}

func checkState(c *tuskvaultv1.Check) string {
	return strings.ToLower(strings.TrimPrefix(c.GetState().String(), "CHECK_STATE_"))
}

// showCheck prints the last check and ends with the exit code that it asks for.
func (a *app) showCheck(c *cobra.Command) error {
	var r *tuskvaultv1.GetCheckResponse
	err := a.call(c, func(ctx context.Context, cl *client) (err error) {
		r, err = all(ctx, a, func(r *tuskvaultv1.GetCheckResponse) int { return len(r.GetFindings()) },
			func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.GetCheckResponse, error) {
				page, err := cl.repository.GetCheck(ctx, &tuskvaultv1.GetCheckRequest{Page: p})
				if p.GetToken() != "" && page != nil {
					page.Check = nil // the first page has it
				}
				return page, err
			})
		return hintNotFound(err, `run "tuskctl repo check"`)
	})
	if err != nil {
		return err
	}
	var names []string
	for _, f := range r.GetFindings() {
		names = append(names, f.GetObject())
	}
	if err := a.printer().Print(print.View{Message: r, Names: names, Text: a.checkText(r)}); err != nil {
		return err
	}
	return checkError(r.GetCheck())
}

func checkError(c *tuskvaultv1.Check) error {
	message := fmt.Sprintf("check %s: %s: %s", print.Short(c.GetId()), checkState(c), c.GetMessage())
	switch c.GetState() {
	case tuskvaultv1.CheckState_CHECK_STATE_DAMAGED:
		return differenceError{jobError{message: message, hints: []string{"what each finding means and what to do: docs/OPERATIONS.md, Checking a repository",
			"back up the instances concerned now: what their rows still have is mended by that"}}}
	case tuskvaultv1.CheckState_CHECK_STATE_FAILED, tuskvaultv1.CheckState_CHECK_STATE_CANCELED:
		return jobError{message: message, hints: []string{"go on with it: tuskctl repo check --resume and the same flags"}}
	}
	return nil
}
