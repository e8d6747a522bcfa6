package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) agentCmd() *cobra.Command {
	c := &cobra.Command{Use: "agent", Aliases: []string{"agents"}, Short: "Agents and the tokens with which they join"}
	c.AddCommand(a.agentListCmd(), a.agentShowCmd(), a.agentLabelCmd(), a.agentDrillsCmd(), a.agentRevokeCmd(), a.agentReplaceCmd(), a.tokenCmd())
	return c
}

func (a *app) agentListCmd() *cobra.Command {
	var selector string
	c := &cobra.Command{Use: "ls", Short: "List agents", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := all(ctx, a, func(r *tuskvaultv1.ListAgentsResponse) int { return len(r.GetAgents()) },
				func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListAgentsResponse, error) {
					return cl.fleet.ListAgents(ctx, &tuskvaultv1.ListAgentsRequest{Page: p, Selector: selector})
				})
			if err != nil {
				return err
			}
			t := &print.Table{Columns: []print.Column{{Head: "NAME"}, {Head: "STATE"}, {Head: "INSTANCES", Right: true}, {Head: "VERSION"},
				{Head: "LAST SEEN"}, {Head: "LABELS", Flex: true}, {Head: "ID", Wide: true}, {Head: "ADDRESS", Wide: true}, {Head: "CERTIFICATE EXPIRES", Wide: true}, {Head: "CLOCK SKEW", Wide: true}}}
			var names []string
			for _, g := range r.GetAgents() {
				t.Row(g.GetName(), agentState(g.GetState()), fmt.Sprint(g.GetInstances()), g.GetBuild().GetVersion(), print.Ago(g.GetLastSeenTime(), a.now()),
					labels(g.GetLabels()), print.Short(g.GetId()), g.GetAddress(), print.Time(g.GetCertificateExpireTime()), g.GetClockSkew().AsDuration().Round(time.Millisecond).String())
				names = append(names, g.GetName())
			}
			if len(names) == 0 && selector == "" {
				a.say("no agents yet\nhint: run \"tuskctl agent token create\" and start an agent with the token")
			}
			return a.printer().Print(print.View{Message: r, Names: names, Table: t})
		})
	}}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label selector, for example env=prod,tier!=cache")
	return c
}

func agentState(s tuskvaultv1.AgentState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "AGENT_STATE_"))
}

func labels(l *tuskvaultv1.Labels) string {
	out := make([]string, 0, len(l.GetValues()))
	for _, k := range sortedKeys(l.GetValues()) {
		out = append(out, k+"="+l.GetValues()[k])
	}
	return strings.Join(out, ",")
}

func (a *app) agentShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show AGENT", Short: "Show an agent and what it found on its host", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeAgents,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.GetAgent(ctx, &tuskvaultv1.GetAgentRequest{Agent: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetAgent().GetName()}, Text: a.agentText(r)})
			})
		}}
}

func (a *app) agentText(r *tuskvaultv1.GetAgentResponse) string {
	var b strings.Builder
	g, inv := r.GetAgent(), r.GetInventory()
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("agent", "%s (%s)", g.GetName(), g.GetId())
	line("state", "%s, last seen %s, from %s", agentState(g.GetState()), print.Ago(g.GetLastSeenTime(), a.now()), g.GetAddress())
	line("program", "%s, capability %d, %s", g.GetBuild().GetVersion(), g.GetBuild().GetCapability(), g.GetBuild().GetPlatform())
	line("certificate", "expires %s", print.Time(g.GetCertificateExpireTime()))
	line("may do", "%s", strings.Join(g.GetAllow(), ", "))
	line("labels", "%s", labels(g.GetLabels()))
	line("drills", "%s", drillRole(g))
	if inv == nil {
		return b.String()
	}
	line("host", "%s, %s, %d processors, %s of memory, %s free", inv.GetHostname(), inv.GetOperatingSystem(), inv.GetProcessors(), print.Size(inv.GetMemoryBytes()), print.Size(inv.GetFreeDiskBytes()))
	for _, t := range inv.GetTools() {
		line("tool", "%s %s at %s", t.GetName(), print.Version(t.GetVersionNum()), t.GetPath())
	}
	if d := inv.GetDrill(); d.GetRefusal() != "" {
		line("", "cannot hold any: %s", d.GetRefusal())
	} else if d != nil {
		for _, s := range d.GetServers() {
			amcheck := "pg_amcheck"
			if !s.GetAmcheck() {
				amcheck = "no pg_amcheck"
			}
			line("", "can with PostgreSQL %s in %s, %d extensions, %s; %s free", print.Version(s.GetVersionNum()), s.GetFolder(), len(s.GetExtensions()), amcheck, print.Size(d.GetFreeDiskBytes()))
		}
	}
	for _, i := range inv.GetInstances() {
		if !i.GetReachable() {
			line("instance", "%s: not reachable: %s", i.GetName(), i.GetError())
			continue
		}
		line("instance", "%s: PostgreSQL %s, %d databases", i.GetName(), print.Version(i.GetServerVersionNum()), len(i.GetDatabases()))
		for _, d := range i.GetDatabases() {
			fmt.Fprintf(&b, "%-12s   %-24s %10s  %s\n", "", d.GetName(), print.Size(d.GetSizeBytes()), d.GetEncoding())
		}
	}
	return b.String()
}

func (a *app) agentLabelCmd() *cobra.Command {
	return &cobra.Command{Use: "label AGENT KEY=VALUE… | KEY-…", Short: "Set labels, or remove them with a minus after the key", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeAgents,
		RunE: func(c *cobra.Command, args []string) error {
			req := &tuskvaultv1.SetAgentLabelsRequest{Agent: args[0], Set: &tuskvaultv1.Labels{Values: map[string]string{}}}
			for _, l := range args[1:] {
				if k, v, ok := strings.Cut(l, "="); ok {
					req.Set.Values[k] = v
				} else if k, ok := strings.CutSuffix(l, "-"); ok {
					req.Remove = append(req.Remove, k)
				} else {
					return exit.WrongUsage(fmt.Errorf("label %q: not of the form KEY=VALUE or KEY-", l))
				}
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.SetAgentLabels(ctx, req)
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetAgent().GetName()}, Text: r.GetAgent().GetName() + " " + labels(r.GetAgent().GetLabels()) + "\n"})
			})
		}}
}

func (a *app) agentRevokeCmd() *cobra.Command {
	var yes bool
	var reason string
	c := &cobra.Command{Use: "revoke AGENT", Short: "End an agent's rights for good and cut its session", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeAgents,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, "revoke agent "+args[0]); err != nil {
				return err
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.RevokeAgent(ctx, &tuskvaultv1.RevokeAgentRequest{Agent: args[0], Reason: reason})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{args[0]}, Text: "agent " + args[0] + " is revoked\n"})
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail")
	return c
}

func (a *app) agentReplaceCmd() *cobra.Command {
	var yes bool
	var ttl time.Duration
	c := &cobra.Command{Use: "replace AGENT", Short: "Let a rebuilt host return under its old name: revokes the old certificate, makes a token", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeAgents,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, "revoke the certificate of agent "+args[0]+" and make a token for the name"); err != nil {
				return err
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.ReplaceAgent(ctx, &tuskvaultv1.ReplaceAgentRequest{Agent: args[0], Ttl: durationpb.New(ttl)})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetSecret()}, Text: r.GetSecret() + "\n"})
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token works, at most 168h")
	return c
}

func (a *app) tokenCmd() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "One-time tokens with which agents join"}
	rm := &cobra.Command{Use: "rm ID", Short: "Make a token useless", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := cl.fleet.RemoveToken(ctx, &tuskvaultv1.RemoveTokenRequest{Id: args[0]})
			if err != nil {
				return hintNotFound(err, `run "tuskctl agent token ls"`)
			}
			return a.printer().Print(print.View{Message: r, Names: []string{args[0]}})
		})
	}}
	c.AddCommand(a.tokenCreateCmd(), a.tokenListCmd(), rm)
	return c
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var ttl time.Duration
	var name string
	var lab []string
	c := &cobra.Command{Use: "create", Short: "Make a one-time join token; it is shown once", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		req := &tuskvaultv1.CreateTokenRequest{RequestId: repo.NewID().String(), Ttl: durationpb.New(ttl), Name: name, Labels: &tuskvaultv1.Labels{Values: map[string]string{}}}
		for _, l := range lab {
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				return exit.WrongUsage(fmt.Errorf("label %q: not of the form KEY=VALUE", l))
			}
			req.Labels.Values[k] = v
		}
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := cl.fleet.CreateToken(ctx, req)
			if err != nil {
				return err
			}
			if print.Format(a.output) == print.FormatTable || print.Format(a.output) == print.FormatWide {
				a.say("the token works once, until %s; start the agent with:", print.Time(r.GetToken().GetExpireTime()))
				a.say("  tuskvault-agent run --state-dir DIR --controller HOST:PORT --token TOKEN")
			}
			return a.printer().Print(print.View{Message: r, Names: []string{r.GetSecret()}, Text: r.GetSecret() + "\n"})
		})
	}}
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token works, at most 168h")
	c.Flags().StringVar(&name, "name", "", "name the agent must have")
	c.Flags().StringArrayVar(&lab, "label", nil, "label the agent gets, KEY=VALUE; may be repeated")
	return c
}

func (a *app) tokenListCmd() *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List tokens, without their secrets", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := all(ctx, a, func(r *tuskvaultv1.ListTokensResponse) int { return len(r.GetTokens()) },
				func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListTokensResponse, error) {
					return cl.fleet.ListTokens(ctx, &tuskvaultv1.ListTokensRequest{Page: p})
				})
			if err != nil {
				return err
			}
			t := &print.Table{Columns: []print.Column{{Head: "ID"}, {Head: "STATE"}, {Head: "NAME"}, {Head: "EXPIRES"}, {Head: "USED BY"}, {Head: "LABELS", Flex: true}, {Head: "CREATED BY", Wide: true}}}
			var names []string
			for _, k := range r.GetTokens() {
				t.Row(k.GetId(), k.GetState(), k.GetName(), print.Time(k.GetExpireTime()), k.GetUsedBy(), labels(k.GetLabels()), k.GetCreatedBy())
				names = append(names, k.GetId())
			}
			return a.printer().Print(print.View{Message: r, Names: names, Table: t})
		})
	}}
}

// hintNotFound adds where to look when the thing named does not exist or is not unique.
func hintNotFound(err error, look ...string) error {
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Conflict:
		return exit.Hint(err, look...)
	}
	return err
}
