package ctl

import (
	"github.com/spf13/cobra"
)

// repoCmd groups what concerns the repository as a whole: one line a command.
func (a *app) repoCmd() *cobra.Command {
	c := &cobra.Command{Use: "repo", Aliases: []string{"repository"}, Short: "The repository: what is in it, and what may be deleted from it"}
	c.AddCommand(a.resumeDeletionCmd())
	c.AddCommand(a.keyCmd())
	return c
}
