// Package command is tuskvault-agent's command line: flags over configuration,
// commands over the agent package, errors into lines for people and exit codes.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/agent"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/version"
)

// defaultConfig is read when no file was named; it may be missing.
const defaultConfig = "/etc/tuskvault/agent.yaml"

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

// errUnwell is the result of a doctor who found something.
var errUnwell = errors.New("something needs mending")

// Run runs the program and gives its exit code.
func Run(ctx context.Context, e Environment) int {
	root := commands(e)
	root.SetArgs(e.Args)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, errUnwell) { // the doctor has told what is wrong
		return exit.Code(err)
	}
	hints := exit.Hints(err)
	if exit.IsWrongUsage(err) {
		hints = append(hints, "tuskvault-agent --help shows the usage")
	}
	exit.Tell(e.Stderr, err, hints)
	return exit.Code(err)
}

// configFlags are the flags that set a key.
var configFlags = []struct{ flag, key, usage string }{
	{"controller", "controller", "controller to enroll at, `HOST:PORT`; remembered afterwards"},
	{"token", "token", "join `TOKEN` for enrolling, or a reference to it (env:NAME, file:PATH)"},
	{"name", "name", "`NAME` of the agent (default: the host's)"},
	{"state-dir", "state_dir", "`FOLDER` for identity and journal (default " + agent.DefaultStateDir + ")"},
	{"log-level", "log.level", "`LEVEL`: debug, info, warn or error"},
	{"log-format", "log.format", "`FORMAT`: auto, json or console"},
	{"log-file", "log.file", "log to `FILE` instead of standard error"},
}

// commands builds the tree of commands.
func commands(e Environment) *cobra.Command {
	root := &cobra.Command{Use: "tuskvault-agent", Short: "Backs up and restores the PostgreSQL instances of this host",
		SilenceUsage: true, SilenceErrors: true, Args: unknown,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.WrongUsage(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	run := &cobra.Command{Use: "run", Short: "Enroll on the first start, then serve the controller until stopped", Args: unknown,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c, e) }}
	doctor := &cobra.Command{Use: "doctor", Short: "Check folders, controller, clock, tools and privileges; one line each, with the fix", Args: unknown,
		RunE: func(c *cobra.Command, _ []string) error { return examine(c, e) }}
	for _, c := range []*cobra.Command{run, doctor} {
		c.Flags().String("config", "", "YAML configuration `FILE` (default "+defaultConfig+")")
		c.Flags().Bool("print-config", false, "print the configuration and where each value came from, and end")
		for _, f := range configFlags {
			c.Flags().String(f.flag, "", f.usage)
		}
	}
	root.AddCommand(run, doctor, &cobra.Command{Use: "version", Short: "Print the version", Args: unknown,
		RunE: func(*cobra.Command, []string) error {
			b := version.Get()
			_, err := fmt.Fprintf(e.Stdout, "tuskvault-agent %s, capability %d\n", b, b.Capability)
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

// load reads the configuration. done tells that it was only to be printed.
func load(c *cobra.Command, e Environment) (cfg agent.Config, report *config.Report, done bool, err error) {
	file, named := c.Flag("config").Value.String(), c.Flags().Changed("config")
	if !named {
		file = defaultConfig
	}
	s := config.Source{File: file, Named: named, DotEnv: ".env", Environ: e.Environ}
	for _, f := range configFlags {
		if c.Flags().Changed(f.flag) {
			s.Flags = append(s.Flags, config.Flag{Key: f.key, Name: "--" + f.flag, Value: c.Flag(f.flag).Value.String()})
		}
	}
	cfg = agent.DefaultConfig()
	if report, err = config.Load(&cfg, s); err != nil {
		return cfg, nil, false, err
	}
	if c.Flag("print-config").Value.String() == "true" {
		return cfg, report, true, report.Print(e.Stdout)
	}
	return cfg, report, false, nil
}

// serve is "run".
func serve(c *cobra.Command, e Environment) error {
	cfg, report, done, err := load(c, e)
	if err != nil || done {
		return err
	}
	dir, warning, err := agent.StateFolder(cfg).Prepare()
	if err != nil {
		return err
	}
	cfg.StateDir = dir
	logs, err := logging.New(logging.Options{Level: cfg.Log.Level, Format: cfg.Log.Format, File: cfg.Log.File,
		MaxSizeMB: int((cfg.Log.MaxSize + 1<<20 - 1) >> 20), MaxAge: cfg.Log.MaxAge, MaxFiles: cfg.Log.MaxFiles,
		Output: e.Stderr, Terminal: e.Terminal})
	if err != nil {
		return err
	}
	if warning != "" {
		logs.Log.Warn("state folder replaced", logging.Detail(warning))
	}
	for _, w := range report.Warnings {
		logs.Log.Warn("configuration", logging.Detail(w))
	}
	a, err := agent.New(cfg, logs)
	if err == nil {
		err = a.Run(c.Context())
	}
	return errors.Join(err, logs.Close())
}

// examine is "doctor".
func examine(c *cobra.Command, e Environment) error {
	cfg, _, done, err := load(c, e)
	if err != nil || done {
		return err
	}
	unwell := false
	agent.Doctor(c.Context(), cfg, func(check agent.Check) {
		unwell = unwell || check.Status == agent.Fail
		line := fmt.Sprintf("%-4s  %s: %s", check.Status, check.Name, check.Detail)
		if check.Fix != "" {
			line += "; fix: " + check.Fix
		}
		fmt.Fprintln(e.Stdout, line) //nolint:errcheck // there is nobody left to tell
	})
	if unwell {
		return errUnwell
	}
	return nil
}

// IsTerminal tells whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
