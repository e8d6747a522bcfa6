// Package command is tuskvault-controller's command line: flags over
// configuration, commands over the controller package, errors into lines for
// people and exit codes.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/version"
)

// Environment is the world of one run of the program.
type Environment struct {
	// Args without the program's name.
	Args []string
	// Environ as os.Environ gives it.
	Environ []string
	Stdout  io.Writer
	Stderr  io.Writer
	// Terminal tells that Stderr is one.
	Terminal bool
}

// getenv looks a variable up; the last one of a name counts.
func (e Environment) getenv(name string) (value string) {
	for _, v := range e.Environ {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// program is one run of the program.
type program struct{ Environment }

// Run runs the program and gives its exit code.
func Run(ctx context.Context, e Environment) int {
	p := &program{e}
	root := p.root()
	root.SetArgs(e.Args)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exit.OK
	}
	hints := exit.Hints(err)
	if exit.IsWrongUsage(err) {
		hints = append(hints, "tuskvault-controller --help shows the usage")
	}
	exit.Tell(e.Stderr, err, hints)
	return exit.Code(err)
}

func (p *program) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Stderr, format+"\n", args...) // nothing can be done when standard error is gone
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "tuskvault-controller",
		Short:         "Keep the catalog of a fleet of PostgreSQL servers and the repository of their snapshots",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknown,
		Version:       version.Get().Version,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.WrongUsage(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(p.initCmd(), p.runCmd(), p.rebuildCmd(), p.adminContextCmd(), &cobra.Command{Use: "version", Short: "Show the version", Args: unknown,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.Stdout, "tuskvault-controller", version.Get())
			return err
		}})
	return root
}

// unknown refuses words that no command takes: a typing error must not pass.
func unknown(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return exit.WrongUsage(fmt.Errorf("%s: unknown word %q", c.CommandPath(), args[0]))
	}
	return nil
}

func (p *program) initCmd() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "init --state-dir DIR --store URL",
		Short: "Make certificate authority, repository, master key and the first admin's context; refuses to touch what exists",
		Args:  unknown,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.load(c, &f)
			if err != nil || f.print {
				return err
			}
			if cfg.Store == "" {
				cfg.Store = controller.DefaultStore
			}
			made, err := controller.Init(c.Context(), cfg)
			if err != nil {
				return exit.Hint(err, initHints(cfg, err)...)
			}
			p.told(cfg, made)
			return nil
		},
	}
	f.register(c)
	return c
}

// initHints says what to do about a refused init. It never says to remove a store:
// what is in one may be all that is left of somebody's data.
func initHints(cfg controller.Config, err error) []string {
	there := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	switch k := errs.KindOf(err); {
	case there(controller.DecisionsFile(cfg.StateDir)):
		return []string{"to use what is there: tuskvault-controller run --state-dir " + cfg.StateDir}
	case there(controller.UnfinishedFile(cfg.StateDir)) && k == errs.Conflict:
		return []string{"run init again with the store it began with, or name another --state-dir"}
	case there(controller.UnfinishedFile(cfg.StateDir)) && k != errs.Exists:
		return []string{"mend that and run the same init again: it goes on where this one stopped"}
	case k == errs.Exists:
		return []string{"name an empty folder as --store and a new one as --state-dir"}
	}
	return nil
}

// told says what init made and what comes next.
func (p *program) told(cfg controller.Config, made *controller.Initialized) {
	p.say("repository %s made in %s", made.Repository.Short(), cfg.Store)
	if made.KeyFile != "" {
		p.say("key file   %s: keep a copy elsewhere; without it nothing can ever be restored", made.KeyFile)
	}
	if made.SameFileSystem {
		p.say("warning: key file and store are on one file system: what loses one loses the other")
	}
	p.say("context    %s", made.Context)
	p.say("")
	p.say("next:")
	p.say("  tuskvault-controller run --state-dir %s", cfg.StateDir)
	p.say("  TUSKCTL_CONFIG=%s tuskctl agent token create", made.Context)
}

func (p *program) runCmd() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "run --state-dir DIR",
		Short: "Serve until SIGTERM",
		Args:  unknown,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.load(c, &f)
			if err != nil || f.print {
				return err
			}
			if err := finished(cfg); err != nil {
				return err
			}
			return p.serve(c.Context(), cfg)
		},
	}
	f.register(c)
	return c
}

func (p *program) serve(ctx context.Context, cfg controller.Config) error {
	l, err := logging.New(logging.Options{Level: cfg.Log.Level, Format: cfg.Log.Format, File: cfg.Log.File, MaxSizeMB: int(cfg.Log.MaxSize >> 20),
		MaxAge: cfg.Log.MaxAge, MaxFiles: cfg.Log.MaxFiles, Output: p.Stderr, Terminal: p.Terminal})
	if err != nil {
		return err
	}
	err = controller.New(cfg, l).Run(ctx)
	if conflict := new(repo.LogConflict); errors.As(err, &conflict) {
		err = exit.Hint(err, "this controller has stopped and writes nothing more; if it is the right one, stop the other and make this one again: "+
			"tuskvault-controller rebuild, in a new state folder")
	}
	return errors.Join(err, l.Close())
}
