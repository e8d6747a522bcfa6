package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/version"
)

// Streams are what the program reads from and writes to.
type Streams struct {
	// In is asked for confirmations when it is a terminal.
	In io.Reader
	// Out gets the answer and nothing else.
	Out io.Writer
	// Err gets people's words: progress, warnings, errors.
	Err io.Writer
	// Env looks an environment variable up.
	Env func(string) string
}

// app is one run of tuskctl: the flags every command has.
type app struct {
	Streams
	configPath string
	context    string
	output     string
	timeout    time.Duration
	noColor    bool
	now        func() time.Time
	// ran tells that a command's own code was reached: an error before that is one of usage.
	ran bool
}

// defaultTimeout bounds a call that answers at once; waiting for a job has no such bound.
const defaultTimeout = 30 * time.Second

// Run executes one command line (without the program's name) and gives the exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s, now: time.Now}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exit.OK
	}
	if !a.ran && errs.KindOf(err) == nil {
		err = exit.WrongUsage(err)
	}
	a.report(err)
	return exitCode(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tuskctl",
		Short: "Drive a Tuskvault controller: back up, restore and watch a fleet of PostgreSQL servers",
		Long: `tuskctl drives a Tuskvault controller.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 denied;
5 controller unreachable; 6 the job ended failed or canceled; 7 a check or
verification found damage or a difference; 8 timed out; 9 conflict.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Get().Version,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.configPath, "config", "", "file of contexts (default $TUSKCTL_CONFIG, else ~/.config/tuskctl/config.yaml)")
	f.StringVar(&a.context, "context", "", "context to use instead of the current one")
	f.StringVarP(&a.output, "output", "o", string(print.FormatTable), "output format: table, wide, json, yaml or name")
	f.DurationVar(&a.timeout, "timeout", defaultTimeout, "longest wait for one answer of the controller")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(print.Formats(), cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(a.statusCmd(), a.contextCmd(), a.agentCmd(), a.instanceCmd(), a.backupCmd(), a.snapshotCmd(),
		a.restoreCmd(), a.jobCmd(), a.repoCmd(), a.logLevelCmd(), a.versionCmd())
	a.guard(root)
	return root
}

// guard makes every group of commands refuse a word it does not know, and notes
// when a command's own code is reached.
func (a *app) guard(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.guard(sub)
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if _, err := print.ParseFormat(a.output); err != nil {
				return err
			}
			a.ran = true
			return run(c, args)
		}
		return
	}
	if !c.HasSubCommands() {
		return
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return exit.WrongUsage(fmt.Errorf("%s: name one of its commands", c.CommandPath()))
		}
		return exit.WrongUsage(fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath()))
	}
}

// bounded gives a context for one call that answers at once.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.timeout,
		fmt.Errorf("no answer within %s (--timeout): %w", a.timeout, errs.Timeout))
}

// call runs fn with a connection and a bounded context.
func (a *app) call(c *cobra.Command, fn func(context.Context, *client) error) error {
	ctx, cancel := a.bounded(c.Context())
	defer cancel()
	cl, err := a.dial()
	if err != nil {
		return err
	}
	defer cl.close()
	a.keepFresh(ctx, cl)
	return fn(ctx, cl)
}

var errNotTerminal = errors.New("not confirmed, and standard input is no terminal")
