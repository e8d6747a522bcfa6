package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (a *app) instanceCmd() *cobra.Command {
	c := &cobra.Command{Use: "instance", Aliases: []string{"instances"}, Short: "PostgreSQL servers that agents look after"}
	var cluster string
	join := &cobra.Command{Use: "join INSTANCE --cluster CLUSTER", Short: "Say that an instance belongs to a cluster; members share stored chunks", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeInstances,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.JoinInstance(ctx, &tuskvaultv1.JoinInstanceRequest{Instance: args[0], Cluster: cluster})
				if err != nil {
					return hintNotFound(err, `run "tuskctl instance ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetInstance().GetName()}, Text: r.GetInstance().GetName() + " is in cluster " + r.GetInstance().GetCluster() + "\n"})
			})
		}}
	join.Flags().StringVar(&cluster, "cluster", "", "name of the cluster; made when it does not exist")
	_ = join.MarkFlagRequired("cluster")
	leave := &cobra.Command{Use: "leave INSTANCE", Short: "Take an instance out of its cluster", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeInstances,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.LeaveInstance(ctx, &tuskvaultv1.LeaveInstanceRequest{Instance: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl instance ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetInstance().GetName()}, Text: r.GetInstance().GetName() + " is in no cluster\n"})
			})
		}}
	c.AddCommand(a.instanceListCmd(), a.instanceEraseCmd(), a.instanceShowCmd(), join, leave)
	return c
}

func (a *app) listInstances(ctx context.Context, cl *client, selector string) (*tuskvaultv1.ListInstancesResponse, error) {
	return all(ctx, a, func(r *tuskvaultv1.ListInstancesResponse) int { return len(r.GetInstances()) },
		func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListInstancesResponse, error) {
			return cl.fleet.ListInstances(ctx, &tuskvaultv1.ListInstancesRequest{Page: p, Selector: selector})
		})
}

func (a *app) instanceListCmd() *cobra.Command {
	var selector string
	c := &cobra.Command{Use: "ls", Short: "List instances", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := a.listInstances(ctx, cl, selector)
			if err != nil {
				return err
			}
			t := &print.Table{Columns: []print.Column{{Head: "NAME"}, {Head: "STATE"}, {Head: "POSTGRESQL"}, {Head: "DATABASES", Right: true}, {Head: "SIZE", Right: true},
				{Head: "LAST SNAPSHOT"}, {Head: "AGE"}, {Head: "CLUSTER", Flex: true}, {Head: "ID", Wide: true}, {Head: "DOMAIN", Wide: true}, {Head: "LABELS", Wide: true}}}
			var names []string
			for _, i := range r.GetInstances() {
				t.Row(i.GetName(), instanceState(i), print.Version(i.GetInventory().GetServerVersionNum()), fmt.Sprint(len(i.GetInventory().GetDatabases())), print.Size(instanceSize(i)),
					print.Short(i.GetLastSnapshotId()), print.Ago(i.GetLastSnapshotTime(), a.now()), i.GetCluster(), print.Short(i.GetId()), print.Short(i.GetDomainId()), labels(i.GetLabels()))
				names = append(names, i.GetName())
			}
			return a.printer().Print(print.View{Message: r, Names: names, Table: t})
		})
	}}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label selector over the agents' labels")
	return c
}

func instanceState(i *tuskvaultv1.Instance) string {
	switch {
	case !i.GetAgentOnline():
		return "agent offline"
	case !i.GetInventory().GetReachable():
		return "not reachable"
	case i.GetInventory().GetInRecovery():
		return "standby"
	}
	return "online"
}

func instanceSize(i *tuskvaultv1.Instance) (n int64) {
	for _, d := range i.GetInventory().GetDatabases() {
		n += max(0, d.GetSizeBytes())
	}
	return n
}

func (a *app) instanceShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show INSTANCE", Short: "Show an instance and its databases", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeInstances,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.GetInstance(ctx, &tuskvaultv1.GetInstanceRequest{Instance: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl instance ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetInstance().GetName()}, Text: a.instanceText(r.GetInstance())})
			})
		}}
}

func (a *app) instanceText(i *tuskvaultv1.Instance) string {
	var b strings.Builder
	inv := i.GetInventory()
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("instance", "%s (%s)", i.GetName(), i.GetId())
	line("state", "%s", instanceState(i))
	if inv.GetError() != "" {
		line("error", "%s", inv.GetError())
	}
	line("server", "PostgreSQL %s, system identifier %d, timeline %d, incarnation %d", print.Version(inv.GetServerVersionNum()), inv.GetSystemIdentifier(), inv.GetTimeline(), i.GetIncarnation())
	if same := i.GetSameSystemIdentifier(); len(same) > 0 {
		line("", "the same system identifier is claimed by %s: a standby, or a clone?", strings.Join(same, ", "))
	}
	if i.GetCluster() != "" {
		line("cluster", "%s", i.GetCluster())
	}
	line("last snapshot", "%s, %s", print.Short(i.GetLastSnapshotId()), print.Ago(i.GetLastSnapshotTime(), a.now()))
	for _, d := range inv.GetDatabases() {
		var ext []string
		for _, e := range d.GetExtensions() {
			ext = append(ext, e.GetName()+" "+e.GetVersion())
		}
		line("database", "%-24s %10s  %s  %s %s  %s", d.GetName(), print.Size(d.GetSizeBytes()), d.GetEncoding(), d.GetLocaleProvider(), d.GetLocale(), strings.Join(ext, ", "))
	}
	return b.String()
}
