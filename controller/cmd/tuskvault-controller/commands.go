package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/version"
)

// The exit codes, as tuskctl's.
var codes = map[*errs.Kind]int{errs.Invalid: 2, errs.Unsupported: 2, errs.NotFound: 3, errs.Denied: 4, errs.Unauthenticated: 4,
	errs.Unavailable: 5, errs.Corrupt: 7, errs.Timeout: 8, errs.Conflict: 9, errs.Exists: 9, errs.Busy: 9}

// program is one run of the program.
type program struct {
	out, err io.Writer
	// hints are said after an error.
	hints []string
	// parsed tells that the command line made sense.
	parsed bool
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	p := &program{out: out, err: errOut}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	p.say("error: %v", err)
	for _, h := range p.hints {
		p.say("hint: %s", h)
	}
	if !p.parsed {
		return 2
	}
	if code, ok := codes[errs.KindOf(err)]; ok {
		return code
	}
	return 1
}

func (p *program) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.err, format+"\n", args...) // nothing can be done when standard error is gone
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "tuskvault-controller",
		Short:         "Keep the catalog of a fleet of PostgreSQL servers and the repository of their snapshots",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		Version:       version.Get().Version,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(p.initCmd(), p.runCmd(), &cobra.Command{Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, "tuskvault-controller", version.Get())
			return err
		}})
	return root
}

// flags are those of init and run; each that is given wins over everything.
type flags struct {
	stateDir, store, unlock, name, listen, configFile, logLevel string
	print                                                       bool
}

func (f *flags) register(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.stateDir, "state-dir", "", "folder of catalog, indexes and keys (default "+controller.DefaultStateDir+")")
	s.StringVar(&f.store, "store", "", "URL of the store, for example file:///var/backups/tuskvault")
	s.StringVar(&f.unlock, "unlock", "", "what opens the repository: env:NAME or file:PATH of a key file or a passphrase")
	s.StringVar(&f.name, "name", "", "name of the controller, for people")
	s.StringVar(&f.listen, "listen", "", "address to listen on, HOST:PORT (default "+controller.DefaultListen+")")
	s.StringVar(&f.configFile, "config", "", "YAML file of configuration")
	s.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error")
	s.BoolVar(&f.print, "print-config", false, "show the configuration and where each value comes from, and stop")
}

// load reads the configuration and prepares the state folder.
func (p *program) load(c *cobra.Command, f *flags) (controller.Config, error) {
	p.parsed = true
	cfg := controller.DefaultConfig()
	state := f.stateDir
	if state == "" {
		state = os.Getenv("TUSKVAULT_STATE_DIR")
	}
	folder, warning, err := config.Folder{What: "state folder", Path: state, Default: controller.DefaultStateDir}.Prepare()
	if err != nil {
		return cfg, err
	}
	if warning != "" {
		p.say("warning: %s", warning)
	}
	source := config.Source{Base: controller.DecisionsFile(folder), File: f.configFile, Named: f.configFile != "", DotEnv: ".env", Environ: os.Environ(),
		Flags: []config.Flag{{Key: "state_dir", Name: "--state-dir", Value: folder}}}
	for _, g := range []config.Flag{{Key: "store", Name: "--store", Value: f.store}, {Key: "name", Name: "--name", Value: f.name},
		{Key: "listen", Name: "--listen", Value: f.listen}, {Key: "log.level", Name: "--log-level", Value: f.logLevel}, {Key: "unlock", Name: "--unlock", Value: f.unlock}} {
		if c.Flags().Changed(g.Name[2:]) {
			source.Flags = append(source.Flags, g)
		}
	}
	report, err := config.Load(&cfg, source)
	if err != nil {
		return cfg, err
	}
	for _, w := range report.Warnings {
		p.say("warning: %s", w)
	}
	if f.print {
		return cfg, report.Print(p.out)
	}
	return cfg, nil
}

func (p *program) initCmd() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "init --state-dir DIR --store URL",
		Short: "Make certificate authority, repository, master key and the first admin's context; refuses to touch what exists",
		Args:  cobra.NoArgs,
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
				p.hints = initHints(cfg, err)
				return err
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
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.load(c, &f)
			if err != nil || f.print {
				return err
			}
			if _, err := os.Stat(controller.DecisionsFile(cfg.StateDir)); err != nil {
				p.hints = []string{"run: tuskvault-controller init --state-dir " + cfg.StateDir + " --store URL"}
				return fmt.Errorf("start in %s: there is no %s, init was not run here or did not finish: %w",
					cfg.StateDir, filepath.Base(controller.DecisionsFile(cfg.StateDir)), errs.NotFound)
			}
			return p.serve(c.Context(), cfg)
		},
	}
	f.register(c)
	return c
}

func (p *program) serve(ctx context.Context, cfg controller.Config) error {
	l, err := logging.New(logging.Options{Level: cfg.Log.Level, Format: cfg.Log.Format, File: cfg.Log.File, MaxSizeMB: int(cfg.Log.MaxSize >> 20),
		MaxAge: cfg.Log.MaxAge, MaxFiles: cfg.Log.MaxFiles, Output: p.err, Terminal: term.IsTerminal(int(os.Stderr.Fd()))})
	if err != nil {
		return err
	}
	return controller.New(cfg, l).Run(ctx)
}
