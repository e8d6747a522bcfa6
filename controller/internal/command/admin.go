package command

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

func (p *program) adminContextCmd() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "admin-context --state-dir DIR",
		Short: "Give the first admin a new certificate and context, when the old one has expired or is lost",
		Long: `Gives the first admin a new certificate and writes admin-context.yaml anew; the
file that was there is kept as admin-context.yaml.old. Certificates that this
admin had before become void. It needs the secret that opens the repository, and
the controller must be stopped meanwhile.`,
		Args: unknown,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.load(c, &f)
			if err != nil || f.print {
				return err
			}
			if err := finished(cfg); err != nil {
				return err
			}
			made, err := controller.AdminContext(c.Context(), cfg)
			if errs.KindOf(err) == errs.Busy {
				return exit.Hint(err, "stop the controller, run this again, and start it")
			} else if err != nil {
				return err
			}
			p.say("operator   %s, certificate until %s, those before it are void", made.Operator, made.Expires.UTC().Format(time.DateOnly))
			p.say("context    %s", made.Context)
			if made.Kept != "" {
				p.say("kept       %s", made.Kept)
			}
			p.say("")
			p.say("next:")
			p.say("  tuskvault-controller run --state-dir %s", cfg.StateDir)
			p.say("  TUSKCTL_CONFIG=%s tuskctl status", made.Context)
			return nil
		},
	}
	f.register(c)
	return c
}
