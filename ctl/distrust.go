package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) repoDistrustCmd() *cobra.Command {
	var agent, since string
	var yes bool
	c := &cobra.Command{Use: "distrust --agent A --since TIME", Short: "Stop relying on what a host has uploaded",
		Long: `Stops relying on what an agent has uploaded since a time, after its host was in
somebody's hands. Snapshots that name such packs stay, and are as good as the host
was; the next backups, of every instance in the same domain, send again what
only these packs have.

Revoke the agent first (tuskctl agent revoke). TIME is a date, a time as in RFC
3339, or how long ago, for example 48h.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			at, err := parseSince(since, a.now())
			if err != nil {
				return exit.WrongUsage(err)
			}
			if err := a.confirm(yes, fmt.Sprintf("stop relying on what agent %s uploaded since %s", agent, at.Format(time.RFC3339))); err != nil {
				return err
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := tuskvaultv1.NewRepositoryServiceClient(cl.conn).DistrustAgent(ctx, &tuskvaultv1.DistrustAgentRequest{Agent: agent, SinceTime: timestamppb.New(at)})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Text: fmt.Sprintf("%d packs in %d domains are not relied on any more\n", r.GetPacks(), r.GetDomains())})
			})
		}}
	f := c.Flags()
	f.StringVar(&agent, "agent", "", "name of the agent")
	f.StringVar(&since, "since", "", "since when")
	f.BoolVar(&yes, "yes", false, "do not ask")
	for _, name := range []string{"agent", "since"} {
		_ = c.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return c
}

// parseSince reads a date, a time, or how long ago.
func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q: neither a date, nor a time as in RFC 3339, nor a duration such as 48h", text)
}
