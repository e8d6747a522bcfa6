package command

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

// flags are those of all commands; each that is given wins over everything.
type flags struct {
	stateDir, store, unlock, name, listen, configFile, logLevel string
	print                                                       bool
}

func (f *flags) register(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.stateDir, "state-dir", "", "folder of catalog, indexes and keys (default "+controller.DefaultStateDir+")")
	s.StringVar(&f.store, "store", "", "URL of the store: file:///PATH, or s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path_style=true")
	s.StringVar(&f.unlock, "unlock", "", "what opens the repository: env:NAME or file:PATH of a key file or a passphrase")
	s.StringVar(&f.name, "name", "", "name of the controller, for people")
	s.StringVar(&f.listen, "listen", "", "address to listen on, HOST:PORT (default "+controller.DefaultListen+")")
	s.StringVar(&f.configFile, "config", "", "YAML file of configuration")
	s.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error")
	s.BoolVar(&f.print, "print-config", false, "show the configuration and where each value comes from, and stop")
}

// load reads the configuration and prepares the state folder. With print set it
// shows the configuration instead and makes nothing. It reads twice: first to
// learn which folder is the state folder, then with what init noted in it.
func (p *program) load(c *cobra.Command, f *flags) (controller.Config, error) {
	source := config.Source{File: f.configFile, Named: f.configFile != "", DotEnv: ".env", Environ: p.Environ}
	for _, g := range []config.Flag{{Key: "state_dir", Name: "--state-dir", Value: f.stateDir}, {Key: "store", Name: "--store", Value: f.store},
		{Key: "name", Name: "--name", Value: f.name}, {Key: "listen", Name: "--listen", Value: f.listen},
		{Key: "log.level", Name: "--log-level", Value: f.logLevel}, {Key: "unlock", Name: "--unlock", Value: f.unlock}} {
		if c.Flags().Changed(g.Name[2:]) {
			source.Flags = append(source.Flags, g)
		}
	}
	first := controller.DefaultConfig()
	if _, err := config.Load(&first, source); err != nil {
		return first, err
	}
	folder, err := p.stateFolder(first.StateDir, f.print)
	if err != nil {
		return first, err
	}
	source.Base = controller.DecisionsFile(folder)
	cfg := controller.DefaultConfig()
	cfg.StateDir = folder
	report, err := config.Load(&cfg, source)
	if err != nil {
		return cfg, err
	}
	cfg.StateDir = folder // absolute, whoever named it
	for _, w := range report.Warnings {
		p.say("warning: %s", w)
	}
	if f.print {
		return cfg, report.Print(p.Stdout)
	}
	return cfg, nil
}

// stateFolder gives the state folder, made and checked unless it is only to be shown.
func (p *program) stateFolder(path string, show bool) (string, error) {
	folder := config.Folder{What: "state folder", Path: path, Default: controller.DefaultStateDir, Getenv: p.getenv}
	if show {
		if existing, ok := folder.Existing(); ok {
			return existing, nil
		}
		if path == "" {
			path = controller.DefaultStateDir
		}
		return path, nil
	}
	made, warning, err := folder.Prepare()
	if warning != "" {
		p.say("warning: %s", warning)
	}
	return made, err
}

// finished refuses a state folder in which no init has run to its end.
func finished(cfg controller.Config) error {
	if _, err := os.Stat(controller.DecisionsFile(cfg.StateDir)); err == nil {
		return nil
	}
	missing := filepath.Base(controller.DecisionsFile(cfg.StateDir))
	if _, err := os.Stat(controller.RebuildingFile(cfg.StateDir)); err == nil {
		return exit.Hint(fmt.Errorf("start in %s: there is no %s, a rebuild here did not finish: %w", cfg.StateDir, missing, errs.NotFound), "run the same rebuild again")
	}
	return exit.Hint(fmt.Errorf("start in %s: there is no %s, init was not run here or did not finish: %w", cfg.StateDir, missing, errs.NotFound),
		"run: tuskvault-controller init --state-dir "+cfg.StateDir+" --store URL")
}
