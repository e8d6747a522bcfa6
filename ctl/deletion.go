package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) resumeDeletionCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "resume-deletion", Short: "Let retention and prune delete again, after a rebuild or a doubt about the store",
		Long: `Lets retention and prune delete again. Deletion is paused when the catalog was
made again from the store, and when an agent has seen a newer state of the store
than it has. Before you resume it, make sure that the store is the newest one
there is: what is deleted then is gone.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				api := tuskvaultv1.NewDeletionServiceClient(cl.conn)
				found, err := api.GetDeletion(ctx, &tuskvaultv1.GetDeletionRequest{})
				if err != nil {
					return err
				}
				if len(found.GetPauses()) == 0 {
					return a.printer().Print(print.View{Message: &tuskvaultv1.ResumeDeletionResponse{}, Text: "deletion is not paused\n"})
				}
				_, _ = fmt.Fprint(a.Err, pausesText("deletion is paused:", found.GetPauses())) // people's words
				if err := a.confirm(yes, "let retention and prune delete again"); err != nil {
					return err
				}
				r, err := api.ResumeDeletion(ctx, &tuskvaultv1.ResumeDeletionRequest{})
				if err != nil {
					return err
				}
				var kinds []string
				for _, p := range r.GetPauses() {
					kinds = append(kinds, p.GetKind())
				}
				return a.printer().Print(print.View{Message: r, Names: kinds, Text: "deletion goes on\n"})
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func pausesText(head string, pauses []*tuskvaultv1.DeletionPause) string {
	var b strings.Builder
	b.WriteString(head + "\n")
	for _, p := range pauses {
		fmt.Fprintf(&b, "  %s\n", p.GetReason())
	}
	return b.String()
}
