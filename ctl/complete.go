package ctl

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// completionTimeout bounds what a Tab key may cost.
const completionTimeout = 2 * time.Second

// complete asks the controller for words; without an answer it offers none.
func (a *app) complete(c *cobra.Command, prefix string, ask func(context.Context, *client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	cl, err := a.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.close()
	words, err := ask(ctx, cl)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeAgents(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(c, prefix, func(ctx context.Context, cl *client) ([]string, error) {
		r, err := cl.fleet.ListAgents(ctx, &tuskvaultv1.ListAgentsRequest{Page: &tuskvaultv1.PageRequest{Size: pageSize}})
		var out []string
		for _, g := range r.GetAgents() {
			out = append(out, g.GetName())
		}
		return out, err
	})
}

func (a *app) completeInstances(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, prefix, func(ctx context.Context, cl *client) ([]string, error) {
		r, err := cl.fleet.ListInstances(ctx, &tuskvaultv1.ListInstancesRequest{Page: &tuskvaultv1.PageRequest{Size: pageSize}})
		var out []string
		for _, i := range r.GetInstances() {
			out = append(out, i.GetName())
		}
		return out, err
	})
}

func (a *app) completeSnapshots(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(c, prefix, func(ctx context.Context, cl *client) ([]string, error) {
		r, err := cl.snapshot.ListSnapshots(ctx, &tuskvaultv1.ListSnapshotsRequest{Page: &tuskvaultv1.PageRequest{Size: pageSize}})
		out := []string{"latest"}
		for _, s := range r.GetSnapshots() {
			out = append(out, s.GetId())
		}
		return out, err
	})
}

func (a *app) completeJobs(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(c, prefix, func(ctx context.Context, cl *client) ([]string, error) {
		r, err := cl.job.ListJobs(ctx, &tuskvaultv1.ListJobsRequest{Page: &tuskvaultv1.PageRequest{Size: pageSize}})
		var out []string
		for _, j := range r.GetJobs() {
			out = append(out, j.GetId())
		}
		return out, err
	})
}
